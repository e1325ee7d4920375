//! The cluster's certificate authority and the identities it gives out.
//!
//! Never opens a socket and never logs a key. Always: a private key is written
//! with mode 0600, an identity carries exactly one role, and every refusal
//! names whose certificate it is and what to do.
//!
//! A machine gets its identity from whoever holds the authority, or joins: [`token`] (what is handed to it) →
//! [`applicant`] (its side) → [`registrar`] (the authority's side) → `used` (each token once).

pub mod applicant;
pub(crate) mod certificate;
pub mod registrar;
#[cfg(test)]
mod tests;
pub mod token;
mod used;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use crate::channel::Role;
use crate::clock::Clock;
use crate::disk;
use crate::pki::certificate::{AUTHORITY_PREFIX, CertificateWords, cluster_of_authority};
use crate::pki::token::Fingerprint;
use crate::random;

/// The DNS name in every certificate: a peer is known by authority and role, not by where it runs.
pub const SERVER_NAME: &str = "dgfs";

const AUTHORITY_CERTIFICATE_FILE: &str = "ca.pem";
const AUTHORITY_KEY_FILE: &str = "ca.key";
const CERTIFICATE_FILE: &str = "cert.pem";
const KEY_FILE: &str = "key.pem";
const KEY_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;
/// An authority outlives its cluster: replacing it means new certificates for everybody.
const AUTHORITY_YEARS: u64 = 30;
const DAY_S: u64 = 86_400;
/// Clocks of a cluster differ; a certificate made now works on a host whose clock is a little behind.
const CLOCK_SLACK_S: u64 = 3_600;
/// The end of the year 9999, the last that X.509 can write.
const LAST_SECOND_S: u64 = 253_402_300_799;
/// X.509 bounds a common name at 64 characters.
const NAME_BYTES_MAX: usize = 64;

/// Why an authority or identity could not be made, read or accepted.
#[derive(Debug, Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{step} {}: {source}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is an authority already; a new one would cut off every member.
    #[error("{} holds an authority already: use it, or name an empty directory", .0.display())]
    Exists(PathBuf),
    /// A file does not hold what its name says.
    #[error("{} does not hold {expected}: write the identity again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// A certificate's bytes are no certificate.
    #[error("the certificate cannot be read: issue a new one")]
    Unreadable,
    /// A certificate made by something else.
    #[error("the certificate `{name}` does not carry {missing}: use one issued by the cluster's authority")]
    NotOurs {
        /// Its common name.
        name: String,
        /// What it lacks.
        missing: &'static str,
    },
    /// Past its time.
    #[error("the certificate of {} `{name}` expired on {date}: issue a new one with the cluster's authority", role.name())]
    Expired {
        /// Its role.
        role: Role,
        /// Its name.
        name: String,
        /// The last day, UTC.
        date: String,
    },
    /// Before its time.
    #[error("the certificate of {} `{name}` is not valid before {date}: check the clocks of both hosts", role.name())]
    NotYet {
        /// Its role.
        role: Role,
        /// Its name.
        name: String,
        /// The first day, UTC.
        date: String,
    },
    /// Of another cluster.
    #[error(
        "the certificate of {} `{name}` belongs to cluster {theirs}, but its peer belongs to cluster {ours}: \
         check the address, or use a certificate issued by that cluster's authority", role.name()
    )]
    OtherCluster {
        /// Its role.
        role: Role,
        /// Its name.
        name: String,
        /// The cluster that signed it.
        theirs: String,
        /// The cluster of whoever looked at it.
        ours: String,
    },
    /// Names this cluster, but its authority did not sign it.
    #[error(
        "the certificate of {} `{name}` is not signed by the authority of cluster {cluster} ({detail}): issue a new one with it",
        role.name()
    )]
    NotSigned {
        /// Its role.
        role: Role,
        /// Its name.
        name: String,
        /// The cluster it claims.
        cluster: String,
        /// What the check said.
        detail: String,
    },
    /// Machines are to join by another authority than the service's own.
    #[error(
        "the identity is of the authority {theirs}, but machines are to join by the authority {ours}: \
         configure the directory of the cluster's own authority"
    )]
    OtherAuthority {
        /// The identity's.
        theirs: Fingerprint,
        /// The configured one.
        ours: Fingerprint,
    },
    /// Not for this role.
    #[error("the certificate of `{name}` has role {}, but role {wanted} is needed here: check the address, or issue a certificate with that role", role.name())]
    WrongRole {
        /// Its role.
        role: Role,
        /// Its name.
        name: String,
        /// What would do, in words.
        wanted: String,
    },
    /// A name that no certificate may carry.
    #[error("`{name}` cannot be a name in a certificate: use 1 to {NAME_BYTES_MAX} letters, digits, `.`, `-` or `_`")]
    BadName {
        /// The name.
        name: String,
    },
    /// The certificate could not be made.
    #[error("make a certificate: {0}")]
    Make(String),
}

/// The authority of one cluster: makes identities.
pub struct ClusterAuthority {
    cluster: String,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
    clock: Clock,
}

impl fmt::Debug for ClusterAuthority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClusterAuthority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl ClusterAuthority {
    /// Makes a new authority with a random cluster id and writes `ca.pem` and `ca.key` (mode 0600) into `directory`.
    ///
    /// # Errors
    /// `Exists` when there is one already, `Io` when it cannot be written.
    pub fn create(directory: &Path) -> Result<Self, PkiError> {
        let key_path = directory.join(AUTHORITY_KEY_FILE);
        if key_path.exists() || directory.join(AUTHORITY_CERTIFICATE_FILE).exists() {
            return Err(PkiError::Exists(directory.to_owned()));
        }
        let number = random::number().map_err(|source| io_error("make a cluster id for", directory, source))?;
        let cluster = format!("{number:016x}");
        let clock = Clock::real();
        let key = KeyPair::generate().map_err(make_error)?;
        let now_s = clock.wall_ms() / 1000;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&format!("{AUTHORITY_PREFIX}{cluster}"), None);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now_s.saturating_sub(CLOCK_SLACK_S), now_s + AUTHORITY_YEARS * 365 * DAY_S);
        let certificate_pem = params.self_signed(&key).map_err(make_error)?.pem();
        disk::create_dir_durably(directory).map_err(|source| io_error("make", directory, source))?;
        // The key first: a certificate without its key would look like an authority and could sign nothing.
        write(&key_path, &key.serialize_pem(), KEY_MODE)?;
        write(&directory.join(AUTHORITY_CERTIFICATE_FILE), &certificate_pem, PUBLIC_MODE)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key).map_err(make_error)?;
        Ok(Self { cluster, certificate_pem, issuer, clock })
    }

    /// Reads the authority in `directory`.
    ///
    /// # Errors
    /// `Io` when a file is missing, `Damaged` when it holds something else.
    pub fn load(directory: &Path) -> Result<Self, PkiError> {
        let certificate_path = directory.join(AUTHORITY_CERTIFICATE_FILE);
        let certificate_pem = read(&certificate_path)?;
        let certificate = parse_certificate(&certificate_path, &certificate_pem)?;
        let key_path = directory.join(AUTHORITY_KEY_FILE);
        let key = KeyPair::from_pem(&read(&key_path)?)
            .map_err(|_| PkiError::Damaged { path: key_path, expected: "an authority's private key" })?;
        let cluster = cluster_of_authority(&certificate)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key).map_err(make_error)?;
        Ok(Self { cluster, certificate_pem, issuer, clock: Clock::real() })
    }

    /// The cluster's id: 16 hexadecimal digits.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Makes an identity for `role`, called `name`, for `valid_days` from now. `hosts` are DNS names or addresses
    /// it runs at: for people and other tools, DGFS itself checks authority and role.
    ///
    /// # Errors
    /// `BadName` for a name or host that fits no certificate, `Make` when the signature fails.
    pub fn issue(&self, role: Role, name: &str, hosts: &[String], valid_days: u32) -> Result<Identity, PkiError> {
        let now_s = self.clock.wall_ms() / 1000;
        let from_s = now_s.saturating_sub(CLOCK_SLACK_S);
        self.issue_between(role, name, hosts, from_s, now_s + u64::from(valid_days) * DAY_S)
    }

    /// As [`Self::issue`], valid from `from_s` to `until_s`, both in seconds since 1970.
    ///
    /// # Errors
    /// As [`Self::issue`].
    pub fn issue_between(
        &self,
        role: Role,
        name: &str,
        hosts: &[String],
        from_s: u64,
        until_s: u64,
    ) -> Result<Identity, PkiError> {
        let key = KeyPair::generate().map_err(make_error)?;
        let certificate_pem = self.sign(&key, role, name, hosts, from_s..until_s)?;
        Identity::from_pem(
            Path::new("new identity"),
            certificate_pem,
            key.serialize_pem(),
            self.certificate_pem.clone(),
        )
    }

    /// The certificate (PEM) that makes whoever has the private key of `key` a `role` called `name`.
    fn sign(
        &self,
        key: &impl PublicKeyData,
        role: Role,
        name: &str,
        hosts: &[String],
        valid_s: Range<u64>,
    ) -> Result<String, PkiError> {
        check_name(name)?;
        let mut names = vec![SERVER_NAME.to_owned()];
        names.extend(hosts.iter().filter(|host| *host != SERVER_NAME).cloned());
        let mut params = CertificateParams::new(names).map_err(|_| PkiError::BadName { name: hosts.join(", ") })?;
        params.distinguished_name = distinguished_name(name, Some(role));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A daemon is a server to some and a client to others, so every identity may be both; the role decides.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, valid_s.start, valid_s.end);
        Ok(params.signed_by(key, &self.issuer).map_err(make_error)?.pem())
    }
}

/// Refuses a name that no certificate may carry.
fn check_name(name: &str) -> Result<(), PkiError> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(allowed) {
        return Err(PkiError::BadName { name: name.to_owned() });
    }
    Ok(())
}

/// What a process shows to its peers: certificate, key, and the authority it trusts. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    parts: Arc<IdentityParts>,
}

struct IdentityParts {
    words: CertificateWords,
    certificate_pem: String,
    key_pem: String,
    authority_pem: String,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    authority: CertificateDer<'static>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").field("words", &self.parts.words).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads `cert.pem`, `key.pem` and `ca.pem` out of `directory`.
    ///
    /// # Errors
    /// `Io` when a file is missing, `Damaged`, `Unreadable` or `NotOurs` when it holds something else.
    pub fn read(directory: &Path) -> Result<Self, PkiError> {
        let certificate = read(&directory.join(CERTIFICATE_FILE))?;
        let key = read(&directory.join(KEY_FILE))?;
        let authority = read(&directory.join(AUTHORITY_CERTIFICATE_FILE))?;
        Self::from_pem(directory, certificate, key, authority)
    }

    /// Writes `cert.pem`, `key.pem` (mode 0600) and `ca.pem` into `directory`, made when missing.
    ///
    /// # Errors
    /// `Io` when one cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), PkiError> {
        disk::create_dir_durably(directory).map_err(|source| io_error("make", directory, source))?;
        write(&directory.join(KEY_FILE), &self.parts.key_pem, KEY_MODE)?;
        write(&directory.join(AUTHORITY_CERTIFICATE_FILE), &self.parts.authority_pem, PUBLIC_MODE)?;
        write(&directory.join(CERTIFICATE_FILE), &self.parts.certificate_pem, PUBLIC_MODE)
    }

    fn from_pem(
        from: &Path,
        certificate_pem: String,
        key_pem: String,
        authority_pem: String,
    ) -> Result<Self, PkiError> {
        let certificate = parse_certificate(&from.join(CERTIFICATE_FILE), &certificate_pem)?;
        let authority = parse_certificate(&from.join(AUTHORITY_CERTIFICATE_FILE), &authority_pem)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|_| PkiError::Damaged { path: from.join(KEY_FILE), expected: "a private key" })?;
        let words = CertificateWords::read(&certificate)?;
        words.check_cluster(&cluster_of_authority(&authority)?)?;
        let parts = IdentityParts { words, certificate_pem, key_pem, authority_pem, certificate, key, authority };
        Ok(Self { parts: Arc::new(parts) })
    }

    /// Its role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.parts.words.role
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.parts.words.name
    }

    /// The id of its cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.parts.words.cluster
    }

    /// When it ends, in seconds since 1970: for a metric and an alert.
    #[must_use]
    pub fn valid_until_s(&self) -> i64 {
        self.parts.words.valid_until_s
    }

    /// Refuses an identity outside of its time: a daemon asks at its start, so that it fails with words and not with silence.
    ///
    /// # Errors
    /// `Expired` or `NotYet`.
    pub fn check_time(&self, clock: &Clock) -> Result<(), PkiError> {
        self.parts.words.check_time(i64::try_from(clock.wall_ms() / 1000).unwrap_or(i64::MAX))
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.parts.certificate.clone()
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.parts.key.clone_key()
    }

    pub(crate) fn authority(&self) -> CertificateDer<'static> {
        self.parts.authority.clone()
    }
}

fn distinguished_name(name: &str, role: Option<Role>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "dgfs");
    if let Some(role) = role {
        subject.push(DnType::OrganizationalUnitName, role.name());
    }
    subject.push(DnType::CommonName, name);
    subject
}

fn set_validity(params: &mut CertificateParams, from_s: u64, until_s: u64) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(from_s.min(LAST_SECOND_S));
    params.not_after = epoch + Duration::from_secs(until_s.min(LAST_SECOND_S));
}

fn parse_certificate(path: &Path, pem: &str) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| PkiError::Damaged { path: path.to_owned(), expected: "a certificate" })
}

fn read(path: &Path) -> Result<String, PkiError> {
    std::fs::read_to_string(path).map_err(|source| io_error("read", path, source))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    disk::write_atomically_with_mode(path, text.as_bytes(), mode).map_err(|source| io_error("write", path, source))
}

fn io_error(step: &'static str, path: &Path, source: io::Error) -> PkiError {
    PkiError::Io { step, path: path.to_owned(), source }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn make_error(error: rcgen::Error) -> PkiError {
    PkiError::Make(error.to_string())
}
