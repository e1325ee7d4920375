//! Promises of the transport, over loopback.

mod calls;
mod joining;
mod refusals;
pub(crate) mod support;
