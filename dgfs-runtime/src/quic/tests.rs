//! Promises of the transport, over loopback.

mod calls;
mod refusals;
pub(crate) mod support;
