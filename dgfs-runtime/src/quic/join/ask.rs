//! The joiner: asks one metadata service after the other until one answers.
//!
//! Never shows its token to a server that it could not check, and never asks a
//! second server once a token was shown. Always: the failure says what became
//! of the token.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use quinn::{Connection, ConnectionError, Endpoint, EndpointConfig, TokioRuntime, TransportErrorCode};
use thiserror::Error;

use dgfs_proto::codec;

use crate::channel::CallError;
use crate::pki::applicant::{Applicant, ApplicantError};
use crate::pki::{Identity, PkiError, SERVER_NAME};
use crate::quic::join::{DEADLINE, FAREWELL, JOIN_PROTOCOL, JOINS_MAX, JoinAnswer, MESSAGE_BYTES_MAX};
use crate::quic::link::{call_error, not_listening};
use crate::quic::server::QuicError;
use crate::quic::socket::UdpSocket;
use crate::quic::tls::joining::join_client_config;
use crate::quic::{CONNECT_TIMEOUT, close_code};

/// Addresses of one host name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Metadata services that an answer may name.
const METAS_MAX: usize = 16;

/// Why this machine has not joined.
#[derive(Debug, Error)]
pub enum JoinError {
    /// Nobody took the token; it can be used again.
    #[error("no metadata service could be asked (the token is not used up): {}", sentences(.0))]
    NotAsked(Vec<CallError>),
    /// A metadata service said no.
    #[error("{peer} refused the join: {reason}")]
    Refused {
        /// Who.
        peer: String,
        /// Its sentence.
        reason: String,
    },
    /// The token was shown, and no answer came.
    #[error("{peer} did not answer ({reason}): the token may be used up; if joining with it fails, make a new one")]
    NoAnswer {
        /// Who.
        peer: String,
        /// Why, in words.
        reason: String,
    },
    /// The answer was of no use.
    #[error(transparent)]
    Applicant(#[from] ApplicantError),
    /// TLS could not be set up.
    #[error(transparent)]
    Quic(#[from] QuicError),
}

impl From<PkiError> for JoinError {
    fn from(error: PkiError) -> Self {
        Self::Applicant(error.into())
    }
}

fn sentences(errors: &[CallError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What a machine has once it joined.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Who it is now.
    pub identity: Identity,
    /// `HOST:PORT` of the cluster's metadata services, as the one that answered told.
    pub meta: Vec<String>,
    /// The address of this machine on the way to it.
    pub local: IpAddr,
}

/// Joins by the first of `addresses` (`HOST:PORT` of join endpoints) that can be asked.
///
/// # Errors
/// See [`JoinError`].
///
/// # Panics
/// Outside of a tokio runtime.
pub async fn join(addresses: &[String], applicant: &Applicant) -> Result<Joined, JoinError> {
    let mut failures = Vec::new();
    for address in addresses {
        match connect(address, applicant).await? {
            Ok(line) => {
                let joined = ask(address, &line, applicant).await;
                line.connection.close(close_code::DONE, b"");
                let _ = tokio::time::timeout(FAREWELL, line.endpoint.wait_idle()).await;
                return joined;
            }
            Err(error) => failures.push(error),
        }
    }
    Err(JoinError::NotAsked(failures))
}

/// A connection to a server that is a metadata service of the token's cluster.
struct Line {
    endpoint: Endpoint,
    connection: Connection,
    local: IpAddr,
}

async fn ask(address: &str, line: &Line, applicant: &Applicant) -> Result<Joined, JoinError> {
    let no_answer = |reason: String| JoinError::NoAnswer { peer: address.to_owned(), reason };
    let request = codec::encode(&applicant.request()?).map_err(|error| no_answer(error.to_string()))?;
    let answer = tokio::time::timeout(2 * DEADLINE, exchange(&line.connection, &request))
        .await
        .map_err(|_| no_answer(format!("within {} s", 2 * DEADLINE.as_secs())))?
        .map_err(no_answer)?;
    let grant = match codec::decode(&answer) {
        Ok(JoinAnswer::Granted(grant)) => grant,
        Ok(JoinAnswer::Refused(reason)) => return Err(JoinError::Refused { peer: address.to_owned(), reason }),
        Err(_) => return Err(no_answer(format!("in {JOIN_PROTOCOL}: run the same version of DGFS on both hosts"))),
    };
    let identity = applicant.accept(&grant)?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let meta = grant.meta.iter().take(METAS_MAX);
    let meta = meta.map(|meta| if meta.starts_with(':') { format!("{host}{meta}") } else { meta.clone() }).collect();
    Ok(Joined { identity, meta, local: line.local })
}

async fn exchange(connection: &Connection, request: &[u8]) -> Result<Vec<u8>, String> {
    let ended = |error: &dyn std::fmt::Display| {
        let reason = connection.close_reason();
        reason.map_or_else(|| error.to_string(), |reason| reason.to_string())
    };
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| ended(&error))?;
    send.write_all(request).await.map_err(|error| ended(&error))?;
    send.finish().map_err(|error| ended(&error))?;
    receive.read_to_end(MESSAGE_BYTES_MAX).await.map_err(|error| ended(&error))
}

/// The outer error ends the join, the inner one is this server's.
async fn connect(address: &str, applicant: &Applicant) -> Result<Result<Line, CallError>, QuicError> {
    let client = join_client_config(applicant.token().authority())?;
    let unreachable = |reason: String| CallError::Unreachable { peer: address.to_owned(), reason };
    let resolved = match tokio::net::lookup_host(address).await {
        Ok(resolved) => resolved,
        Err(error) => return Ok(Err(unreachable(format!("its name cannot be resolved ({error})")))),
    };
    let mut worst = unreachable("its name has no address".to_owned());
    for resolved in resolved.take(ADDRESSES_MAX) {
        let attempt = tokio::time::timeout(CONNECT_TIMEOUT, connect_to(address, resolved, client.clone())).await;
        match attempt.unwrap_or_else(|_| Err(unreachable("it does not answer".to_owned()))) {
            Ok(line) => return Ok(Ok(line)),
            Err(error) => worst = error,
        }
    }
    Ok(Err(worst))
}

async fn connect_to(name: &str, address: SocketAddr, client: quinn::ClientConfig) -> Result<Line, CallError> {
    let unreachable = |reason: String| CallError::Unreachable { peer: name.to_owned(), reason };
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any, Some(address))
        .map(Arc::new)
        .map_err(|error| unreachable(format!("no socket to {address} ({error})")))?;
    let endpoint = Endpoint::new_with_abstract_socket(
        EndpointConfig::default(),
        None,
        Arc::clone(&socket) as Arc<dyn quinn::AsyncUdpSocket>,
        Arc::new(TokioRuntime),
    )
    .map_err(|error| unreachable(format!("no endpoint ({error})")))?;
    // The socket is connected, so its address is the one that leads there.
    let local = endpoint.local_addr().map_err(|error| unreachable(error.to_string()))?.ip();
    let connecting = endpoint
        .connect_with(client, address, SERVER_NAME)
        .map_err(|error| unreachable(format!("{address} cannot be connected to ({error})")))?;
    let connection = tokio::select! {
        connection = connecting => connection.map_err(|error| refused(name, &error))?,
        () = socket.refused() => return Err(not_listening(name)),
    };
    Ok(Line { endpoint, connection, local })
}

fn refused(name: &str, error: &ConnectionError) -> CallError {
    match error {
        ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::CONNECTION_REFUSED => {
            let reason = format!("{JOINS_MAX} others join there at this moment: try again");
            CallError::Unreachable { peer: name.to_owned(), reason }
        }
        other => call_error(name, JOIN_PROTOCOL, other),
    }
}
