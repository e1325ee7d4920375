//! The index against a metadata service made of maps: everything through the change log and the service, as in a cluster.
//!
//! Never uses a network. Where chance decides, the seed is printed; `DGFS_SEED` repeats one.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

mod collisions;
mod findings;
mod kill;
mod model;
mod naive;
mod permissions;
mod questions;
mod rebuilding;
mod relations;
mod rig;
mod truth;
mod watching;
