//! The authority's side of joining: a request against a token gives a certificate.
//!
//! Never opens a socket and never sees a joiner's private key. Always: the role
//! comes from the token alone, and a certificate leaves only after the use of
//! its token is on the disk.

use std::io;
use std::path::Path;

use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::channel::Role;
use crate::pki::token::{Fingerprint, JoinToken, TokenError};
use crate::pki::used::{ClaimError, UsedTokens};
use crate::pki::{
    AUTHORITY_CERTIFICATE_FILE, CLOCK_SLACK_S, ClusterAuthority, DAY_S, Identity, PkiError, io_error, parse_certificate,
};

/// Days a certificate of a joiner is valid unless told otherwise.
pub const CERTIFICATE_DAYS_DEFAULT: u32 = 365;

/// Names of a machine in one certificate.
const HOSTS_MAX: usize = 16;
/// DNS bounds a name at 253.
const HOST_BYTES_MAX: usize = 253;
/// An uncompressed point of P-256.
const PUBLIC_KEY_BYTES: usize = 65;
/// Begins what a joiner signs to prove that it has the private key.
const PROOF_LABEL: &[u8] = b"dgfs join key proof 1";

/// What a machine that joins sends.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct JoinRequest {
    /// The line.
    pub(crate) token: String,
    /// What it calls itself; taken when the token has no name, and never other than that.
    pub(crate) name: String,
    /// Names and addresses it runs at.
    pub(crate) hosts: Vec<String>,
    /// Its public key, an uncompressed point of P-256.
    pub(crate) public_key: Vec<u8>,
    /// Its signature of [`proof_text`].
    pub(crate) proof: Vec<u8>,
}

/// What a machine that joined gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinGrant {
    /// Its certificate.
    pub(crate) certificate_pem: String,
    /// The authority's.
    pub(crate) authority_pem: String,
    /// `HOST:PORT` of the metadata services; without a host: the one that was reached.
    pub(crate) meta: Vec<String>,
}

/// The bytes that prove the possession of a key: good for one token only.
pub(crate) fn proof_text(token: &str, public_key: &[u8]) -> Vec<u8> {
    let parts = [PROOF_LABEL, public_key, token.as_bytes()];
    parts.concat()
}

/// Why a machine was not let in; a sentence for the person who joins it.
#[derive(Debug, Error)]
pub(crate) enum JoinRefusal {
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It was used, or that cannot be written down.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The token is for another name.
    #[error("the join token is for the name `{wanted}`: join without --name, or make a token for another")]
    OtherName {
        /// The one in the token.
        wanted: String,
    },
    /// More or longer names than a certificate carries.
    #[error("a machine has at most {HOSTS_MAX} names and addresses of at most {HOST_BYTES_MAX} visible letters each")]
    Hosts,
    /// No key of ours, or no proof that the joiner has it.
    #[error("the request does not prove that its key is the joiner's: run the same version of DGFS on both hosts")]
    Proof,
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] PkiError),
}

impl JoinRefusal {
    /// The cause that is this host's trouble and not the joiner's: for the log.
    pub(crate) fn trouble(&self) -> Option<&io::Error> {
        match self {
            Self::Claim(ClaimError::Io(error)) => Some(error),
            Self::Claim(ClaimError::Used | ClaimError::Full) => None,
            Self::Token(_) | Self::OtherName { .. } | Self::Hosts | Self::Proof | Self::Certificate(_) => None,
        }
    }
}

/// Who was let in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) role: Role,
    pub(crate) name: String,
    pub(crate) grant: JoinGrant,
}

/// Lets machines join a cluster with its authority.
pub struct Registrar {
    authority: ClusterAuthority,
    used: UsedTokens,
    certificate_days: u32,
    meta: Vec<String>,
}

impl Registrar {
    /// With the authority in `directory`; certificates are valid for `certificate_days`, and a joiner is told that the
    /// metadata services are at `meta` (`HOST:PORT`, or `:PORT` for the host that it reached).
    ///
    /// # Errors
    /// As [`ClusterAuthority::load`]; `Io` when it cannot be written beside the authority.
    pub fn open(directory: &Path, certificate_days: u32, meta: Vec<String>) -> Result<Self, PkiError> {
        let authority = ClusterAuthority::load(directory)?;
        let used = UsedTokens::open(directory)
            .map_err(|source| io_error("keep the used join tokens beside the authority in", directory, source))?;
        Ok(Self { authority, used, certificate_days, meta })
    }

    /// Refuses an identity of another authority: a joiner would not trust the service that shows it.
    ///
    /// # Errors
    /// `OtherAuthority`.
    pub(crate) fn check_identity(&self, identity: &Identity) -> Result<(), PkiError> {
        let (theirs, ours) = (Fingerprint::of(&identity.authority()), self.authority.fingerprint()?);
        if theirs == ours { Ok(()) } else { Err(PkiError::OtherAuthority { theirs, ours }) }
    }

    /// Answers one request. Blocks on the disk.
    pub(crate) fn admit(&self, request: &JoinRequest) -> Result<Admitted, JoinRefusal> {
        let token = JoinToken::parse(&request.token)?;
        self.authority.check_token(&token)?;
        let name = name_for(&token, &request.name)?;
        check_hosts(&request.hosts)?;
        let key = ProvenKey::check(request)?;
        let now_s = self.authority.clock.wall_ms() / 1000;
        let valid_s =
            now_s.saturating_sub(CLOCK_SLACK_S)..now_s.saturating_add(u64::from(self.certificate_days) * DAY_S);
        // Before the token is used up: a name that fits no certificate shall not cost it.
        let certificate_pem = self.authority.sign(&key, token.role, &name, &request.hosts, valid_s)?;
        self.used.claim(token.nonce, token.expires_s, now_s)?;
        let authority_pem = self.authority.certificate_pem.clone();
        let grant = JoinGrant { certificate_pem, authority_pem, meta: self.meta.clone() };
        Ok(Admitted { role: token.role, name, grant })
    }
}

impl ClusterAuthority {
    /// Of its certificate.
    pub(crate) fn fingerprint(&self) -> Result<Fingerprint, PkiError> {
        let certificate = parse_certificate(Path::new(AUTHORITY_CERTIFICATE_FILE), &self.certificate_pem)?;
        Ok(Fingerprint::of(&certificate))
    }
}

fn name_for(token: &JoinToken, asked: &str) -> Result<String, JoinRefusal> {
    match &token.name {
        Some(name) if asked.is_empty() || asked == name => Ok(name.clone()),
        Some(name) => Err(JoinRefusal::OtherName { wanted: name.clone() }),
        None => Ok(asked.to_owned()),
    }
}

fn check_hosts(hosts: &[String]) -> Result<(), JoinRefusal> {
    let fits = |host: &String| {
        (1..=HOST_BYTES_MAX).contains(&host.len()) && host.bytes().all(|letter| letter.is_ascii_graphic())
    };
    if hosts.len() <= HOSTS_MAX && hosts.iter().all(fits) { Ok(()) } else { Err(JoinRefusal::Hosts) }
}

/// A public key whose private half the joiner has.
struct ProvenKey(Vec<u8>);

impl ProvenKey {
    fn check(request: &JoinRequest) -> Result<Self, JoinRefusal> {
        if request.public_key.len() != PUBLIC_KEY_BYTES {
            return Err(JoinRefusal::Proof);
        }
        let text = proof_text(&request.token, &request.public_key);
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &request.public_key)
            .verify(&text, &request.proof)
            .map_err(|_| JoinRefusal::Proof)?;
        Ok(Self(request.public_key.clone()))
    }
}

impl PublicKeyData for ProvenKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

#[cfg(test)]
pub(crate) mod tests;
