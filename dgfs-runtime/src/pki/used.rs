//! The tokens that were used, so that each is good for one certificate.
//!
//! Never knows what a token is for. Always: of all who show the same token to
//! services that share one authority directory, one is let in, also after a
//! power cut.
//!
//! A used token is an empty file `used/EXPIRY-NONCE` beside the authority. All that matters is the name, and a name is
//! there or not: nothing can be half written. Crash points: before the name is on the disk nobody was answered, so the
//! token may be used again; after it the token is used up, and a joiner without an answer needs another.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use thiserror::Error;

use crate::disk;
use crate::pki::token::TokenNonce;

/// Tokens remembered: more than anybody makes within the longest validity. Beyond, nobody joins until some expire.
const USED_MAX: usize = 65_536;
/// How long after its end a token is remembered: the clocks of two services may differ by less.
const KEEP_S: u64 = 86_400;
/// The directory beside the authority.
const DIRECTORY: &str = "used";

/// Why a token cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ClaimError {
    /// Somebody was first.
    #[error("the join token was used already: make a new one with `dgfs cluster token`")]
    Used,
    /// [`USED_MAX`] are remembered.
    #[error("{USED_MAX} join tokens were used within their time: wait until some have expired")]
    Full,
    /// It could not be written down.
    #[error("the use of the token cannot be written down: see the log of the metadata service")]
    Io(#[source] io::Error),
}

/// Who was let in, by the nonce of the token.
pub(crate) struct UsedTokens {
    directory: PathBuf,
    /// When each expires. The files decide; this spares them being asked, and outlives somebody's `rm`.
    known: Mutex<BTreeMap<TokenNonce, u64>>,
}

impl UsedTokens {
    /// Those of the authority in `authority`.
    pub(crate) fn open(authority: &Path) -> io::Result<Self> {
        let directory = authority.join(DIRECTORY);
        disk::create_dir_durably(&directory)?;
        let known = names(&directory)?.into_iter().map(|used| (used.nonce, used.expires_s)).collect();
        Ok(Self { directory, known: Mutex::new(known) })
    }

    /// Uses a token up; when this returns `Ok`, that is on the disk, and nobody else ever hears `Ok` for it.
    pub(crate) fn claim(&self, nonce: TokenNonce, expires_s: u64, now_s: u64) -> Result<(), ClaimError> {
        self.forget(now_s);
        {
            let mut known = self.known.lock();
            if known.contains_key(&nonce) {
                return Err(ClaimError::Used);
            }
            if known.len() >= USED_MAX {
                return Err(ClaimError::Full);
            }
            // Stays also when the disk refuses: whether the name is there is then not known.
            known.insert(nonce, expires_s);
        }
        let path = self.directory.join(format!("{expires_s}-{}", nonce.to_hex()));
        disk::claim_name_durably(&path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => ClaimError::Used,
            _ => ClaimError::Io(error),
        })
    }

    /// Drops what nobody could use any more. What cannot be removed only takes room.
    fn forget(&self, now_s: u64) {
        let over = |expires_s: u64| expires_s.saturating_add(KEEP_S) < now_s;
        self.known.lock().retain(|_, expires_s| !over(*expires_s));
        for used in names(&self.directory).unwrap_or_default() {
            if over(used.expires_s) {
                let _ = std::fs::remove_file(&used.path);
            }
        }
    }
}

struct UsedName {
    path: PathBuf,
    nonce: TokenNonce,
    expires_s: u64,
}

fn names(directory: &Path) -> io::Result<Vec<UsedName>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)?.take(2 * USED_MAX) {
        let path = entry?.path();
        let parsed = path.file_name().and_then(|name| parse(name.to_str()?));
        // Anything else that lies there is not ours.
        let Some((expires_s, nonce)) = parsed else { continue };
        names.push(UsedName { path, nonce, expires_s });
    }
    Ok(names)
}

fn parse(name: &str) -> Option<(u64, TokenNonce)> {
    let (expires_s, nonce) = name.split_once('-')?;
    Some((expires_s.parse().ok()?, TokenNonce::from_hex(nonce)?))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{ClaimError, KEEP_S, UsedTokens};
    use crate::pki::token::TokenNonce;
    use crate::quic::tests::support::TestDirectory;

    fn nonce(number: u8) -> TokenNonce {
        TokenNonce::from_hex(&format!("{number:032x}")).unwrap()
    }

    #[test]
    fn a_token_is_used_once_also_after_a_restart_and_by_another_service() {
        let directory = TestDirectory::new();
        let first = UsedTokens::open(&directory.0).unwrap();
        let other = UsedTokens::open(&directory.0).unwrap();
        first.claim(nonce(1), 100, 50).unwrap();
        for used in [&first, &other, &UsedTokens::open(&directory.0).unwrap()] {
            assert!(matches!(used.claim(nonce(1), 100, 60), Err(ClaimError::Used)));
        }
        other.claim(nonce(2), 100, 60).unwrap();
    }

    #[test]
    fn of_many_at_once_one_is_first() {
        let directory = TestDirectory::new();
        let services: Vec<UsedTokens> = (0..2).map(|_| UsedTokens::open(&directory.0).unwrap()).collect();
        let let_in = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for number in 0..16 {
                let (used, let_in) = (&services[number % 2], &let_in);
                scope.spawn(move || {
                    if used.claim(nonce(1), 100, 50).is_ok() {
                        let_in.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(let_in.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_token_is_forgotten_long_after_its_end() {
        let directory = TestDirectory::new();
        let used = UsedTokens::open(&directory.0).unwrap();
        used.claim(nonce(1), 100, 50).unwrap();
        used.claim(nonce(2), 200, 100 + KEEP_S).unwrap();
        assert!(matches!(used.claim(nonce(1), 100, 100 + KEEP_S), Err(ClaimError::Used)));
        used.claim(nonce(3), 200, 101 + KEEP_S).unwrap();
        assert_eq!(std::fs::read_dir(directory.0.join("used")).unwrap().count(), 2);
    }

    #[test]
    fn a_disk_that_refuses_lets_nobody_in() {
        let directory = TestDirectory::new();
        let used = UsedTokens::open(&directory.0).unwrap();
        std::fs::remove_dir(directory.0.join("used")).unwrap();
        assert!(matches!(used.claim(nonce(1), 100, 50), Err(ClaimError::Io(_))));
        std::fs::create_dir(directory.0.join("used")).unwrap();
        assert!(matches!(used.claim(nonce(1), 100, 50), Err(ClaimError::Used)));
    }
}
