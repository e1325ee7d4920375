//! Promises of the token.

use std::sync::Arc;
use std::time::Duration;

use crate::channel::Role;
use crate::clock::{Clock, ManualClock};
use crate::pki::token::{
    CHECK_BYTES, Fingerprint, JoinToken, PREFIX, TOKEN_TEXT_BYTES_MAX, TokenError, TokenNonce, VALID_DEFAULT,
    VALID_MAX, bytes_of, check_of, hex_of,
};
use crate::pki::{ClusterAuthority, NAME_BYTES_MAX};
use crate::quic::tests::support::TestDirectory;

const NOW_S: u64 = 1_800_000_000;

/// An authority whose clock stands at [`NOW_S`].
fn authority() -> (ClusterAuthority, Arc<ManualClock>) {
    let directory = TestDirectory::new();
    let hand = ManualClock::starting_at(NOW_S * 1_000_000_000);
    let mut authority = ClusterAuthority::create(&directory.0).unwrap();
    authority.clock = Clock::manual(&hand);
    (authority, hand)
}

fn sentence(authority: &ClusterAuthority, token: &JoinToken) -> String {
    authority.check_token(token).unwrap_err().to_string()
}

/// The token of these bytes, the check at their end made to fit.
fn with_right_check(bytes: &[u8]) -> Result<JoinToken, TokenError> {
    let (rest, _) = bytes.split_at(bytes.len() - CHECK_BYTES);
    let mut bytes = rest.to_vec();
    bytes.extend_from_slice(&check_of(rest));
    JoinToken::parse(&format!("{PREFIX}{}", hex_of(&bytes)))
}

fn bytes_in(token: &JoinToken) -> Vec<u8> {
    bytes_of(token.to_text().strip_prefix(PREFIX).unwrap()).unwrap()
}

#[test]
fn a_token_says_the_same_after_printing_and_reading() {
    let (authority, _) = authority();
    let long = "n".repeat(NAME_BYTES_MAX);
    for role in Role::ALL {
        for name in [None, Some("storage-3"), Some(long.as_str())] {
            let token = authority.join_token(role, name, VALID_DEFAULT).unwrap();
            let text = token.to_text();
            assert!(text.len() <= TOKEN_TEXT_BYTES_MAX && !text.contains(char::is_whitespace), "{text}");
            let read = JoinToken::parse(&format!(" {text}\n")).unwrap();
            assert_eq!(read, token);
            assert_eq!((read.role(), read.name()), (role, name));
            assert_eq!((read.issued_s, read.expires_s), (NOW_S, NOW_S + 3600));
            authority.check_token(&read).unwrap();
        }
    }
}

#[test]
fn the_layout_of_a_token_stays_as_it_is() {
    let token = JoinToken {
        role: Role::Stored,
        name: Some("s-1".to_owned()),
        issued_s: NOW_S,
        expires_s: NOW_S + 3600,
        nonce: TokenNonce([0x11; 16]),
        authority: Fingerprint([0x22; 32]),
        mac: [0x33; 32],
    };
    let golden = [
        "dgfsjoin1.0203",
        "00d2496b00000000",
        "10e0496b00000000",
        &"11".repeat(16),
        &"22".repeat(32),
        "732d31",
        &"33".repeat(32),
        "2ee28e25",
    ]
    .concat();
    assert_eq!(token.to_text(), golden);
    assert_eq!(JoinToken::parse(&golden).unwrap(), token);
}

#[test]
fn a_token_with_one_letter_changed_is_no_token() {
    let (authority, _) = authority();
    let text = authority.join_token(Role::Stored, Some("storage-3"), VALID_DEFAULT).unwrap().to_text();
    for place in 0..text.len() {
        for letter in [b'0', b'1', b'8', b'a', b'f', b'F', b'.', b'-', b' ', b'\n', 0, 0x7f] {
            let mut changed = text.clone().into_bytes();
            if changed[place] == letter {
                continue;
            }
            changed[place] = letter;
            let changed = String::from_utf8(changed).unwrap();
            assert!(JoinToken::parse(&changed).is_err(), "letter {place}: {changed:?}");
        }
        assert!(JoinToken::parse(&text[..place]).is_err(), "cut at {place}");
    }
    assert!(JoinToken::parse(&format!("{text}00")).is_err());
    assert!(JoinToken::parse(&text.to_uppercase()).is_err());
}

/// Whoever changes a token can also mend its check; the MAC is what stands in the way.
#[test]
fn a_forger_who_changes_any_bit_and_mends_the_check_is_refused() {
    let (authority, _) = authority();
    let token = authority.join_token(Role::Client, Some("laptop"), VALID_DEFAULT).unwrap();
    let bytes = bytes_in(&token);
    for place in 0..bytes.len() - CHECK_BYTES {
        for bit in 0..8 {
            let mut forged = bytes.clone();
            forged[place] ^= 1 << bit;
            let Ok(forged) = with_right_check(&forged) else { continue };
            assert_ne!(forged, token);
            let refusal = authority.check_token(&forged);
            assert!(
                matches!(refusal, Err(TokenError::Forged | TokenError::OtherCluster { .. })),
                "bit {bit} of byte {place}: {refusal:?}"
            );
        }
    }
}

#[test]
fn a_role_cannot_be_raised() {
    let (authority, _) = authority();
    let mut token = authority.join_token(Role::Client, None, VALID_DEFAULT).unwrap();
    token.role = Role::Meta;
    assert_eq!(
        sentence(&authority, &token),
        "the join token was not made with this cluster's authority key: make a new one with `dgfs cluster token`"
    );
}

#[test]
fn a_token_ends_by_itself() {
    let (authority, hand) = authority();
    let token = authority.join_token(Role::Stored, None, Duration::from_secs(60)).unwrap();
    hand.advance(Duration::from_secs(60));
    authority.check_token(&token).unwrap();
    hand.advance(Duration::from_secs(12 * 60));
    assert_eq!(
        sentence(&authority, &token),
        "the join token expired 12 min ago: make a new one with `dgfs cluster token`"
    );
}

#[test]
fn a_token_from_the_future_names_the_clocks() {
    let (authority, hand) = authority();
    let token = authority.join_token(Role::Stored, None, VALID_DEFAULT).unwrap();
    hand.set_wall_ns((NOW_S - 299) * 1_000_000_000);
    authority.check_token(&token).unwrap();
    hand.set_wall_ns((NOW_S - 7200) * 1_000_000_000);
    assert_eq!(
        sentence(&authority, &token),
        "the join token was made 2 h in the future, by the clock of this metadata service: check the clocks of both \
         hosts"
    );
}

#[test]
fn a_token_of_another_cluster_is_named_so_even_if_it_bears_the_same_name() {
    let (ours, _) = authority();
    let theirs = ours.forged();
    let token = theirs.join_token(Role::Stored, None, VALID_DEFAULT).unwrap();
    let said = sentence(&ours, &token);
    let (a, b) = (theirs.fingerprint().unwrap(), ours.fingerprint().unwrap());
    assert_eq!(
        said,
        format!(
            "the join token is of another cluster (its authority's certificate is {a}, this cluster's is {b}): check \
             the address, or make a token with this cluster's authority"
        )
    );
}

#[test]
fn a_token_is_made_for_a_bounded_time_and_a_name_that_fits() {
    let (authority, _) = authority();
    let made = |name, valid| authority.join_token(Role::Stored, name, valid);
    made(None, VALID_MAX).unwrap();
    for valid in [Duration::ZERO, Duration::from_millis(999), VALID_MAX + Duration::from_secs(1), Duration::MAX] {
        let sentence = made(None, valid).unwrap_err().to_string();
        assert_eq!(sentence, "a join token is valid for 1 second to 7 days");
    }
    for name in ["", "a b", &"x".repeat(NAME_BYTES_MAX + 1)] {
        assert!(matches!(made(Some(name), VALID_DEFAULT), Err(TokenError::Certificate(_))), "{name:?}");
    }
}

#[test]
fn what_is_no_token_is_told_so() {
    for text in ["", "dgfsjoin", "dgfsjoin2.00", "@file", "\u{0}"] {
        assert!(matches!(JoinToken::parse(text), Err(TokenError::NoToken)), "{text:?}");
    }
    for text in [PREFIX, "dgfsjoin1.0", "dgfsjoin1.zz", "dgfsjoin1.ää", &format!("{PREFIX}{}", "0".repeat(100_000))] {
        assert!(matches!(JoinToken::parse(text), Err(TokenError::Damaged)), "{text:?}");
    }
}

#[test]
fn printing_a_token_for_a_log_shows_nothing_that_makes_it_valid() {
    let (authority, _) = authority();
    let token = authority.join_token(Role::Stored, Some("s"), VALID_DEFAULT).unwrap();
    let shown = format!("{token:?}");
    assert!(!shown.contains(&token.nonce.to_hex()) && !shown.contains("mac"), "{shown}");
}

#[test]
fn noise_is_never_a_token_and_never_a_panic() {
    let (authority, _) = authority();
    let token = authority.join_token(Role::Stored, Some("storage-3"), VALID_DEFAULT).unwrap();
    let seed = crate::random::number().unwrap();
    println!("seed {seed:#x}");
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    for round in 0..20_000 {
        let mut bytes = bytes_in(&token);
        if round % 3 == 0 {
            bytes = (0..next() % 300).map(|_| next() as u8).collect();
        }
        for _ in 0..=next() % 4 {
            match next() % 4 {
                0 if !bytes.is_empty() => {
                    let place = next() as usize % bytes.len();
                    bytes[place] ^= 1 << (next() % 8);
                }
                1 => bytes.truncate(next() as usize % (bytes.len() + 1)),
                2 => bytes.insert(next() as usize % (bytes.len() + 1), next() as u8),
                _ => {}
            }
        }
        let _ = JoinToken::parse(&String::from_utf8_lossy(&bytes));
        let _ = JoinToken::parse(&format!("{PREFIX}{}", String::from_utf8_lossy(&bytes)));
        if bytes.len() < CHECK_BYTES {
            continue;
        }
        if let Ok(read) = with_right_check(&bytes) {
            assert_eq!(JoinToken::parse(&read.to_text()).unwrap(), read);
            assert!(read == token || authority.check_token(&read).is_err(), "seed {seed:#x}, round {round}");
        }
    }
}
