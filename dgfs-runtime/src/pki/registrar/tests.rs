//! Promises of joining, both sides, without a network.

use std::sync::Arc;
use std::time::Duration;

use dgfs_proto::codec;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};

use crate::channel::Role;
use crate::clock::{Clock, ManualClock};
use crate::pki::applicant::{Applicant, ApplicantError};
use crate::pki::registrar::{JoinGrant, JoinRefusal, JoinRequest, Registrar, proof_text};
use crate::pki::token::{TokenError, VALID_DEFAULT};
use crate::pki::used::ClaimError;
use crate::pki::{ClusterAuthority, PkiError};
use crate::quic::tests::support::TestDirectory;

/// A cluster's authority, and a registrar that works with it.
pub(crate) struct Office {
    pub(crate) directory: TestDirectory,
    pub(crate) authority: ClusterAuthority,
    pub(crate) registrar: Arc<Registrar>,
}

impl Office {
    pub(crate) fn new() -> Self {
        let directory = TestDirectory::new();
        let authority = ClusterAuthority::create(&directory.0).unwrap();
        let registrar = Arc::new(Registrar::open(&directory.0, 365, vec![":7000".to_owned()]).unwrap());
        Self { directory, authority, registrar }
    }

    pub(crate) fn token(&self, role: Role, name: Option<&str>) -> String {
        self.authority.join_token(role, name, VALID_DEFAULT).unwrap().to_text()
    }

    /// A token that was made so long ago, for an hour.
    pub(crate) fn token_of_the_past(&mut self, ago: Duration) -> String {
        let then = Clock::real().wall_ns() - u64::try_from(ago.as_nanos()).unwrap();
        let now = std::mem::replace(&mut self.authority.clock, Clock::manual(&ManualClock::starting_at(then)));
        let token = self.token(Role::Stored, None);
        self.authority.clock = now;
        token
    }
}

fn applicant(token: &str, name: Option<&str>) -> Applicant {
    Applicant::new(token, name, "this-host", vec!["storage-3.example".to_owned(), "10.0.0.3".to_owned()]).unwrap()
}

fn refusal(office: &Office, request: &JoinRequest) -> String {
    office.registrar.admit(request).unwrap_err().to_string()
}

#[test]
fn a_token_gives_the_joiners_own_key_a_certificate_with_the_tokens_role() {
    let office = Office::new();
    for role in Role::ALL {
        let applicant = applicant(&office.token(role, Some("machine-3")), None);
        let admitted = office.registrar.admit(&applicant.request().unwrap()).unwrap();
        assert_eq!((admitted.role, admitted.name.as_str()), (role, "machine-3"));
        let identity = applicant.accept(&admitted.grant).unwrap();
        assert_eq!((identity.role(), identity.name()), (role, "machine-3"));
        assert_eq!(identity.cluster(), office.authority.cluster());
        let now_s = i64::try_from(Clock::real().wall_ms() / 1000).unwrap();
        assert!((identity.valid_until_s() - now_s - 365 * 86_400).abs() < 60);
    }
}

#[test]
fn a_token_without_a_name_takes_the_joiners_and_one_with_a_name_takes_no_other() {
    let office = Office::new();
    for (asked, expected) in [(Some("nas-2"), "nas-2"), (None, "this-host")] {
        let applicant = applicant(&office.token(Role::Stored, None), asked);
        assert_eq!(office.registrar.admit(&applicant.request().unwrap()).unwrap().name, expected);
    }
    let token = office.token(Role::Stored, Some("nas-1"));
    let error = Applicant::new(&token, Some("nas-2"), "this-host", Vec::new()).unwrap_err();
    assert!(matches!(error, ApplicantError::OtherName { .. }));
    let mut request = applicant(&token, Some("nas-1")).request().unwrap();
    request.name = "nas-2".to_owned();
    let wanted = "the join token is for the name `nas-1`: join without --name, or make a token for another";
    assert_eq!(refusal(&office, &request), wanted);
}

#[test]
fn a_token_is_used_once_also_across_a_restart() {
    let office = Office::new();
    let token = office.token(Role::Stored, None);
    office.registrar.admit(&applicant(&token, None).request().unwrap()).unwrap();
    let again = applicant(&token, None).request().unwrap();
    let used = "the join token was used already: make a new one with `dgfs cluster token`";
    assert_eq!(refusal(&office, &again), used);
    let restarted = Registrar::open(&office.directory.0, 365, Vec::new()).unwrap();
    let refused = restarted.admit(&again).unwrap_err();
    assert!(matches!(refused, JoinRefusal::Claim(ClaimError::Used)));
}

#[test]
fn a_request_that_is_refused_does_not_use_the_token_up() {
    let office = Office::new();
    let good = applicant(&office.token(Role::Stored, None), None).request().unwrap();
    let refused = |change: &dyn Fn(&mut JoinRequest)| {
        let mut request = good.clone();
        change(&mut request);
        office.registrar.admit(&request).unwrap_err()
    };
    for name in ["", "a b", "a\nb", &"x".repeat(65)] {
        let refusal = refused(&|request| request.name = name.to_owned());
        assert!(matches!(refusal, JoinRefusal::Certificate(PkiError::BadName { .. })), "{name:?}: {refusal}");
    }
    for host in ["", "a b", "a\nb", "ä.example", &"x".repeat(254)] {
        assert!(matches!(refused(&|request| request.hosts = vec![host.to_owned()]), JoinRefusal::Hosts), "{host:?}");
    }
    assert!(matches!(refused(&|request| request.hosts = vec!["h".to_owned(); 17]), JoinRefusal::Hosts));
    assert!(matches!(refused(&|request| request.token.push('0')), JoinRefusal::Token(TokenError::Damaged)));
    office.registrar.admit(&good).unwrap();
}

#[test]
fn a_key_that_is_not_proven_is_refused() {
    let office = Office::new();
    let good = applicant(&office.token(Role::Stored, None), None).request().unwrap();
    let other = KeyPair::generate().unwrap();
    let elsewhere = applicant(&office.token(Role::Stored, None), None).request().unwrap();
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let p384_key = p384.der_bytes().to_vec();
    let p384_proof = p384.sign(&proof_text(&good.token, &p384_key)).unwrap();
    let cases = [
        (other.der_bytes().to_vec(), good.proof.clone()),
        (good.public_key.clone(), elsewhere.proof),
        (good.public_key.clone(), other.sign(&proof_text(&good.token, &good.public_key)).unwrap()),
        (good.public_key.clone(), Vec::new()),
        (vec![4; 65], good.proof.clone()),
        (vec![0; 65], Vec::new()),
        (Vec::new(), good.proof.clone()),
        (p384_key, p384_proof),
    ];
    for (public_key, proof) in cases {
        let refused = office.registrar.admit(&JoinRequest { public_key, proof, ..good.clone() });
        assert!(matches!(refused, Err(JoinRefusal::Proof)), "{refused:?}");
    }
    office.registrar.admit(&good).unwrap();
}

#[test]
fn a_disk_that_cannot_remember_the_token_lets_nobody_in() {
    let office = Office::new();
    std::fs::remove_dir(office.directory.0.join("used")).unwrap();
    let refused = office.registrar.admit(&applicant(&office.token(Role::Stored, None), None).request().unwrap());
    let refused = refused.unwrap_err();
    assert!(refused.trouble().is_some());
    assert_eq!(refused.to_string(), "the use of the token cannot be written down: see the log of the metadata service");
}

fn grant_of(authority: &ClusterAuthority, applicant: &Applicant, role: Role, name: &str, shown: &str) -> JoinGrant {
    let request = applicant.request().unwrap();
    let key = crate::pki::registrar::ProvenKey::check(&request).unwrap();
    let certificate_pem = authority.sign(&key, role, name, &[], 0..4_000_000_000).unwrap();
    JoinGrant { certificate_pem, authority_pem: shown.to_owned(), meta: Vec::new() }
}

#[test]
fn a_joiner_takes_no_certificate_but_the_one_it_asked_for() {
    let office = Office::new();
    let ours = &office.authority;
    let forged = ours.forged();
    let joiner = applicant(&office.token(Role::Stored, Some("s")), None);
    let somebody = applicant(&office.token(Role::Stored, Some("s")), None);
    let (our_pem, forged_pem) = (&ours.certificate_pem, &forged.certificate_pem);
    let cases = [
        (grant_of(&forged, &joiner, Role::Stored, "s", forged_pem), "is of another authority than the token's"),
        (grant_of(&forged, &joiner, Role::Stored, "s", our_pem), "is not signed by the cluster's authority"),
        (grant_of(ours, &joiner, Role::Client, "s", our_pem), "has another role than the token"),
        (grant_of(ours, &joiner, Role::Stored, "t", our_pem), "has another name than was asked for"),
        (grant_of(ours, &somebody, Role::Stored, "s", our_pem), "is of another key than was sent"),
    ];
    for (grant, reason) in cases {
        let Err(ApplicantError::Answer(said)) = joiner.accept(&grant) else { panic!("taken, where {reason}") };
        assert_eq!(said, reason);
    }
    joiner.accept(&grant_of(ours, &joiner, Role::Stored, "s", our_pem)).unwrap();
    for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let grant = JoinGrant { certificate_pem: pem.to_owned(), authority_pem: our_pem.clone(), meta: Vec::new() };
        assert!(joiner.accept(&grant).is_err(), "{pem}");
    }
}

#[test]
fn a_certificate_days_number_beyond_the_calendar_is_cut_to_it() {
    let office = Office::new();
    let registrar = Registrar::open(&office.directory.0, u32::MAX, Vec::new()).unwrap();
    let joiner = applicant(&office.token(Role::Client, None), None);
    let admitted = registrar.admit(&joiner.request().unwrap()).unwrap();
    assert_eq!(joiner.accept(&admitted.grant).unwrap().valid_until_s(), 253_402_300_799);
}

#[test]
fn requests_of_noise_never_panic_and_never_pass() {
    let office = Office::new();
    let good = codec::encode(&applicant(&office.token(Role::Stored, None), None).request().unwrap()).unwrap();
    let seed = crate::random::number().unwrap();
    println!("seed {seed:#x}");
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for round in 0..4_000 {
        let mut bytes = good.clone();
        for _ in 0..=next() % 3 {
            let place = next() % bytes.len();
            match next() % 3 {
                0 => bytes[place] ^= 1 << (next() % 8),
                1 => bytes.truncate(place.max(1)),
                _ => bytes.insert(place, next() as u8),
            }
        }
        let Ok(request) = codec::decode::<JoinRequest>(&bytes) else { continue };
        // Names are free, and a signature can be written in more than one way; all else is bound to the token's proof.
        let Ok(admitted) = office.registrar.admit(&request) else { continue };
        assert_eq!(admitted.role, Role::Stored, "seed {seed:#x}, round {round}");
        let read = codec::decode::<JoinRequest>(&good).unwrap();
        assert_eq!((request.token, request.public_key), (read.token, read.public_key), "seed {seed:#x}");
    }
}
