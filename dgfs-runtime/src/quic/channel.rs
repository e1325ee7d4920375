//! A [`Channel`] to one address: connects when it is first used and again
//! after the connection broke.
//!
//! Never repeats a call. Always: at most one attempt to connect runs at a
//! time, and after one that failed calls fail at once until the pause is over; a
//! connection that ended is let go at once, not when the next call finds it so.

use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, Shared};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use quinn::{ClientConfig, Endpoint, EndpointConfig, TokioRuntime};
use tokio::runtime::Handle;

use dgfs_proto::codec;

use crate::channel::{CallError, Channel, Protocol, Role};
use crate::pki::{Identity, SERVER_NAME};
use crate::quic::CONNECT_TIMEOUT;
use crate::quic::frame::{Frame, FrameKind};
use crate::quic::link::{Link, LinkEnd, call_error, not_listening};
use crate::quic::server::QuicError;
use crate::quic::socket::UdpSocket;
use crate::quic::tls::{client_config, endpoint_config};
use crate::quic::traffic::{self, PeerTraffic};

/// Addresses of one host name that are tried, all at once.
const ADDRESSES_MAX: usize = 4;
/// Pause after the first failure; each further one doubles it.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause: how late a peer that came back may be noticed.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A connection that ended sooner counts as a failure.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// Reaches the handler of protocol `P` at one address. When it and the calls it began are gone, the connection is closed.
pub struct QuicChannel<P: Protocol> {
    line: Arc<Line>,
    protocol: PhantomData<fn() -> P>,
}

/// The address and the state of the connection to it.
struct Line {
    address: String,
    protocol: &'static str,
    runtime: Handle,
    client: ClientConfig,
    endpoint: EndpointConfig,
    traffic: Arc<PeerTraffic>,
    state: Mutex<LineState>,
}

struct LineState {
    phase: Phase,
    failures: u32,
}

type Attempt = Shared<BoxFuture<'static, Result<Arc<Link>, CallError>>>;

enum Phase {
    Idle,
    Connecting(Attempt),
    Connected(Arc<Link>),
    Pausing { until: Instant, error: CallError },
}

impl<P: Protocol> QuicChannel<P> {
    /// A channel to `address` (`host:port`), where a process with role `server_role` is expected. Nothing is sent
    /// before the first call. Its tasks run on the current tokio runtime.
    ///
    /// # Errors
    /// `Identity` when the identity's files do not fit together.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(address: String, identity: &Identity, server_role: Role) -> Result<Self, QuicError> {
        let line = Line {
            traffic: traffic::of_called(&address, server_role),
            address,
            protocol: P::NAME,
            runtime: Handle::current(),
            client: client_config(identity, P::NAME, server_role)?,
            endpoint: endpoint_config(identity)?,
            state: Mutex::new(LineState { phase: Phase::Idle, failures: 0 }),
        };
        Ok(Self { line: Arc::new(line), protocol: PhantomData })
    }
}

#[cfg(test)]
impl<P: Protocol> QuicChannel<P> {
    /// Has it a connection, also one that ended?
    pub(crate) fn holds_a_connection(&self) -> bool {
        matches!(self.line.state.lock().phase, Phase::Connected(_))
    }

    /// Numbers of the path that its connection sends on.
    pub(crate) fn path_stats(&self) -> quinn::PathStats {
        self.connection().stats().path
    }

    /// Its connection.
    pub(crate) fn connection(&self) -> quinn::Connection {
        match &self.line.state.lock().phase {
            Phase::Connected(link) => link.connection(),
            Phase::Idle | Phase::Connecting(_) | Phase::Pausing { .. } => panic!("no connection"),
        }
    }
}

impl<P: Protocol> Channel<P> for QuicChannel<P> {
    fn call(
        &self,
        call: P::Call,
        body: Bytes,
        deadline: Option<Duration>,
    ) -> BoxFuture<'static, Result<(P::Reply, Bytes), CallError>> {
        let line = Arc::clone(&self.line);
        let head = match codec::encode(&call) {
            Ok(head) => Bytes::from(head),
            Err(error) => {
                return Box::pin(async move { Err(line.rejected(format!("the call cannot be sent: {error}"))) });
            }
        };
        // The timer belongs to this channel's runtime, whatever thread polls the call.
        let timer = deadline.map(|deadline| {
            let _inside = line.runtime.enter();
            (deadline, Box::pin(tokio::time::sleep(deadline)))
        });
        Box::pin(async move {
            let deadline_ms = deadline.map_or(0, whole_ms);
            let exchange = line.exchange(head, body, deadline_ms);
            line.traffic.request();
            let frame = match timer {
                None => exchange.await,
                Some((after, timer)) => tokio::select! {
                    biased;
                    answer = exchange => answer,
                    () = timer => Err(CallError::TimedOut { peer: line.address.clone(), after }),
                },
            };
            line.traffic.ended(&frame);
            line.read_answer::<P>(frame?)
        })
    }

    fn peer(&self) -> &str {
        &self.line.address
    }
}

/// 0 means none in a frame, so a deadline has at least 1 ms.
fn whole_ms(deadline: Duration) -> u32 {
    u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX).max(1)
}

impl Line {
    async fn exchange(self: &Arc<Self>, head: Bytes, body: Bytes, deadline_ms: u32) -> Result<Frame, CallError> {
        let link = match self.current() {
            Phase::Connected(link) => link,
            Phase::Connecting(attempt) => attempt.await?,
            Phase::Pausing { error, .. } => return Err(error),
            Phase::Idle => return Err(self.unreachable("no connection")),
        };
        link.call(head, body, deadline_ms).await
    }

    fn read_answer<P: Protocol>(&self, frame: Frame) -> Result<(P::Reply, Bytes), CallError> {
        match frame.kind {
            FrameKind::Reply => match codec::decode(&frame.head) {
                Ok(reply) => Ok((reply, frame.body)),
                Err(_) => Err(self.rejected(format!(
                    "its answer is no message of {}: run the same version of DGFS on both hosts",
                    self.protocol
                ))),
            },
            FrameKind::Failed => Err(self.unreachable(&String::from_utf8_lossy(&frame.head))),
            FrameKind::Refused | FrameKind::Call | FrameKind::BulkCall => {
                Err(self.rejected(String::from_utf8_lossy(&frame.head).into_owned()))
            }
        }
    }

    /// What a call of this moment can do: use the link, wait for the attempt, or fail. Starts an attempt when one is due.
    fn current(self: &Arc<Self>) -> Phase {
        let mut state = self.state.lock();
        state.let_go();
        match &state.phase {
            Phase::Connected(link) => return Phase::Connected(Arc::clone(link)),
            Phase::Connecting(attempt) => return Phase::Connecting(attempt.clone()),
            Phase::Pausing { until, error } if Instant::now() < *until => {
                return Phase::Pausing { until: *until, error: error.clone() };
            }
            Phase::Pausing { .. } | Phase::Idle => {}
        }
        let attempt = self.start_attempt();
        state.phase = Phase::Connecting(attempt.clone());
        Phase::Connecting(attempt)
    }

    /// An attempt runs as a task of its own: a caller that gives up does not end it for the others.
    fn start_attempt(self: &Arc<Self>) -> Attempt {
        let line = Arc::clone(self);
        let task = self.runtime.spawn(async move {
            let connected = match tokio::time::timeout(CONNECT_TIMEOUT, line.connect()).await {
                Ok(connected) => connected,
                Err(_) => Err(line.unreachable("it does not answer")),
            };
            line.traffic.connected(&connected);
            let mut state = line.state.lock();
            state.phase = match &connected {
                Ok(link) => {
                    line.runtime.spawn(let_go_when_ended(Arc::downgrade(&line), link.ending()));
                    Phase::Connected(Arc::clone(link))
                }
                Err(error) => Phase::Pausing { until: state.pause_from(Instant::now()), error: error.clone() },
            };
            connected
        });
        let stopped = self.unreachable("this process is stopping");
        async move { task.await.unwrap_or(Err(stopped)) }.boxed().shared()
    }

    async fn connect(&self) -> Result<Arc<Link>, CallError> {
        let resolved = match tokio::net::lookup_host(&self.address).await {
            Ok(resolved) => resolved,
            Err(error) => {
                return Err(self.unreachable(&format!("its name cannot be resolved ({error})")));
            }
        };
        let mut attempts: FuturesUnordered<_> =
            resolved.take(ADDRESSES_MAX).map(|address| self.connect_to(address)).collect();
        let mut worst = self.unreachable("its name has no address");
        while let Some(attempt) = attempts.next().await {
            match attempt {
                Ok(link) => return Ok(link),
                Err(error @ CallError::Rejected { .. }) => worst = error,
                Err(error) if !matches!(worst, CallError::Rejected { .. }) => worst = error,
                Err(_) => {}
            }
        }
        Err(worst)
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<Arc<Link>, CallError> {
        let local: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(local, Some(address))
            .map(Arc::new)
            .map_err(|error| self.unreachable(&format!("no socket to {address} ({error})")))?;
        // A socket for each connection: the kernel then tells it, and only it, when the peer's port is closed.
        let endpoint =
            Endpoint::new_with_abstract_socket(self.endpoint.clone(), None, socket.clone(), Arc::new(TokioRuntime))
                .map_err(|error| self.unreachable(&format!("no endpoint ({error})")))?;
        let connecting = endpoint
            .connect_with(self.client.clone(), address, SERVER_NAME)
            .map_err(|error| self.unreachable(&format!("{address} cannot be connected to ({error})")))?;
        let connection = tokio::select! {
            connection = connecting => connection.map_err(|error| call_error(&self.address, self.protocol, &error))?,
            () = socket.refused() => return Err(not_listening(&self.address)),
        };
        let counted = self.traffic.count(connection.clone());
        Link::open(connection, socket, (self.address.clone(), self.protocol), counted).await
    }

    fn unreachable(&self, reason: &str) -> CallError {
        CallError::Unreachable { peer: self.address.clone(), reason: reason.to_owned() }
    }

    fn rejected(&self, reason: String) -> CallError {
        CallError::Rejected { peer: self.address.clone(), reason }
    }
}

/// Does not hold the line: without a channel its link ends.
async fn let_go_when_ended(line: Weak<Line>, ending: impl Future<Output = LinkEnd> + Send) {
    let _ = ending.await;
    if let Some(line) = line.upgrade() {
        line.state.lock().let_go();
    }
}

impl LineState {
    /// Keeps no link that ended: what follows is another attempt, at once or after a pause.
    fn let_go(&mut self) {
        let Phase::Connected(link) = &self.phase else { return };
        let Some(LinkEnd { error, at, lived }) = link.end().cloned() else { return };
        self.phase = if lived >= SHORT_LIFE && !matches!(error, CallError::Rejected { .. }) {
            self.failures = 0;
            Phase::Idle
        } else {
            Phase::Pausing { until: self.pause_from(at), error }
        };
    }

    /// Counts a failure at `at`; the next attempt may begin at the answer.
    fn pause_from(&mut self, at: Instant) -> Instant {
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        at + pause
    }
}
