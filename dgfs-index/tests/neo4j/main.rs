//! The graph in a real Neo4j: what is written, what is read, and what happens when the server is killed.
//!
//! Never needs a server that is there already: it starts its own (see `server`). Always: a test finds an empty graph.

mod both;
mod checking;
mod cypher_page;
mod following;
mod oracle;
#[path = "../../../tests/src/neo4j.rs"]
#[expect(clippy::expect_used, reason = "a test that panics has failed")]
#[expect(unreachable_pub, reason = "the tests of the whole use it, too")]
mod process;
mod reading;
#[path = "../all/rig.rs"]
#[expect(dead_code, reason = "other tests of the index use the rest")]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod rig;
mod server;
mod speed;
#[path = "../all/truth.rs"]
#[expect(dead_code, reason = "other tests of the index use the rest")]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod truth;
mod tying;
mod writing;
