//! A QUIC endpoint that serves one or more protocols.
//!
//! Never decides what a call means. Always: who calls is known by certificate
//! before the first call is read, and a stop lets calls that run end first.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use quinn::{Endpoint, Incoming, TokioRuntime};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tracing::{debug, info};

use crate::channel::{Handler, Protocol, Role};
use crate::pki::Identity;
use crate::quic::session::{Served, Service, Session};
use crate::quic::socket::UdpSocket;
use crate::quic::tls::{TlsError, endpoint_config, server_config};
use crate::quic::{CONNECTIONS_MAX, close_code};

/// How long a stopping server waits until its last packets are out.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a transport could not be set up.
#[derive(Debug, Error)]
pub enum QuicError {
    /// The address cannot be listened at.
    #[error("listen at {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The identity's certificate, key and authority do not fit together.
    #[error("{0}: write the identity's files again")]
    Identity(String),
}

impl From<TlsError> for QuicError {
    fn from(error: TlsError) -> Self {
        Self::Identity(error.to_string())
    }
}

/// A listening endpoint. Dropping it closes its connections at once; [`Self::close`] does it in order.
pub struct QuicServer {
    endpoint: Listening,
    identity: Identity,
    shared: Arc<ServerShared>,
    /// Ends when every session and call has dropped its sender.
    running: mpsc::Receiver<()>,
    /// Ends when the port is free again.
    open: watch::Receiver<()>,
}

/// Says good-bye when it is dropped.
struct Listening(Endpoint);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.close(close_code::DONE, b"the server is stopping");
    }
}

struct ServerShared {
    services: RwLock<BTreeMap<&'static str, Offer>>,
    stopping: watch::Sender<bool>,
    /// Taken away by the stop, so that `running` can end.
    alive: Mutex<Option<mpsc::Sender<()>>>,
}

#[derive(Clone)]
struct Offer {
    service: Arc<dyn Service>,
    roles: Arc<[Role]>,
}

impl QuicServer {
    /// Listens at `address` (port 0: any free one). Nobody is answered until something is served.
    ///
    /// # Errors
    /// `Bind` when the address is taken or not of this host, `Identity` when TLS cannot be set up with it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(address: SocketAddr, identity: &Identity) -> Result<Self, QuicError> {
        let bind_error = |source| QuicError::Bind { address, source };
        let config = endpoint_config(identity)?;
        let socket = UdpSocket::bind(address, None).map_err(bind_error)?;
        let open = socket.open();
        let endpoint = Endpoint::new_with_abstract_socket(config, None, Arc::new(socket), Arc::new(TokioRuntime))
            .map_err(bind_error)?;
        let (alive, running) = mpsc::channel(1);
        let shared = Arc::new(ServerShared {
            services: RwLock::new(BTreeMap::new()),
            stopping: watch::Sender::new(false),
            alive: Mutex::new(Some(alive)),
        });
        tokio::spawn(accept(endpoint.clone(), Arc::clone(&shared)));
        Ok(Self { endpoint: Listening(endpoint), identity: identity.clone(), shared, running, open })
    }

    /// Serves protocol `P` to peers with one of `roles`, from now on.
    ///
    /// # Errors
    /// `Identity` when TLS cannot be set up with the server's identity.
    pub fn serve<P: Protocol>(&self, handler: Arc<dyn Handler<P>>, roles: &[Role]) -> Result<(), QuicError> {
        let offer = Offer { service: Arc::new(Served { handler }), roles: roles.into() };
        let mut services = self.shared.services.write();
        services.insert(P::NAME, offer);
        let names: Vec<&str> = services.keys().copied().collect();
        self.endpoint.0.set_server_config(Some(server_config(&self.identity, &names)?));
        Ok(())
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.endpoint.0.local_addr()
    }

    /// Connections that are open or being opened, for a metric.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.endpoint.0.open_connections()
    }

    /// Stops: reads no more calls, gives those that run `grace` to end and be answered, then closes every
    /// connection and frees the port.
    pub async fn close(mut self, grace: Duration) {
        self.endpoint.0.set_server_config(None);
        self.shared.stopping.send_replace(true);
        drop(self.shared.alive.lock().take());
        if tokio::time::timeout(grace, self.running.recv()).await.is_err() {
            info!(grace_ms = grace.as_millis(), "calls were still running at the end of the grace time");
        }
        self.endpoint.0.close(close_code::DONE, b"the server is stopping");
        // Peers that are gone do not answer the farewell: they are not waited for.
        let _ = tokio::time::timeout(FAREWELL, self.endpoint.0.wait_idle()).await;
        drop(self.endpoint);
        // The port is free when quinn's tasks have let go of the socket, some moments later.
        let _ = tokio::time::timeout(FAREWELL, self.open.changed()).await;
    }
}

async fn accept(endpoint: Endpoint, shared: Arc<ServerShared>) {
    while let Some(incoming) = endpoint.accept().await {
        if endpoint.open_connections() >= CONNECTIONS_MAX {
            info!(peer = %incoming.remote_address(), "connection refused: {CONNECTIONS_MAX} are open");
            incoming.refuse();
            continue;
        }
        let Some(alive) = shared.alive.lock().clone() else {
            incoming.refuse();
            continue;
        };
        tokio::spawn(serve_connection(incoming, Arc::clone(&shared), alive));
    }
}

async fn serve_connection(incoming: Incoming, shared: Arc<ServerShared>, alive: mpsc::Sender<()>) {
    let address = incoming.remote_address();
    let connection = match incoming.await {
        Ok(connection) => connection,
        Err(error) => {
            info!(peer = %address, reason = %error, "connection refused in the handshake");
            return;
        }
    };
    let stopping = shared.stopping.subscribe();
    let offer_of = |protocol: &str| {
        let offer = shared.services.read().get(protocol).cloned();
        offer.map(|offer| (offer.service, offer.roles))
    };
    match Session::open(connection.clone(), offer_of, stopping, alive) {
        Ok(session) => {
            debug!(peer = session.peer_address(), "connection accepted");
            session.run().await;
        }
        Err(refusal) => {
            info!(peer = %address, reason = %refusal, "connection refused");
            connection.close(close_code::REJECTED, refusal.as_bytes());
            // The close frame is repeated while the handle lives, in case its first packet is lost.
            let _ = connection.closed().await;
        }
    }
}
