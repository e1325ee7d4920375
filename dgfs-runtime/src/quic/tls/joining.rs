//! TLS and QUIC settings of joining: the server shows its certificate, the
//! joiner has none yet.
//!
//! Never trusts a certificate for what it says of itself. Always: the joiner
//! knows the authority by its fingerprint before it connects, and the server
//! must be a metadata service of that authority.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::channel::Role;
use crate::pki::Identity;
use crate::pki::certificate::cluster_of_authority;
use crate::pki::token::Fingerprint;
use crate::quic::IDLE_TIMEOUT;
use crate::quic::join::{JOIN_PROTOCOL, JOINS_MAX, MESSAGE_BYTES_MAX};
use crate::quic::tls::{ServerVerifier, TlsError, provider, refusal, whole_ms};

/// Bytes of handshakes kept for connections that were not looked at yet.
const WAITING_BYTES_MAX: u64 = 1 << 20;

/// What the join endpoint offers. It shows the authority's certificate too: the joiner has it from nowhere else.
pub(crate) fn join_server_config(identity: &Identity) -> Result<ServerConfig, TlsError> {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::because)?
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate(), identity.authority()], identity.key())
        .map_err(TlsError::because)?;
    tls.alpn_protocols = vec![JOIN_PROTOCOL.as_bytes().to_vec()];
    tls.send_tls13_tickets = 0;
    let quic = QuicServerConfig::try_from(tls).map_err(TlsError::because)?;
    let mut config = ServerConfig::with_crypto(Arc::new(quic));
    config
        .transport_config(Arc::new(transport(1)))
        .max_incoming(4 * JOINS_MAX)
        .incoming_buffer_size(WAITING_BYTES_MAX / (4 * JOINS_MAX as u64))
        .incoming_buffer_size_total(WAITING_BYTES_MAX)
        .migration(false);
    Ok(config)
}

/// What a joiner asks for: a metadata service whose authority has this fingerprint.
pub(crate) fn join_client_config(authority: Fingerprint) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier = AuthorityByFingerprint { authority, provider: Arc::clone(&provider) };
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::because)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    tls.alpn_protocols = vec![JOIN_PROTOCOL.as_bytes().to_vec()];
    tls.resumption = Resumption::disabled();
    let quic = QuicClientConfig::try_from(tls).map_err(TlsError::because)?;
    let mut config = ClientConfig::new(Arc::new(quic));
    config.transport_config(Arc::new(transport(0)));
    Ok(config)
}

/// Room for one message in each direction.
fn transport(incoming_bi: u32) -> TransportConfig {
    // One byte more, so that a message that is too long is seen to be.
    let window = VarInt::from_u32(u32::try_from(MESSAGE_BYTES_MAX + 1).unwrap_or(u32::MAX));
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(window)
        .receive_window(window)
        .max_concurrent_bidi_streams(VarInt::from_u32(incoming_bi))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(whole_ms(IDLE_TIMEOUT)))));
    transport
}

#[derive(Debug)]
struct AuthorityByFingerprint {
    authority: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl AuthorityByFingerprint {
    /// The certificate of the authority among those that the server shows.
    fn find<'a>(&self, shown: &'a [CertificateDer<'a>]) -> Result<&'a CertificateDer<'a>, rustls::Error> {
        if let Some(authority) = shown.iter().find(|shown| Fingerprint::of(shown) == self.authority) {
            return Ok(authority);
        }
        let shown = shown.last().map_or_else(|| "none".to_owned(), |shown| Fingerprint::of(shown).to_string());
        Err(rustls::Error::General(format!(
            "its authority is not the one of the join token (certificate {shown} instead of {}): check the address; \
             if it is right, somebody else answers there",
            self.authority
        )))
    }
}

impl ServerCertVerifier for AuthorityByFingerprint {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = self.find(intermediates)?;
        let cluster = cluster_of_authority(authority).map_err(refusal)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let verifier = ServerVerifier { inner, cluster, role: Role::Meta };
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
