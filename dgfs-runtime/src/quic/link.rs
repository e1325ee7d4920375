//! The caller's side of one connection: numbered calls out, answers in.
//!
//! Never connects and never decodes a message. Always: every call that was
//! begun gets a frame or the reason why the connection ended, and a connection
//! that ended is counted among the peer's no longer, whoever still holds its link.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{Connection, ConnectionError, RecvStream, SendStream, TransportErrorCode};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SetOnce, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::channel::CallError;
use crate::quic::frame::{Frame, FrameError, FrameKind};
use crate::quic::socket::UdpSocket;
use crate::quic::stream::{
    QUEUE_FRAMES_MAX, ReadFault, SharedReader, WriteFault, read_header, read_only_frame, write_only_frame, write_shared,
};
use crate::quic::tls::sentence_of;
use crate::quic::traffic::Counted;
use crate::quic::{CALLS_IN_FLIGHT_MAX, IDLE_TIMEOUT, close_code};

/// How long packets that arrived before the port was closed may take to be read.
const LAST_WORDS: Duration = Duration::from_millis(20);
/// TLS alerts appear as QUIC error codes from here on (RFC 9001, 4.8).
const CRYPTO_ERROR_FIRST: u64 = 0x100;
const CRYPTO_ERROR_LAST: u64 = 0x1ff;
/// The TLS alert `no_application_protocol`.
const NO_COMMON_PROTOCOL: u64 = CRYPTO_ERROR_FIRST + 120;

/// One live (or just ended) connection to a server.
pub(crate) struct Link {
    peer: String,
    connection: Connection,
    shared: mpsc::Sender<Frame>,
    waiting: Arc<Waiting>,
    calls: Arc<Semaphore>,
    next_number: AtomicU64,
    opened: Instant,
}

/// How a link ended.
#[derive(Clone, Debug)]
pub(crate) struct LinkEnd {
    pub(crate) error: CallError,
    pub(crate) at: Instant,
    pub(crate) lived: Duration,
}

#[derive(Default)]
struct Waiting {
    /// Calls without an answer, by number; none once the link has ended.
    calls: Mutex<Option<HashMap<u64, WaitingCall>>>,
    end: SetOnce<LinkEnd>,
}

/// Stays until the answer comes, also when nobody waits for it any more: the server still works on it,
/// so it still counts as in flight.
struct WaitingCall {
    answer: oneshot::Sender<Frame>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Link {
    /// Nobody is left who could call: its channel is gone and no call is in flight.
    fn drop(&mut self) {
        self.connection.close(close_code::DONE, b"the caller is done");
    }
}

impl Link {
    /// Starts the tasks of a fresh `connection`, whose packets go by `socket` and are counted by `counted`.
    pub(crate) async fn open(
        connection: Connection,
        socket: Arc<UdpSocket>,
        (peer, protocol): (String, &'static str),
        counted: Counted,
    ) -> Result<Arc<Self>, CallError> {
        let (send, receive) = match connection.open_bi().await {
            Ok(streams) => streams,
            Err(error) => return Err(call_error(&peer, protocol, &error)),
        };
        let (shared, queue) = mpsc::channel(QUEUE_FRAMES_MAX);
        let waiting = Arc::new(Waiting { calls: Mutex::new(Some(HashMap::new())), end: SetOnce::new() });
        let calls = Arc::new(Semaphore::new(CALLS_IN_FLIGHT_MAX));
        let link = Arc::new(Self {
            peer,
            connection: connection.clone(),
            shared,
            waiting: Arc::clone(&waiting),
            calls: Arc::clone(&calls),
            next_number: AtomicU64::new(1),
            opened: Instant::now(),
        });
        let runtime = Handle::current();
        runtime.spawn(write_requests(send, queue));
        let short_replies = runtime.spawn(read_shared_replies(connection.clone(), receive, Arc::clone(&waiting)));
        let long_replies = runtime.spawn(accept_long_replies(connection.clone(), Arc::clone(&waiting)));
        let (peer, opened) = (link.peer.clone(), link.opened);
        runtime.spawn(async move {
            let error = end_of(&connection, &socket, &peer, protocol).await;
            // Replies that arrived before the end are still read; both tasks end with the connection.
            let _ = tokio::join!(short_replies, long_replies);
            drop(counted);
            waiting.end(LinkEnd { error, at: Instant::now(), lived: opened.elapsed() });
            calls.close();
        });
        Ok(link)
    }

    /// How it ended; none while it lives.
    pub(crate) fn end(&self) -> Option<&LinkEnd> {
        self.waiting.end.get()
    }

    /// How it ended, once it has; does not hold it.
    pub(crate) fn ending(&self) -> impl Future<Output = LinkEnd> + Send + use<> {
        let waiting = Arc::clone(&self.waiting);
        async move { waiting.end.wait().await.clone() }
    }

    #[cfg(test)]
    pub(crate) fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// Sends one call and waits for the frame that answers it.
    pub(crate) async fn call(&self, head: Bytes, body: Bytes, deadline_ms: u32) -> Result<Frame, CallError> {
        let Ok(permit) = Arc::clone(&self.calls).acquire_owned().await else {
            return Err(self.ended().await);
        };
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let mut frame = Frame { kind: FrameKind::Call, deadline_ms, number, head, body };
        if frame.is_small() {
            self.call_shared(frame, permit).await
        } else {
            frame.kind = FrameKind::BulkCall;
            self.call_on_own_stream(frame, permit).await
        }
    }

    async fn call_shared(&self, frame: Frame, permit: OwnedSemaphorePermit) -> Result<Frame, CallError> {
        let (answer, answered) = oneshot::channel();
        // The place in the queue comes first: a caller that gives up while it waits for one has begun nothing.
        let Ok(place) = self.shared.reserve().await else {
            return Err(self.ended().await);
        };
        self.waiting.register(frame.number, WaitingCall { answer, _permit: permit });
        place.send(frame);
        match answered.await {
            Ok(frame) => Ok(frame),
            Err(_) => Err(self.ended().await),
        }
    }

    async fn call_on_own_stream(&self, frame: Frame, permit: OwnedSemaphorePermit) -> Result<Frame, CallError> {
        let Ok((mut send, mut receive)) = self.connection.open_bi().await else {
            return Err(self.ended().await);
        };
        let number = frame.number;
        match write_only_frame(&mut send, frame).await {
            // A server that refuses a call early stops the stream; its answer says why.
            Ok(()) | Err(WriteFault::Broken(quinn::WriteError::Stopped(_))) => {}
            Err(WriteFault::Broken(_)) => return Err(self.ended().await),
            Err(WriteFault::Malformed(error)) => {
                return Err(CallError::Rejected { peer: self.peer.clone(), reason: error.to_string() });
            }
        }
        let answer = read_reply(&mut receive).await;
        drop(permit);
        match answer {
            Ok(frame) if frame.number == number => Ok(frame),
            Ok(_) => {
                close_malformed(&self.connection, FrameError::Misplaced);
                Err(self.ended().await)
            }
            Err(ReadFault::Malformed(error)) => {
                close_malformed(&self.connection, error);
                Err(self.ended().await)
            }
            Err(ReadFault::Broken) if self.connection.close_reason().is_some() => Err(self.ended().await),
            Err(ReadFault::Broken) => {
                Err(CallError::Unreachable { peer: self.peer.clone(), reason: "it broke the call off".to_owned() })
            }
        }
    }

    /// The reason, once the connection has ended (it has, or is about to: a stream of it broke).
    async fn ended(&self) -> CallError {
        self.waiting.end.wait().await.error.clone()
    }
}

impl Waiting {
    /// After the end the call is dropped, which tells its caller.
    fn register(&self, number: u64, call: WaitingCall) {
        if let Some(calls) = self.calls.lock().as_mut() {
            calls.insert(number, call);
        }
    }

    /// Hands `frame` to whoever waits for it.
    fn answer(&self, frame: Frame) -> Result<(), FrameError> {
        if !matches!(frame.kind, FrameKind::Reply | FrameKind::Failed | FrameKind::Refused) {
            return Err(FrameError::Misplaced);
        }
        let call = self.calls.lock().as_mut().and_then(|calls| calls.remove(&frame.number));
        if let Some(call) = call {
            // The caller may have given up; the answer is then for nobody.
            let _ = call.answer.send(frame);
        }
        Ok(())
    }

    fn forget(&self, number: u64) {
        let call = self.calls.lock().as_mut().and_then(|calls| calls.remove(&number));
        drop(call);
    }

    fn end(&self, end: LinkEnd) {
        let _ = self.end.set(end);
        // Dropping the senders wakes every caller; the reason is in place before that.
        let calls = self.calls.lock().take();
        drop(calls);
    }
}

async fn write_requests(send: SendStream, queue: mpsc::Receiver<Frame>) {
    write_shared(send, queue).await;
}

async fn read_shared_replies(connection: Connection, receive: RecvStream, waiting: Arc<Waiting>) {
    let mut reader = SharedReader::new(receive, None);
    loop {
        let frame = match reader.next().await {
            Ok(Some(frame)) => frame,
            // The server finishes the stream when it stops; the end of the connection follows.
            Ok(None) | Err(ReadFault::Broken) => return,
            Err(ReadFault::Malformed(error)) => return close_malformed(&connection, error),
        };
        if let Err(error) = waiting.answer(frame) {
            return close_malformed(&connection, error);
        }
    }
}

/// As many tasks as there may be streams: [`crate::quic::BULK_STREAMS_MAX`].
async fn accept_long_replies(connection: Connection, waiting: Arc<Waiting>) {
    let mut readers = JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = connection.accept_uni() => stream,
            Some(_) = readers.join_next() => continue,
        };
        let Ok(mut receive) = stream else { break };
        let (connection, waiting) = (connection.clone(), Arc::clone(&waiting));
        readers.spawn(async move {
            let header = match read_header(&mut receive).await {
                Ok(Some(header)) => header,
                Ok(None) | Err(ReadFault::Broken) => return,
                Err(ReadFault::Malformed(error)) => return close_malformed(&connection, error),
            };
            match read_only_frame(&mut receive, &header).await {
                Ok(frame) => {
                    if let Err(error) = waiting.answer(frame) {
                        close_malformed(&connection, error);
                    }
                }
                Err(ReadFault::Broken) => waiting.forget(header.number),
                Err(ReadFault::Malformed(error)) => close_malformed(&connection, error),
            }
        });
    }
    while readers.join_next().await.is_some() {}
}

async fn read_reply(receive: &mut RecvStream) -> Result<Frame, ReadFault> {
    match read_header(receive).await? {
        Some(header) => read_only_frame(receive, &header).await,
        None => Err(ReadFault::Broken),
    }
}

fn close_malformed(connection: &Connection, error: FrameError) {
    connection.close(close_code::MALFORMED, error.to_string().as_bytes());
}

async fn end_of(connection: &Connection, socket: &UdpSocket, peer: &str, protocol: &str) -> CallError {
    let error = tokio::select! {
        error = connection.closed() => error,
        () = socket.refused() => {
            // A process that stopped in order said so before; its words may still be on their way through here.
            match tokio::time::timeout(LAST_WORDS, connection.closed()).await {
                Ok(error) => error,
                Err(_) => {
                    connection.close(close_code::GONE, b"the port is closed");
                    return not_listening(peer);
                }
            }
        }
    };
    call_error(peer, protocol, &error)
}

/// Nobody has the port.
pub(crate) fn not_listening(peer: &str) -> CallError {
    CallError::Unreachable { peer: peer.to_owned(), reason: "no process listens there".to_owned() }
}

/// What the end of a connection means for a call.
pub(crate) fn call_error(peer: &str, protocol: &str, error: &ConnectionError) -> CallError {
    let unreachable = |reason: String| CallError::Unreachable { peer: peer.to_owned(), reason };
    let rejected = |reason: String| CallError::Rejected { peer: peer.to_owned(), reason };
    match error {
        ConnectionError::ApplicationClosed(close) if close.error_code == close_code::REJECTED => {
            rejected(String::from_utf8_lossy(&close.reason).into_owned())
        }
        ConnectionError::ApplicationClosed(close) if close.error_code == close_code::MALFORMED => rejected(format!(
            "it could not read what it was sent ({}): run the same version of DGFS on both hosts",
            String::from_utf8_lossy(&close.reason)
        )),
        ConnectionError::ApplicationClosed(_) => unreachable("it is stopping".to_owned()),
        ConnectionError::ConnectionClosed(close) => {
            let reason = String::from_utf8_lossy(&close.reason);
            match handshake_refusal(close.error_code, &reason, protocol) {
                Some(reason) => rejected(reason),
                None => unreachable(format!("it ended the connection ({error})")),
            }
        }
        ConnectionError::TransportError(fault) => match handshake_refusal(fault.code, &fault.reason, protocol) {
            Some(reason) => rejected(reason),
            None => unreachable(format!("the connection broke ({fault})")),
        },
        ConnectionError::VersionMismatch => {
            rejected("it speaks another version of QUIC: run the same version of DGFS on both hosts".to_owned())
        }
        ConnectionError::TimedOut => unreachable(format!("it was silent for {} s", IDLE_TIMEOUT.as_secs())),
        ConnectionError::Reset => unreachable("it was restarted".to_owned()),
        ConnectionError::LocallyClosed => unreachable("the connection was closed here".to_owned()),
        ConnectionError::CidsExhausted => unreachable("this process has too many connections".to_owned()),
    }
}

fn handshake_refusal(code: TransportErrorCode, reason: &str, protocol: &str) -> Option<String> {
    match u64::from(code) {
        NO_COMMON_PROTOCOL => Some(format!(
            "it does not speak {protocol}: check the address, and run the same version of DGFS on both hosts"
        )),
        CRYPTO_ERROR_FIRST..=CRYPTO_ERROR_LAST => Some(sentence_of(reason).to_owned()),
        _ => None,
    }
}
