//! Neo4j as a second home of the graph, for Cypher and for the tools of its users.
//!
//! Never in the way of a file operation and never the truth: it is a copy of what the embedded index knows, fed in
//! batches, behind it by the lag that it shows, and it can be rebuilt. Always: what it holds is the index up to the stamp in
//! its node `Applied`, and one writer writes it. What changed is read by [`source`], becomes a [`model::Batch`] that enters at
//! [`follow`], passes the fence in [`write`] and leaves over [`link`]; [`liken`] ties like
//! contents behind it by the rule of [`alike`]; [`query`] and [`raw`] read; [`service`] is all of it beside an index.

pub mod alike;
mod catalogue;
pub mod check;
mod convert;
pub mod follow;
pub mod liken;
pub mod link;
pub mod model;
pub mod query;
pub mod raw;
mod rows;
pub mod schema;
pub mod service;
pub mod settings;
pub mod source;
pub mod sweep;
pub mod write;
