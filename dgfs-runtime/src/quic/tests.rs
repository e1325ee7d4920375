//! Promises of the transport, over loopback.

mod calls;
mod refusals;
mod support;
