//! Calls between processes: QUIC with mutual TLS.
//!
//! Never retries a call and never reads a message beyond its frame. Always:
//! every queue, frame and number of calls is bounded on both sides, and what a
//! peer sends cannot make this process panic.
//!
//! Reading order: [`channel::QuicChannel`] (the caller) → `link` (one connection of it) →
//! [`server::QuicServer`] → `session` (one connection of it) → `stream`, `frame` (bytes) → `tls`, `socket` (settings);
//! `traffic` counts what goes by all of them.
//!
//! A call with a small body is a frame on the connection's one shared stream, replies come in any order. A call with
//! a larger body has a stream of its own. A reply that is too long for the shared stream comes on a stream of its own.
//!
//! [`join`] stands apart: the one exchange of a machine that has no certificate yet.

pub mod channel;
mod frame;
pub mod join;
mod link;
pub mod server;
mod session;
mod socket;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod tls;
pub(crate) mod traffic;

use std::time::Duration;

/// Calls in flight on one connection; the next one waits (caller) or is not read (server). It leaves room for a
/// session's mutations, its lock waits and as many reads.
pub const CALLS_IN_FLIGHT_MAX: usize = 4096;
/// Bytes of calls that a server holds for one connection, running or being received; more are not read.
pub const CALL_BYTES_HELD_MAX: usize = 128 << 20;
/// Bulk calls, or bulk replies to small calls, in flight on one connection.
pub const BULK_STREAMS_MAX: u32 = 256;
/// Connections of one server; more are refused.
pub const CONNECTIONS_MAX: usize = 8192;
/// How long a connection may take to come up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection on which nothing came for so long is given up.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a quiet connection shows that it lives: several may be lost before the idle time-out.
pub const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Largest UDP payload tried: what a jumbo frame of 9000 bytes carries, and loopback.
const MTU_BYTES_MAX: u16 = 8952;

/// Codes that a connection is closed with.
mod close_code {
    use quinn::VarInt;

    /// The side that closes is done, or is stopping.
    pub(crate) const DONE: VarInt = VarInt::from_u32(0);
    /// The certificate's role is not allowed here; the reason is a sentence.
    pub(crate) const REJECTED: VarInt = VarInt::from_u32(1);
    /// The peer broke the protocol; the reason says how.
    pub(crate) const MALFORMED: VarInt = VarInt::from_u32(2);
    /// The peer's host says that the port is closed.
    pub(crate) const GONE: VarInt = VarInt::from_u32(3);
}

const _: () = assert!(CALL_BYTES_HELD_MAX >= 4 * dgfs_proto::limits::FRAME_BODY_BYTES_MAX as usize);
const _: () =
    assert!(CALLS_IN_FLIGHT_MAX >= dgfs_proto::limits::OPS_IN_FLIGHT_MAX + dgfs_proto::limits::LOCK_WAITS_MAX);
