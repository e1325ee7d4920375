//! TLS and QUIC settings: who is trusted, and the measured numbers.
//!
//! Never reads a file. Always: both sides show a certificate (`joining` is the one exception), TLS is 1.3, and
//! no session is resumed, so every connection checks the certificates anew.

pub(crate) mod joining;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig,
    TransportConfig, VarInt,
};
use ring::hmac;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use thiserror::Error;

use crate::channel::Role;
use crate::pki::certificate::CertificateWords;
use crate::pki::{Identity, PkiError};
use crate::quic::{BULK_STREAMS_MAX, IDLE_TIMEOUT, KEEP_ALIVE, MTU_BYTES_MAX};
use crate::random;

/// One stream's bytes in flight.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
/// One connection's bytes in flight, and bytes accepted for sending.
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// Bytes sent before the first acknowledgement. quinn's default of 12 kB is used up by one probe for the large MTU:
/// calls would wait behind it, and a refusal right after the handshake would never go out.
const INITIAL_WINDOW_BYTES: u64 = 128 << 10;
/// How rustls begins the text of an error that is only a sentence.
const SENTENCE_PREFIX: &str = "unexpected error: ";

/// Why TLS could not be set up: a damaged identity.
#[derive(Debug, Error)]
#[error("set up TLS: {0}")]
pub(crate) struct TlsError(String);

impl TlsError {
    fn because(cause: impl fmt::Display) -> Self {
        Self(cause.to_string())
    }
}

/// Cuts rustls' wrapping off a sentence of ours.
pub(crate) fn sentence_of(reason: &str) -> &str {
    reason.strip_prefix(SENTENCE_PREFIX).unwrap_or(reason)
}

/// What a server's endpoint offers: one protocol name for each thing it serves.
pub(crate) fn server_config(identity: &Identity, protocols: &[&str]) -> Result<ServerConfig, TlsError> {
    let provider = provider();
    let roots = roots(identity)?;
    let inner =
        WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build().map_err(TlsError::because)?;
    let verifier = ClientVerifier { inner, cluster: identity.cluster().to_owned() };
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::because)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(vec![identity.certificate()], identity.key())
        .map_err(TlsError::because)?;
    tls.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    tls.send_tls13_tickets = 0;
    let quic = QuicServerConfig::try_from(tls).map_err(TlsError::because)?;
    let mut config = ServerConfig::with_crypto(Arc::new(quic));
    config.transport_config(Arc::new(transport(BULK_STREAMS_MAX + 1, 0)));
    Ok(config)
}

/// What a client's endpoint asks for: `protocol`, of a server with role `server_role`.
pub(crate) fn client_config(identity: &Identity, protocol: &str, server_role: Role) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let roots = roots(identity)?;
    let inner =
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build().map_err(TlsError::because)?;
    let verifier = ServerVerifier { inner, cluster: identity.cluster().to_owned(), role: server_role };
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::because)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(vec![identity.certificate()], identity.key())
        .map_err(TlsError::because)?;
    tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    tls.resumption = Resumption::disabled();
    let quic = QuicClientConfig::try_from(tls).map_err(TlsError::because)?;
    let mut config = ClientConfig::new(Arc::new(quic));
    config.transport_config(Arc::new(transport(0, BULK_STREAMS_MAX)));
    Ok(config)
}

/// Settings of an endpoint. Its reset key comes from the identity's key, so that a daemon that was killed and
/// started again can tell the peers of its former life at once that their connections are gone.
pub(crate) fn endpoint_config(identity: &Identity) -> Result<EndpointConfig, TlsError> {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, identity.key().secret_der());
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&secret, b"dgfs quic stateless reset").as_ref());
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    config.cid_generator(|| Box::new(ConnectionIds { made: 0 }));
    config.max_udp_payload_size(MTU_BYTES_MAX).map_err(TlsError::because)?;
    Ok(config)
}

/// Random connection ids. quinn's own generator, made anew after a restart, would drop the packets of the former
/// life without a word; this one takes every id for possible, so they are answered with a reset.
struct ConnectionIds {
    made: u64,
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.made = self.made.wrapping_add(1);
        // An id need not be secret, only different: without randomness from the system a counter serves.
        let number = random::number().unwrap_or(self.made);
        ConnectionId::new(&number.to_le_bytes())
    }

    fn cid_len(&self) -> usize {
        size_of::<u64>()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn transport(incoming_bi: u32, incoming_uni: u32) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW_BYTES);
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(MTU_BYTES_MAX);
    transport
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        .max_concurrent_bidi_streams(VarInt::from_u32(incoming_bi))
        .max_concurrent_uni_streams(VarInt::from_u32(incoming_uni))
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(whole_ms(IDLE_TIMEOUT)))))
        .congestion_controller_factory(Arc::new(congestion))
        .mtu_discovery_config(Some(discovery));
    transport
}

fn whole_ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// ring, with AES-128-GCM first: enough for a cluster's inside, and the cheapest at packet size.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

fn roots(identity: &Identity) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.authority()).map_err(TlsError::because)?;
    Ok(Arc::new(roots))
}

/// Words first, for the sentence; then rustls' own check, which alone decides trust.
fn check_words(certificate: &[u8], cluster: &str, now: UnixTime) -> Result<CertificateWords, PkiError> {
    let words = CertificateWords::read(certificate)?;
    words.check_cluster(cluster)?;
    words.check_time(i64::try_from(now.as_secs()).unwrap_or(i64::MAX))?;
    Ok(words)
}

fn not_signed(words: &CertificateWords, detail: &rustls::Error) -> PkiError {
    PkiError::NotSigned {
        role: words.role,
        name: words.name.clone(),
        cluster: words.cluster.clone(),
        detail: detail.to_string(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn refusal(error: PkiError) -> rustls::Error {
    rustls::Error::General(error.to_string())
}

#[derive(Debug)]
struct ServerVerifier {
    inner: Arc<WebPkiServerVerifier>,
    cluster: String,
    role: Role,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let words = check_words(end_entity, &self.cluster, now).map_err(refusal)?;
        let verified = self
            .inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| refusal(not_signed(&words, &error)))?;
        words.check_role(&[self.role]).map_err(refusal)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct ClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    cluster: String,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hint: a client of another cluster shall show its certificate and be told so in words.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let words = check_words(end_entity, &self.cluster, now).map_err(refusal)?;
        self.inner
            .verify_client_cert(end_entity, intermediates, now)
            .map_err(|error| refusal(not_signed(&words, &error)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
