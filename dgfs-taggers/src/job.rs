//! One file to look at.
//!
//! Never holds more than the beginning of a file, and nothing that tells where the file lies.

/// Bytes of a file that a job carries at most. A tagger that would need more says so in its notes.
pub const BYTES_MAX: usize = 64 << 20;

/// Bytes of a file's name that a job carries at most, as in the file system.
pub const NAME_BYTES_MAX: usize = 255;

/// A file's beginning, with what is known about it from outside.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Base name, without directories.
    pub name: &'a str,
    /// Bytes of the whole file; `bytes` may be fewer.
    pub size: u64,
    /// The beginning of the file, at most [`BYTES_MAX`].
    pub bytes: &'a [u8],
    /// What `user.mime_type` says. It replaces what the content looks like.
    pub mime_hint: Option<&'a str>,
    /// What `user.charset` says. It replaces the guess, as long as it names a known encoding.
    pub charset_hint: Option<&'a str>,
}

impl Job<'_> {
    /// Whether `bytes` is the whole file.
    pub fn is_whole(&self) -> bool {
        u64::try_from(self.bytes.len()).is_ok_and(|len| len >= self.size)
    }

    /// The name up to its last dot; the whole name where it has none or begins with its only one.
    pub fn stem(&self) -> &str {
        match self.name.rsplit_once('.') {
            Some((stem, _)) if !stem.is_empty() => stem,
            Some(_) | None => self.name,
        }
    }
}
