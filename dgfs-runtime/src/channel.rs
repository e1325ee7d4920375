//! One part calls another: the same trait in one process and over QUIC.
//!
//! A [`Handler`] answers calls of one [`Protocol`]; a [`Channel`] reaches a
//! handler. Never retries: whoever calls decides what may be repeated.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use dgfs_proto::chunk::{ChunkCall, ChunkReply};
use dgfs_proto::graph::{GraphCall, GraphReply};
use dgfs_proto::meta::{MetaCall, MetaReply};
use dgfs_proto::watch::{WatchCall, WatchReply};

/// A pair of message types.
pub trait Protocol: Send + Sync + 'static {
    /// What is asked.
    type Call: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What is answered.
    type Reply: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// Name and version, negotiated in the TLS handshake (ALPN).
    const NAME: &'static str;
}

/// Client or daemon ↔ metadata service.
pub struct MetaProtocol;

impl Protocol for MetaProtocol {
    type Call = MetaCall;
    type Reply = MetaReply;
    const NAME: &'static str = "dgfs-meta/7";
}

/// Client ↔ storage daemon.
pub struct ChunkProtocol;

impl Protocol for ChunkProtocol {
    type Call = ChunkCall;
    type Reply = ChunkReply;
    const NAME: &'static str = "dgfs-chunk/7";
}

/// Client ↔ index.
pub struct GraphProtocol;

impl Protocol for GraphProtocol {
    type Call = GraphCall;
    type Reply = GraphReply;
    const NAME: &'static str = "dgfs-graph/1";
}

/// Operator ↔ any daemon.
pub struct WatchProtocol;

impl Protocol for WatchProtocol {
    type Call = WatchCall;
    type Reply = WatchReply;
    const NAME: &'static str = "dgfs-watch/1";
}

/// What a certificate allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A metadata service.
    Meta,
    /// A storage daemon.
    Stored,
    /// An index service.
    Index,
    /// A mount or a tool.
    Client,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Meta, Self::Stored, Self::Index, Self::Client];

    /// The word for it in certificates, configuration and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Stored => "stored",
            Self::Index => "index",
            Self::Client => "client",
        }
    }

    /// The role with that word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Who called.
#[derive(Clone, Debug)]
pub struct Peer {
    /// By certificate; in process by construction.
    pub role: Role,
    /// Address for the log; `local` in process.
    pub address: String,
    /// The call came by the in-process channel: no reply can be lost.
    pub local: bool,
}

/// Answers calls. The future runs to its end even when the caller went away.
pub trait Handler<P: Protocol>: Send + Sync + 'static {
    /// Answers one call; `body` is bulk data (chunk bytes), often empty.
    fn handle(self: Arc<Self>, peer: Arc<Peer>, call: P::Call, body: Bytes) -> BoxFuture<'static, (P::Reply, Bytes)>;
}

/// Why a call has no answer. The call may or may not have been carried out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// No connection, or it broke.
    #[error("{peer} is not reachable: {reason}")]
    Unreachable {
        /// Whom.
        peer: String,
        /// Why, in words.
        reason: String,
    },
    /// No answer in time.
    #[error("{peer} did not answer in {}", after_ms(.after))]
    TimedOut {
        /// Whom.
        peer: String,
        /// The deadline that passed.
        after: Duration,
    },
    /// The peer speaks another protocol, is of another cluster, or its certificate is not valid: trying again does not help.
    #[error("{peer} refused the connection: {reason}")]
    Rejected {
        /// Whom.
        peer: String,
        /// A sentence for a person.
        reason: String,
    },
}

fn after_ms(after: &Duration) -> String {
    format!("{} ms", after.as_millis())
}

/// Reaches one handler.
pub trait Channel<P: Protocol>: Send + Sync + 'static {
    /// Sends one call and waits for its answer, at most `deadline` (none: as long as the connection lives).
    fn call(
        &self,
        call: P::Call,
        body: Bytes,
        deadline: Option<Duration>,
    ) -> BoxFuture<'static, Result<(P::Reply, Bytes), CallError>>;

    /// Whom it reaches, for people.
    fn peer(&self) -> &str;
}

/// The in-process channel: the call is the handler's own future, polled by the caller, so an answer
/// that needs no waiting costs no hop.
pub struct LocalChannel<P: Protocol> {
    handler: Arc<dyn Handler<P>>,
    peer: Arc<Peer>,
}

impl<P: Protocol> LocalChannel<P> {
    /// A channel to `handler`, whose caller has `role`.
    #[must_use]
    pub fn new(handler: Arc<dyn Handler<P>>, role: Role) -> Self {
        Self { handler, peer: Arc::new(Peer { role, address: "local".to_owned(), local: true }) }
    }
}

impl<P: Protocol> Channel<P> for LocalChannel<P> {
    fn call(
        &self,
        call: P::Call,
        body: Bytes,
        _deadline: Option<Duration>,
    ) -> BoxFuture<'static, Result<(P::Reply, Bytes), CallError>> {
        let answer = Arc::clone(&self.handler).handle(Arc::clone(&self.peer), call, body);
        Box::pin(async move { Ok(answer.await) })
    }

    fn peer(&self) -> &str {
        "local"
    }
}
