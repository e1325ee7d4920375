//! Promises of the transport, over loopback.

pub(crate) mod calls;
mod joining;
mod refusals;
pub(crate) mod support;
