//! What can be derived from the change log. For now a follower that counts.
//!
//! Never needed for plain file work, never writes the truth. A page of events
//! enters at [`follower`], [`counts`] keeps what it adds up to.

pub mod counts;
pub mod daemon;
pub mod follower;
pub mod neo4j;
