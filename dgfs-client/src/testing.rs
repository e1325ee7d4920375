//! Stand-ins for the metadata service and a storage server that follow the messages' documents.

pub(crate) mod rng;
