//! The server's side of one connection: reads calls, runs each as a task of
//! its own, sends the answers in the order they are ready.
//!
//! Never cancels a call that was begun. Always: calls and their bytes are
//! counted against the connection's bounds until they are answered; a peer
//! that is over them is not read.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, RecvStream, SendStream};
use rustls::pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tracing::{error, warn};

use dgfs_proto::codec::{self, CodecError};

use crate::channel::{Handler, Peer, Protocol, Role};
use crate::pki::certificate::CertificateWords;
use crate::quic::frame::{Frame, FrameError, FrameHeader, FrameKind};
use crate::quic::stream::{
    QUEUE_FRAMES_MAX, ReadFault, SharedReader, read_header, read_only_frame, write_only_frame, write_shared,
};
use crate::quic::traffic::{self, Counted};
use crate::quic::{CALL_BYTES_HELD_MAX, CALLS_IN_FLIGHT_MAX, close_code};

/// Bytes of calls are counted in steps of this, so that a semaphore's number suffices.
const BYTES_PER_PERMIT: usize = 1024;

/// An encoded reply and its body.
pub(crate) type Answer = (Result<Vec<u8>, CodecError>, Bytes);

/// A handler without its protocol's types.
pub(crate) trait Service: Send + Sync {
    /// Decodes a call; the future carries it out.
    fn begin(&self, peer: Arc<Peer>, head: &[u8], body: Bytes) -> Result<BoxFuture<'static, Answer>, CodecError>;
}

/// The handler of `P`.
pub(crate) struct Served<P: Protocol> {
    pub(crate) handler: Arc<dyn Handler<P>>,
}

impl<P: Protocol> Service for Served<P> {
    fn begin(&self, peer: Arc<Peer>, head: &[u8], body: Bytes) -> Result<BoxFuture<'static, Answer>, CodecError> {
        let call = codec::decode::<P::Call>(head)?;
        let handler = Arc::clone(&self.handler);
        Ok(Box::pin(async move {
            let (reply, body) = handler.handle(peer, call, body).await;
            (codec::encode(&reply), body)
        }))
    }
}

/// One accepted connection.
pub(crate) struct Session {
    connection: Connection,
    peer: Arc<Peer>,
    service: Arc<dyn Service>,
    calls: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
    counted: Counted,
}

/// What a call holds until it is answered.
struct Admission {
    _call: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
    _alive: mpsc::Sender<()>,
    waited: Duration,
}

enum ReplyPath {
    Shared(mpsc::Sender<Frame>),
    Own(SendStream),
}

impl Session {
    /// Looks at who connected and what for; the error is a sentence for the peer.
    pub(crate) fn open(
        connection: Connection,
        offer_of: impl FnOnce(&str) -> Option<(Arc<dyn Service>, Arc<[Role]>)>,
        stopping: watch::Receiver<bool>,
        alive: mpsc::Sender<()>,
    ) -> Result<Arc<Self>, String> {
        let protocol = protocol_of(&connection).ok_or("the connection names no protocol")?;
        let (service, roles) = offer_of(&protocol).ok_or_else(|| format!("{protocol} is not served here"))?;
        let words = certificate_of(&connection)?;
        words.check_role(&roles).map_err(|error| error.to_string())?;
        let remote = connection.remote_address();
        let counted = traffic::of_caller(&words.name, remote.ip(), words.role).count(connection.clone());
        let address = format!("{}@{remote}", words.name);
        let peer = Arc::new(Peer { role: words.role, address, local: false });
        let calls = Arc::new(Semaphore::new(CALLS_IN_FLIGHT_MAX));
        let bytes = Arc::new(Semaphore::new(CALL_BYTES_HELD_MAX / BYTES_PER_PERMIT));
        Ok(Arc::new(Self { connection, peer, service, calls, bytes, stopping, alive, counted }))
    }

    /// The peer's name and address.
    pub(crate) fn peer_address(&self) -> &str {
        &self.peer.address
    }

    /// Serves until the connection ends or the server stops.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut stopping = self.stopping.clone();
        loop {
            let streams = tokio::select! {
                streams = self.connection.accept_bi() => streams,
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            // The number of streams is bounded by the transport's settings.
            let Ok((send, receive)) = streams else { return };
            let session = Arc::clone(&self);
            tokio::spawn(async move {
                if let Err(ReadFault::Malformed(error)) = session.serve_stream(send, receive).await {
                    warn!(peer = session.peer_address(), %error, "connection closed: malformed frame");
                    session.connection.close(close_code::MALFORMED, error.to_string().as_bytes());
                }
            });
        }
    }

    async fn serve_stream(self: &Arc<Self>, send: SendStream, mut receive: RecvStream) -> Result<(), ReadFault> {
        let Some(header) = read_header(&mut receive).await? else {
            return Ok(());
        };
        match header.kind {
            FrameKind::Call => self.serve_shared(send, SharedReader::new(receive, Some(header))).await,
            FrameKind::BulkCall => self.serve_bulk(send, receive, &header).await,
            FrameKind::Reply | FrameKind::Failed | FrameKind::Refused => Err(FrameError::Misplaced.into()),
        }
    }

    async fn serve_shared(self: &Arc<Self>, send: SendStream, mut reader: SharedReader) -> Result<(), ReadFault> {
        let (replies, queue) = mpsc::channel(QUEUE_FRAMES_MAX);
        let alive = self.alive.clone();
        tokio::spawn(async move {
            write_shared(send, queue).await;
            drop(alive);
        });
        let mut stopping = self.stopping.clone();
        loop {
            let frame = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
                frame = reader.next() => frame?,
            };
            let Some(frame) = frame else { return Ok(()) };
            if frame.kind != FrameKind::Call {
                return Err(FrameError::Misplaced.into());
            }
            let Some(admission) = self.admit(frame.head.len() + frame.body.len()).await else {
                return Ok(());
            };
            self.start(frame, admission, ReplyPath::Shared(replies.clone()))?;
        }
    }

    async fn serve_bulk(
        self: &Arc<Self>,
        send: SendStream,
        mut receive: RecvStream,
        header: &FrameHeader,
    ) -> Result<(), ReadFault> {
        // Admitted by the announced length, before a byte of it is held.
        let Some(admission) = self.admit(header.payload_bytes()).await else {
            return Ok(());
        };
        let frame = read_only_frame(&mut receive, header).await?;
        self.start(frame, admission, ReplyPath::Own(send))
    }

    /// Waits for room; none when the connection's bounds are gone, which they never are before the session.
    async fn admit(&self, payload_bytes: usize) -> Option<Admission> {
        let began = Instant::now();
        let permits = u32::try_from(payload_bytes / BYTES_PER_PERMIT + 1).ok()?;
        let call = Arc::clone(&self.calls).acquire_owned().await.ok()?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(permits).await.ok()?;
        Some(Admission { _call: call, _bytes: bytes, _alive: self.alive.clone(), waited: began.elapsed() })
    }

    fn start(self: &Arc<Self>, frame: Frame, admission: Admission, path: ReplyPath) -> Result<(), ReadFault> {
        self.counted.peer().request();
        let number = frame.number;
        let call = self.service.begin(Arc::clone(&self.peer), &frame.head, frame.body).map_err(|_| FrameError::Head)?;
        let late = frame.deadline_ms != 0 && admission.waited.as_millis() > u128::from(frame.deadline_ms);
        let session = Arc::clone(self);
        tokio::spawn(async move {
            let answer = if late {
                // Its caller has given up before it was begun: not beginning it is the cheapest honest answer.
                Frame::without_reply(
                    FrameKind::Failed,
                    number,
                    "it is too busy: the call waited longer than its deadline",
                )
            } else {
                run(call, number).await
            };
            session.send(answer, path).await;
            drop(admission);
        });
        Ok(())
    }

    /// A reply that cannot be sent is for a peer that is gone: nobody is left to be told.
    async fn send(&self, answer: Frame, path: ReplyPath) {
        match path {
            ReplyPath::Shared(replies) if answer.is_small() => {
                let _ = replies.send(answer).await;
            }
            ReplyPath::Shared(_) => {
                if let Ok(send) = self.connection.open_uni().await {
                    send_long(send, answer).await;
                }
            }
            ReplyPath::Own(send) => send_long(send, answer).await,
        }
    }
}

/// Sends the only frame of a stream and waits until the peer has it, so that its bytes count until then.
async fn send_long(mut send: SendStream, answer: Frame) {
    if write_only_frame(&mut send, answer).await.is_ok() {
        let _ = send.stopped().await;
    }
}

async fn run(call: BoxFuture<'static, Answer>, number: u64) -> Frame {
    let (head, body) = match AssertUnwindSafe(call).catch_unwind().await {
        Ok(answer) => answer,
        Err(_) => {
            error!(number, "a call's handler panicked");
            return Frame::without_reply(
                FrameKind::Failed,
                number,
                "it failed while it carried out the call (see its log)",
            );
        }
    };
    let frame = match head {
        Ok(head) => Frame { kind: FrameKind::Reply, deadline_ms: 0, number, head: head.into(), body },
        Err(error) => return refuse_answer(number, &error.to_string()),
    };
    match frame.header() {
        Ok(_) => frame,
        Err(error) => refuse_answer(number, &error.to_string()),
    }
}

fn refuse_answer(number: u64, error: &str) -> Frame {
    error!(number, error, "an answer cannot be sent");
    Frame::without_reply(FrameKind::Refused, number, &format!("its answer cannot be sent: {error}"))
}

fn protocol_of(connection: &Connection) -> Option<String> {
    let data = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    String::from_utf8(data.protocol?).ok()
}

fn certificate_of(connection: &Connection) -> Result<CertificateWords, String> {
    let identity =
        connection.peer_identity().and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    let certificate = identity.as_ref().and_then(|certificates| certificates.first());
    let certificate = certificate.ok_or("the connection shows no certificate")?;
    CertificateWords::read(certificate).map_err(|error| error.to_string())
}
