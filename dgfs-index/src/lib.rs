//! What can be derived from the change log: the graph that tags and relations make of a volume, and its answers.
//!
//! Never needed for plain file work, never writes the truth. A page of events enters at [`follower`] (or a whole volume at
//! [`rebuild`]), becomes steps ([`step`]) that [`store`] carries out and [`graph`] repeats in memory, both owned by
//! [`index`]. A question enters at [`service`], waits for the changes that came before it, and is answered by [`query`].

pub mod daemon;
pub mod follower;
pub mod graph;
pub mod index;
pub mod likeness;
pub mod meta_link;
pub mod metrics;
pub mod neo4j;
pub mod pointer;
mod query;
mod rebuild;
mod recent;
pub mod service;
pub mod step;
pub mod store;
pub mod tagging;
pub mod when;
