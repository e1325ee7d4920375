//! The graph in a real Neo4j: what is written, what is read, and what happens when the server is killed.
//!
//! Never needs a server that is there already: it starts its own (see `server`). Always: a test finds an empty graph.

mod checking;
mod cypher_page;
mod following;
mod oracle;
mod reading;
mod server;
mod speed;
mod writing;
