//! The joiner's side of joining: a key made here, a request, and what is checked
//! of the answer.
//!
//! Never sends the private key and never trusts an answer for who sent it.
//! Always: an identity comes out only if the authority that the token names
//! signed this key for the token's role.

use std::fmt;
use std::path::Path;

use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use thiserror::Error;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::clock::Clock;
use crate::pki::registrar::{JoinGrant, JoinRequest, proof_text};
use crate::pki::token::{Fingerprint, JoinToken, TokenError};
use crate::pki::{Identity, PkiError, check_name, make_error, parse_certificate};

/// Why this machine cannot ask, or does not take the answer.
#[derive(Debug, Error)]
pub enum ApplicantError {
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token is for another name.
    #[error("the join token is for the name `{wanted}`, not for `{asked}`: join without --name")]
    OtherName {
        /// The one in the token.
        wanted: String,
        /// The one that was asked for.
        asked: String,
    },
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] PkiError),
    /// The answer is not what was asked for.
    #[error("the certificate that came {0}: it is not used; make a new token and join again")]
    Answer(&'static str),
}

/// A machine that wants to join, and its new key.
pub struct Applicant {
    token: JoinToken,
    name: String,
    hosts: Vec<String>,
    key: KeyPair,
}

impl fmt::Debug for Applicant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Applicant").field("token", &self.token).finish_non_exhaustive()
    }
}

impl Applicant {
    /// Reads the token and makes a key. The certificate will carry the token's name or, where it has none, `name` or
    /// else `otherwise`; `hosts` are names and addresses this machine runs at.
    ///
    /// # Errors
    /// The token is none, or the name fits neither it nor a certificate.
    pub fn new(text: &str, name: Option<&str>, otherwise: &str, hosts: Vec<String>) -> Result<Self, ApplicantError> {
        let token = JoinToken::parse(text)?;
        let name = match (token.name(), name) {
            (Some(wanted), Some(asked)) if wanted != asked => {
                return Err(ApplicantError::OtherName { wanted: wanted.to_owned(), asked: asked.to_owned() });
            }
            (Some(name), _) | (None, Some(name)) => name.to_owned(),
            (None, None) => otherwise.to_owned(),
        };
        check_name(&name)?;
        Ok(Self { token, name, hosts, key: KeyPair::generate().map_err(make_error)? })
    }

    /// What it joins with.
    #[must_use]
    pub fn token(&self) -> &JoinToken {
        &self.token
    }

    pub(crate) fn request(&self) -> Result<JoinRequest, PkiError> {
        let token = self.token.to_text();
        let public_key = self.key.der_bytes().to_vec();
        let proof = self.key.sign(&proof_text(&token, &public_key)).map_err(make_error)?;
        Ok(JoinRequest { token, name: self.name.clone(), hosts: self.hosts.clone(), public_key, proof })
    }

    /// The identity, if all of the answer is as it must be.
    pub(crate) fn accept(&self, grant: &JoinGrant) -> Result<Identity, ApplicantError> {
        let here = Path::new("the answer");
        let authority = parse_certificate(here, &grant.authority_pem)?;
        if Fingerprint::of(&authority) != self.token.authority() {
            return Err(ApplicantError::Answer("is of another authority than the token's"));
        }
        let pems = (grant.certificate_pem.clone(), grant.authority_pem.clone());
        let identity = Identity::from_pem(here, pems.0, self.key.serialize_pem(), pems.1)?;
        let now = Clock::real();
        identity.check_time(&now)?;
        if identity.role() != self.token.role() {
            return Err(ApplicantError::Answer("has another role than the token"));
        }
        if identity.name() != self.name {
            return Err(ApplicantError::Answer("has another name than was asked for"));
        }
        let certificate = identity.certificate();
        if !self.is_of_our_key(&certificate) {
            return Err(ApplicantError::Answer("is of another key than was sent"));
        }
        if !is_signed(&certificate, authority, &now) {
            return Err(ApplicantError::Answer("is not signed by the cluster's authority"));
        }
        Ok(identity)
    }

    fn is_of_our_key(&self, certificate: &CertificateDer<'_>) -> bool {
        X509Certificate::from_der(certificate)
            .is_ok_and(|(_, certificate)| certificate.public_key().subject_public_key.as_ref() == self.key.der_bytes())
    }
}

fn is_signed(certificate: &CertificateDer<'_>, authority: CertificateDer<'static>, now: &Clock) -> bool {
    let mut roots = RootCertStore::empty();
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return false };
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_millis(now.wall_ms()));
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    roots.add(authority).is_ok()
        && verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], now, algorithms).is_ok()
}
