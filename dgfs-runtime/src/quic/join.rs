//! Joining: a machine without a certificate shows a token and gets one.
//!
//! Never reads a file and never decides who may join; [`Registrar`] does. Always:
//! one request for each connection, 16 KiB at most, within 10 s, at most 16 at
//! once; whoever is refused gets a sentence.
//!
//! The endpoint is its own, with its own protocol (`dgfs-join/1`): where certificates are asked for, none goes without.
//! Reading order: [`ask::join`] (the joiner) → [`JoinServer`] → `limit` (who failed too often).

pub mod ask;
pub(crate) mod limit;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, TokioRuntime};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use tracing::{error, info};

use dgfs_proto::codec;

use crate::clock::Clock;
use crate::pki::Identity;
use crate::pki::registrar::{Admitted, JoinGrant, JoinRefusal, JoinRequest, Registrar};
use crate::quic::close_code;
use crate::quic::join::limit::FailureLimit;
use crate::quic::server::QuicError;
use crate::quic::socket::UdpSocket;
use crate::quic::tls::endpoint_config;
use crate::quic::tls::joining::join_server_config;

/// The protocol's name, negotiated in the TLS handshake.
pub const JOIN_PROTOCOL: &str = "dgfs-join/1";
/// Bytes of a request, and of an answer.
pub const MESSAGE_BYTES_MAX: usize = 16 << 10;
/// How long a joiner may take to ask, and to take its answer.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Joins at once; the next one is refused.
pub const JOINS_MAX: usize = 16;

/// How long a stopping endpoint waits until its last packets are out.
const FAREWELL: Duration = Duration::from_secs(1);
/// Letters of a refusal that are sent: longer ones quote something.
const SENTENCE_LETTERS_MAX: usize = 1024;

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JoinAnswer {
    /// Let in.
    Granted(JoinGrant),
    /// Not let in; a sentence for a person.
    Refused(String),
}

/// An endpoint where machines join. Dropping it ends the joins that run; [`Self::close`] lets them end first.
pub struct JoinServer {
    endpoint: Endpoint,
    slots: Arc<Semaphore>,
    /// Ends when the port is free again.
    open: watch::Receiver<()>,
}

/// What every join needs.
struct Desk {
    registrar: Arc<Registrar>,
    failures: Mutex<FailureLimit>,
    clock: Clock,
    deadline: Duration,
}

impl JoinServer {
    /// Listens at `address` (port 0: any free one), shows `identity`, and lets `registrar` decide.
    ///
    /// # Errors
    /// `Bind` when the address is taken or not of this host; `Identity` when it is not of the registrar's authority,
    /// or its files do not fit together.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(address: SocketAddr, identity: &Identity, registrar: Arc<Registrar>) -> Result<Self, QuicError> {
        Self::bind_with_deadline(address, identity, registrar, DEADLINE)
    }

    pub(crate) fn bind_with_deadline(
        address: SocketAddr,
        identity: &Identity,
        registrar: Arc<Registrar>,
        deadline: Duration,
    ) -> Result<Self, QuicError> {
        registrar.check_identity(identity).map_err(|error| QuicError::Identity(error.to_string()))?;
        let bind = |source| QuicError::Bind { address, source };
        let config = join_server_config(identity)?;
        let socket = UdpSocket::bind(address, None).map(Arc::new).map_err(bind)?;
        let open = socket.open();
        let settings = endpoint_config(identity)?;
        let endpoint =
            Endpoint::new_with_abstract_socket(settings, Some(config), socket, Arc::new(TokioRuntime)).map_err(bind)?;
        let slots = Arc::new(Semaphore::new(JOINS_MAX));
        let failures = Mutex::new(FailureLimit::default());
        let desk = Desk { registrar, failures, clock: Clock::real(), deadline };
        tokio::spawn(accept(endpoint.clone(), Arc::clone(&slots), Arc::new(desk)));
        Ok(Self { endpoint, slots, open })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Stops: takes no more joins, gives those that run `grace` to end, and frees the port.
    pub async fn close(self, grace: Duration) {
        self.endpoint.set_server_config(None);
        let all = u32::try_from(JOINS_MAX).unwrap_or(u32::MAX);
        // A join that is cut off here has no answer; its token may be used up, and the joiner is told so.
        let _ = tokio::time::timeout(grace, self.slots.acquire_many(all)).await;
        self.endpoint.close(close_code::DONE, b"the server is stopping");
        let _ = tokio::time::timeout(FAREWELL, self.endpoint.wait_idle()).await;
        let mut open = self.open.clone();
        drop(self);
        let _ = tokio::time::timeout(FAREWELL, open.changed()).await;
    }
}

impl Drop for JoinServer {
    fn drop(&mut self) {
        self.endpoint.close(close_code::DONE, b"the server is stopping");
    }
}

async fn accept(endpoint: Endpoint, slots: Arc<Semaphore>, desk: Arc<Desk>) {
    while let Some(incoming) = endpoint.accept().await {
        // Nobody takes a slot, or is counted, under an address that is not his.
        if !incoming.remote_address_validated() {
            let _ = incoming.retry();
            continue;
        }
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            info!(peer = %incoming.remote_address(), "join refused: {JOINS_MAX} others join at this moment");
            incoming.refuse();
            continue;
        };
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            desk.serve(incoming).await;
            drop(slot);
        });
    }
}

impl Desk {
    /// One join. Its end is bounded: the peer's part by two deadlines, ours by the disk.
    async fn serve(self: Arc<Self>, incoming: Incoming) {
        let peer = incoming.remote_address();
        let asked = tokio::time::timeout(self.deadline, receive(incoming)).await;
        let (connection, send, request) = match asked {
            Ok(Ok(asked)) => asked,
            Ok(Err(reason)) => {
                info!(%peer, reason, "join refused");
                return;
            }
            Err(_) => {
                info!(%peer, reason = "no request came in time", "join refused");
                return;
            }
        };
        let answer = match self.decide(peer, request).await {
            Ok(admitted) => {
                info!(role = admitted.role.name(), name = admitted.name, %peer, "joined");
                JoinAnswer::Granted(admitted.grant)
            }
            Err(sentence) => {
                info!(%peer, reason = sentence, "join refused");
                JoinAnswer::Refused(sentence)
            }
        };
        // A joiner that is gone is told nothing; it knows that its token may be used up.
        let _ = tokio::time::timeout(self.deadline, reply(&connection, send, &answer)).await;
    }

    async fn decide(
        self: &Arc<Self>,
        peer: SocketAddr,
        request: Result<JoinRequest, String>,
    ) -> Result<Admitted, String> {
        let now = self.clock.monotonic();
        if let Some(wait) = self.failures.lock().wait(peer.ip(), now) {
            return Err(format!(
                "too many joins from {} failed: wait {} s and try again",
                peer.ip(),
                wait.as_secs().saturating_add(1)
            ));
        }
        let outcome = match request {
            Ok(request) => self.admit(request).await,
            Err(sentence) => Err(sentence),
        };
        if outcome.is_err() {
            self.failures.lock().count(peer.ip(), now);
        }
        outcome
    }

    /// On a thread that may wait for the disk; a slot is held until then, so there are few.
    async fn admit(self: &Arc<Self>, request: JoinRequest) -> Result<Admitted, String> {
        let desk = Arc::clone(self);
        let admitted = tokio::task::spawn_blocking(move || desk.registrar.admit(&request)).await;
        match admitted {
            Ok(Ok(admitted)) => Ok(admitted),
            Ok(Err(refusal)) => {
                log_trouble(&refusal);
                Err(refusal.to_string().chars().take(SENTENCE_LETTERS_MAX).collect())
            }
            Err(panicked) => {
                error!(error = %panicked, "a join panicked");
                Err("the metadata service failed in this join: see its log".to_owned())
            }
        }
    }
}

fn log_trouble(refusal: &JoinRefusal) {
    if let Some(error) = refusal.trouble() {
        error!(%error, "the use of a join token could not be written beside the authority");
    }
}

/// Takes a connection and its only request; what is wrong with the request is for the joiner to hear.
async fn receive(incoming: Incoming) -> Result<(Connection, SendStream, Result<JoinRequest, String>), String> {
    let connection = incoming.await.map_err(|error| error.to_string())?;
    let (send, mut receive) = connection.accept_bi().await.map_err(|error| error.to_string())?;
    let request = read_request(&mut receive).await;
    Ok((connection, send, request))
}

async fn read_request(receive: &mut RecvStream) -> Result<JoinRequest, String> {
    let bytes = receive
        .read_to_end(MESSAGE_BYTES_MAX)
        .await
        .map_err(|_| format!("the request is cut off, or longer than {MESSAGE_BYTES_MAX} bytes"))?;
    codec::decode(&bytes).map_err(|_| {
        format!("the request is no message of {JOIN_PROTOCOL}: run the same version of DGFS on both hosts")
    })
}

/// Sends the answer and waits until the joiner has it.
async fn reply(connection: &Connection, mut send: SendStream, answer: &JoinAnswer) {
    // An answer has our own certificates in it and is far from the codec's bound.
    let Ok(bytes) = codec::encode(answer) else { return };
    if send.write_all(&bytes).await.is_ok() && send.finish().is_ok() {
        let _ = send.stopped().await;
    }
    connection.close(close_code::DONE, b"");
}
