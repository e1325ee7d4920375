//! Stand-ins for the metadata service and a storage server that follow the messages' documents.

pub(crate) mod fake_meta;
pub(crate) mod fake_store;
mod fault;
mod model;
mod mounts;
mod promises;
pub(crate) mod rng;
pub(crate) mod tagged;
