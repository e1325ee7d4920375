//! Promises of the authority and of identity files.

use std::fs;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::channel::Role;
use crate::clock::{Clock, ManualClock};
use crate::disk::mode_of;
use crate::pki::certificate::AUTHORITY_PREFIX;
use crate::pki::{ClusterAuthority, Identity, IdentityParts, PkiError, distinguished_name};
use crate::quic::tests::support::TestDirectory;

impl ClusterAuthority {
    /// Another authority that calls itself by the same name.
    pub(crate) fn forged(&self) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&format!("{AUTHORITY_PREFIX}{}", self.cluster), None);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate_pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key).unwrap();
        Self { cluster: self.cluster.clone(), certificate_pem, issuer, clock: Clock::real() }
    }
}

impl Identity {
    /// Shows this certificate, and trusts the authority (and takes itself to be of the cluster) of `other`.
    pub(crate) fn trusting(&self, other: &Self) -> Self {
        let mut words = self.parts.words.clone();
        words.cluster = other.cluster().to_owned();
        let parts = IdentityParts {
            words,
            certificate_pem: self.parts.certificate_pem.clone(),
            key_pem: self.parts.key_pem.clone(),
            authority_pem: other.parts.authority_pem.clone(),
            certificate: self.certificate(),
            key: self.key(),
            authority: other.authority(),
        };
        Self { parts: Arc::new(parts) }
    }
}

#[test]
fn an_authority_is_the_same_after_loading() {
    let directory = TestDirectory::new();
    let home = directory.0.join("authority");
    let made = ClusterAuthority::create(&home).unwrap();
    let loaded = ClusterAuthority::load(&home).unwrap();
    assert_eq!(made.cluster(), loaded.cluster());
    assert_eq!(made.cluster().len(), 16);
    assert_eq!(mode_of(&home.join("ca.key")).unwrap(), 0o600);
}

#[test]
fn an_authority_is_never_overwritten() {
    let directory = TestDirectory::new();
    ClusterAuthority::create(&directory.0).unwrap();
    assert!(matches!(ClusterAuthority::create(&directory.0), Err(PkiError::Exists(_))));
}

#[test]
fn an_identity_is_the_same_after_writing_and_reading() {
    let directory = TestDirectory::new();
    let authority = ClusterAuthority::create(&directory.0).unwrap();
    let hosts = ["storage-3.example".to_owned(), "10.0.0.3".to_owned()];
    let issued = authority.issue(Role::Stored, "storage-3", &hosts, 30).unwrap();
    let home = directory.0.join("identity");
    issued.write(&home).unwrap();
    let read = Identity::read(&home).unwrap();
    assert_eq!((read.role(), read.name(), read.cluster()), (Role::Stored, "storage-3", authority.cluster()));
    assert_eq!(read.valid_until_s(), issued.valid_until_s());
    assert_eq!(mode_of(&home.join("key.pem")).unwrap(), 0o600);
    read.check_time(&Clock::real()).unwrap();
}

#[test]
fn an_expired_identity_says_so_and_names_the_day() {
    let directory = TestDirectory::new();
    let authority = ClusterAuthority::create(&directory.0).unwrap();
    let identity = authority.issue_between(Role::Meta, "meta-1", &[], 1_000_000_000, 1_100_000_000).unwrap();
    let during = Clock::manual(&ManualClock::starting_at(1_050_000_000_000_000_000));
    identity.check_time(&during).unwrap();
    let sentence = identity.check_time(&Clock::real()).unwrap_err().to_string();
    assert_eq!(
        sentence,
        "the certificate of meta `meta-1` expired on 2004-11-09: issue a new one with the cluster's authority"
    );
    let before = Clock::manual(&ManualClock::starting_at(900_000_000_000_000_000));
    let sentence = identity.check_time(&before).unwrap_err().to_string();
    assert!(sentence.contains("is not valid before 2001-09-09"), "{sentence}");
}

#[test]
fn names_that_fit_no_certificate_are_refused() {
    let directory = TestDirectory::new();
    let authority = ClusterAuthority::create(&directory.0).unwrap();
    for name in ["", "a b", "a\nb", "ä", &"x".repeat(65)] {
        assert!(matches!(authority.issue(Role::Client, name, &[], 1), Err(PkiError::BadName { .. })), "{name:?}");
    }
    assert!(authority.issue(Role::Client, "ok", &["ä.example".to_owned()], 1).is_err());
}

#[test]
fn a_validity_beyond_the_calendar_is_cut_to_it() {
    let directory = TestDirectory::new();
    let authority = ClusterAuthority::create(&directory.0).unwrap();
    let identity = authority.issue(Role::Client, "eternal", &[], u32::MAX).unwrap();
    assert_eq!(identity.valid_until_s(), 253_402_300_799);
}

#[test]
fn files_that_do_not_fit_together_are_refused_with_the_reason() {
    let directory = TestDirectory::new();
    let ours = ClusterAuthority::create(&directory.0.join("a")).unwrap();
    let theirs = ClusterAuthority::create(&directory.0.join("b")).unwrap();
    let home = directory.0.join("identity");
    ours.issue(Role::Client, "x", &[], 1).unwrap().write(&home).unwrap();
    fs::copy(directory.0.join("b/ca.pem"), home.join("ca.pem")).unwrap();
    let sentence = Identity::read(&home).unwrap_err().to_string();
    assert!(sentence.contains(ours.cluster()) && sentence.contains(theirs.cluster()), "{sentence}");

    fs::write(home.join("cert.pem"), "nonsense").unwrap();
    let sentence = Identity::read(&home).unwrap_err().to_string();
    assert!(sentence.contains("cert.pem does not hold a certificate"), "{sentence}");

    fs::remove_file(home.join("key.pem")).unwrap();
    let sentence = Identity::read(&home).unwrap_err().to_string();
    assert!(sentence.contains("key.pem"), "{sentence}");
}

#[test]
fn a_certificate_without_a_role_is_no_identity() {
    let directory = TestDirectory::new();
    let authority = ClusterAuthority::create(&directory.0).unwrap();
    let home = directory.0.join("identity");
    authority.issue(Role::Client, "x", &[], 1).unwrap().write(&home).unwrap();
    // The authority's own certificate has no role.
    fs::copy(directory.0.join("ca.pem"), home.join("cert.pem")).unwrap();
    assert!(matches!(Identity::read(&home), Err(PkiError::NotOurs { .. })));
}

#[test]
fn printing_an_identity_shows_no_key() {
    let directory = TestDirectory::new();
    let authority = ClusterAuthority::create(&directory.0).unwrap();
    let identity = authority.issue(Role::Client, "x", &[], 1).unwrap();
    let text = format!("{identity:?} {authority:?}");
    assert!(!text.contains("PRIVATE") && !text.contains("key"), "{text}");
}
