//! Neo4j as a second home of the graph, for Cypher and for the tools of its users.
//!
//! Never in the way of a file operation and never the truth: it is a copy of what the embedded index knows, fed in
//! batches, behind it by the lag that it shows, and it can be rebuilt. Always: what it holds is the change log applied
//! up to the seq in its node `Applied`, and one writer writes it. A [`model::Batch`] enters at [`follow`], passes the
//! fence in [`write`] and leaves over [`link`]; [`query`] and [`raw`] read.

pub mod check;
pub mod follow;
pub mod link;
pub mod model;
pub mod query;

pub mod raw;
mod rows;
pub mod schema;
pub mod sweep;
pub mod write;
