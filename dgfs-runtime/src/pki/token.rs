//! The join token: a line of text that lets one machine get one certificate.
//!
//! Never holds anything from which the authority's key could be found. Always:
//! what a token says was decided by whoever holds that key, ends by itself, and
//! a line with one letter changed is refused.
//!
//! Its layout is drawn in `docs/FORMATS.md`.

#[cfg(test)]
mod tests;

use std::fmt::{self, Write as _};
use std::io;
use std::time::Duration;

use ring::{digest, hmac};
use thiserror::Error;

use crate::channel::Role;
use crate::pki::{ClusterAuthority, NAME_BYTES_MAX, PkiError, check_name};
use crate::random;

/// How long a token is valid unless told otherwise.
pub const VALID_DEFAULT: Duration = Duration::from_secs(3600);
/// A token is for a machine that is being set up now: a week covers the slowest of these.
pub const VALID_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// A longer line is no token.
pub const TOKEN_TEXT_BYTES_MAX: usize = PREFIX.len() + 2 * (FIXED_BYTES + NAME_BYTES_MAX);

/// Begins every token: what it is, and the version of its layout.
const PREFIX: &str = "dgfsjoin1.";
/// Turns the authority's key into one that is good for nothing but this.
const KEY_LABEL: &[u8] = b"dgfs join token 1";
const NONCE_BYTES: usize = 16;
const FINGERPRINT_BYTES: usize = 32;
const MAC_BYTES: usize = 32;
/// Tells a slip in copying from a forgery, also to those who cannot check the MAC.
const CHECK_BYTES: usize = 4;
/// Role, length of the name, two times, nonce, fingerprint, MAC, check.
const FIXED_BYTES: usize = 1 + 1 + 8 + 8 + NONCE_BYTES + FINGERPRINT_BYTES + MAC_BYTES + CHECK_BYTES;
/// Clocks of a cluster may differ by so much; a token from further ahead is of a wrong clock.
const CLOCK_SLACK_S: u64 = 300;

/// Why a token was not made or not taken.
#[derive(Debug, Error)]
pub enum TokenError {
    /// Not a token at all, or of another version.
    #[error("this is no join token of this version of DGFS: give the whole line that `dgfs cluster token` printed")]
    NoToken,
    /// Something was changed on the way.
    #[error("the join token is damaged: copy the whole line that `dgfs cluster token` printed again")]
    Damaged,
    /// Made by another authority.
    #[error(
        "the join token is of another cluster (its authority's certificate is {theirs}, this cluster's is {ours}): \
         check the address, or make a token with this cluster's authority"
    )]
    OtherCluster {
        /// Whose it is.
        theirs: Fingerprint,
        /// Who was asked.
        ours: Fingerprint,
    },
    /// Names this cluster, but its authority did not make it.
    #[error("the join token was not made with this cluster's authority key: make a new one with `dgfs cluster token`")]
    Forged,
    /// Past its time.
    #[error("the join token expired {} ago: make a new one with `dgfs cluster token`", span(*.ago_s))]
    Expired {
        /// Seconds since then, by the clock of who checked.
        ago_s: u64,
    },
    /// Before its time.
    #[error(
        "the join token was made {} in the future, by the clock of this metadata service: check the clocks of both hosts",
        span(*.ahead_s)
    )]
    FromTheFuture {
        /// Seconds until then, by the clock of who checked.
        ahead_s: u64,
    },
    /// Asked for too long, or for no time.
    #[error("a join token is valid for 1 second to {}", span(VALID_MAX.as_secs()))]
    Validity,
    /// A name that fits no certificate, or an authority without one.
    #[error(transparent)]
    Certificate(#[from] PkiError),
    /// No randomness from the system.
    #[error("make a join token: {0}")]
    Random(#[source] io::Error),
}

/// SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; FINGERPRINT_BYTES]);

impl Fingerprint {
    /// That of a certificate in DER.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        Self(sha256(certificate))
    }
}

/// The first 8 bytes, enough for a person to compare.
impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(formatter, "{byte:02x}"))?;
        formatter.write_char('…')
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// What makes each token different.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TokenNonce([u8; NONCE_BYTES]);

impl TokenNonce {
    /// 32 digits.
    pub(crate) fn to_hex(self) -> String {
        hex_of(&self.0)
    }

    pub(crate) fn from_hex(digits: &str) -> Option<Self> {
        Some(Self(bytes_of(digits)?.try_into().ok()?))
    }
}

/// A token as it was read. Only the authority can tell whether it is true.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub(crate) role: Role,
    pub(crate) name: Option<String>,
    pub(crate) issued_s: u64,
    pub(crate) expires_s: u64,
    pub(crate) nonce: TokenNonce,
    pub(crate) authority: Fingerprint,
    mac: [u8; MAC_BYTES],
}

/// Without what makes it valid.
impl fmt::Debug for JoinToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("JoinToken");
        shown.field("role", &self.role).field("name", &self.name).field("expires_s", &self.expires_s);
        shown.finish_non_exhaustive()
    }
}

impl JoinToken {
    /// Reads a line; spaces around it do not matter, a capital letter does.
    ///
    /// # Errors
    /// `NoToken` or `Damaged`.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let digits = text.strip_prefix(PREFIX).ok_or(TokenError::NoToken)?;
        if text.len() > TOKEN_TEXT_BYTES_MAX {
            return Err(TokenError::Damaged);
        }
        let bytes = bytes_of(digits).ok_or(TokenError::Damaged)?;
        Self::from_bytes(&bytes).ok_or(TokenError::Damaged)
    }

    /// The line.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut bytes = self.signed_bytes();
        bytes.extend_from_slice(&self.mac);
        let check = check_of(&bytes);
        bytes.extend_from_slice(&check);
        format!("{PREFIX}{}", hex_of(&bytes))
    }

    /// The role that the certificate will have.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The name that the certificate will have; none: the joiner says it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The certificate of the cluster's authority.
    #[must_use]
    pub fn authority(&self) -> Fingerprint {
        self.authority
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (checked, check) = bytes.split_last_chunk::<CHECK_BYTES>()?;
        if check_of(checked) != *check {
            return None;
        }
        let (rest, mac) = checked.split_last_chunk::<MAC_BYTES>()?;
        let ([role, name_len], rest) = rest.split_first_chunk()?;
        let (issued, rest) = rest.split_first_chunk()?;
        let (expires, rest) = rest.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (authority, name) = rest.split_first_chunk()?;
        if name.len() != usize::from(*name_len) {
            return None;
        }
        let name = std::str::from_utf8(name).ok()?;
        if !name.is_empty() {
            check_name(name).ok()?;
        }
        Some(Self {
            role: role_of(*role)?,
            name: (!name.is_empty()).then(|| name.to_owned()),
            issued_s: u64::from_le_bytes(*issued),
            expires_s: u64::from_le_bytes(*expires),
            nonce: TokenNonce(*nonce),
            authority: Fingerprint(*authority),
            mac: *mac,
        })
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let name = self.name.as_deref().unwrap_or_default().as_bytes();
        let mut bytes = Vec::with_capacity(FIXED_BYTES + name.len());
        // A name was checked to be at most NAME_BYTES_MAX long.
        bytes.extend_from_slice(&[number_of(self.role), u8::try_from(name.len()).unwrap_or(u8::MAX)]);
        bytes.extend_from_slice(&self.issued_s.to_le_bytes());
        bytes.extend_from_slice(&self.expires_s.to_le_bytes());
        bytes.extend_from_slice(&self.nonce.0);
        bytes.extend_from_slice(&self.authority.0);
        bytes.extend_from_slice(name);
        bytes
    }
}

impl ClusterAuthority {
    /// Makes a token that gives a certificate with `role` (and `name`, where given) to whoever shows it first,
    /// within `valid` from now.
    ///
    /// # Errors
    /// `Validity` for no time or more than [`VALID_MAX`], `Certificate` for a name that fits no certificate, `Random`.
    pub fn join_token(&self, role: Role, name: Option<&str>, valid: Duration) -> Result<JoinToken, TokenError> {
        if valid.as_secs() == 0 || valid > VALID_MAX {
            return Err(TokenError::Validity);
        }
        name.map_or(Ok(()), check_name)?;
        let mut nonce = [0; NONCE_BYTES];
        random::fill(&mut nonce).map_err(TokenError::Random)?;
        let issued_s = self.clock.wall_ms() / 1000;
        let mut token = JoinToken {
            role,
            name: name.map(str::to_owned),
            issued_s,
            expires_s: issued_s.saturating_add(valid.as_secs()),
            nonce: TokenNonce(nonce),
            authority: self.fingerprint()?,
            mac: [0; MAC_BYTES],
        };
        let mac = hmac::sign(&self.token_key(), &token.signed_bytes());
        token.mac.iter_mut().zip(mac.as_ref()).for_each(|(place, byte)| *place = *byte);
        Ok(token)
    }

    /// Refuses a token that this authority did not make, or whose time it is not. Whether it was used is not known here.
    ///
    /// # Errors
    /// `OtherCluster`, `Forged`, `Expired`, `FromTheFuture`.
    pub(crate) fn check_token(&self, token: &JoinToken) -> Result<(), TokenError> {
        let ours = self.fingerprint()?;
        if token.authority != ours {
            return Err(TokenError::OtherCluster { theirs: token.authority, ours });
        }
        hmac::verify(&self.token_key(), &token.signed_bytes(), &token.mac).map_err(|_| TokenError::Forged)?;
        let now_s = self.clock.wall_ms() / 1000;
        if now_s > token.expires_s {
            return Err(TokenError::Expired { ago_s: now_s - token.expires_s });
        }
        if token.issued_s > now_s.saturating_add(CLOCK_SLACK_S) {
            return Err(TokenError::FromTheFuture { ahead_s: token.issued_s - now_s });
        }
        Ok(())
    }

    /// A key that nobody has who has not the authority's, and that does not give it away.
    fn token_key(&self) -> hmac::Key {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, self.issuer.key().serialized_der());
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&secret, KEY_LABEL).as_ref())
    }
}

/// Numbers of roles in tokens; never given to another role.
fn number_of(role: Role) -> u8 {
    match role {
        Role::Meta => 1,
        Role::Stored => 2,
        Role::Index => 3,
        Role::Client => 4,
    }
}

fn role_of(number: u8) -> Option<Role> {
    Role::ALL.into_iter().find(|role| number_of(*role) == number)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.iter_mut().zip(digest::digest(&digest::SHA256, bytes).as_ref()).for_each(|(place, byte)| *place = *byte);
    sum
}

fn check_of(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let [a, b, c, d, ..] = sha256(bytes);
    [a, b, c, d]
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Small letters only: each token has one spelling.
fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let digit = |letter: u8| match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect()
}

/// A time span for people: the largest whole unit.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3600),
        172_800.. => format!("{} days", seconds / 86_400),
    }
}
