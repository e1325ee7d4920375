//! The wire format: golden bytes of every message, hostile bytes, hostile queries.
//!
//! Never talks to a peer. What is checked here is what two builds of different age tell each other.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

mod fuzz;
mod golden;
mod graph;
mod operators;
mod queries;
mod values;
mod watch;
