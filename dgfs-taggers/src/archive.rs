//! Archives: what is in them, without unpacking it.
//!
//! Never writes a member anywhere. Listings are bounded in members and bytes; what is packed is unpacked only as far as
//! its names need, so a bomb costs no more than its first bytes.

pub(crate) mod tar;
pub(crate) mod zip;

use std::io::Read;

use flate2::read::MultiGzDecoder;

use crate::findings::{Findings, LINKS_MAX, LinkKind};
use crate::job::Job;
use crate::kind::{Class, Kind};
use crate::tagger::{Tagger, TaggerError};

/// Bytes that a compressed archive is unpacked to at most, to list it.
const UNPACKED_BYTES_MAX: u64 = 256 << 20;

/// One member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Unpacked, as the archive says.
    pub(crate) size: u64,
    pub(crate) is_encrypted: bool,
}

/// A listing.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// At most [`LINKS_MAX`].
    pub(crate) members: Vec<Member>,
    /// All members, also those that are not listed.
    pub(crate) count: u64,
    /// Bytes of all members together, unpacked.
    pub(crate) size: u64,
    /// Whether the end was reached.
    pub(crate) is_whole: bool,
}

impl Listing {
    pub(crate) fn add(&mut self, member: Member) {
        self.count += 1;
        self.size = self.size.saturating_add(member.size);
        if self.members.len() < LINKS_MAX {
            self.members.push(member);
        }
    }
}

/// Lists archives.
pub(crate) struct ArchiveTagger;

impl Tagger for ArchiveTagger {
    fn name(&self) -> &'static str {
        "archive"
    }

    fn version(&self) -> u32 {
        1
    }

    fn wants(&self, kind: &Kind) -> bool {
        kind.class == Class::Archive
    }

    fn examine(&self, job: &Job<'_>, kind: &Kind, out: &mut Findings) -> Result<(), TaggerError> {
        match kind.mime.as_str() {
            "application/gzip" => gzip(job, out),
            "application/x-tar" => {
                report(&tar::list(job.bytes)?, out);
                Ok(())
            }
            _ if job.bytes.starts_with(b"PK") => {
                report(&zip::list(job)?, out);
                Ok(())
            }
            _ => {
                out.note(&format!("archives of the kind {} are not listed", kind.mime));
                Ok(())
            }
        }
    }
}

fn report(listing: &Listing, out: &mut Findings) {
    for member in &listing.members {
        out.link(LinkKind::Member, &member.name);
        out.append_text(&member.name);
    }
    out.number("members", listing.count as f64);
    out.number("unpacked-size", listing.size as f64);
    if listing.members.iter().any(|member| member.is_encrypted) {
        out.mark("encrypted", 1.0);
        out.note("some members are encrypted");
    }
    if listing.count > LINKS_MAX as u64 {
        out.note(&format!("{} members, of which {LINKS_MAX} are listed", listing.count));
    }
    if !listing.is_whole {
        out.note("the archive goes on behind the bytes that were read");
    }
}

/// A packed tar is listed; any other packed file tells its name.
fn gzip(job: &Job<'_>, out: &mut Findings) -> Result<(), TaggerError> {
    if let Some(name) = gzip_name(job.bytes) {
        out.link(LinkKind::Member, &name);
    }
    let mut head = [0; 512];
    let mut unpacked = MultiGzDecoder::new(job.bytes).take(UNPACKED_BYTES_MAX);
    let mut len = 0;
    while let Some(rest) = head.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match unpacked.read(rest) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) => return Err(TaggerError::malformed("gzip", error)),
        }
    }
    if tar::is_tar(&head) {
        let whole = std::io::Cursor::new(head).chain(unpacked);
        report(&tar::list_stream(whole, UNPACKED_BYTES_MAX)?, out);
        out.mark("tarball", 1.0);
    }
    Ok(())
}

/// The name that `gzip` stores before the data, if its flags say so.
fn gzip_name(bytes: &[u8]) -> Option<String> {
    const HAS_EXTRA: u8 = 4;
    const HAS_NAME: u8 = 8;
    let flags = *bytes.get(3)?;
    if flags & HAS_NAME == 0 || flags & HAS_EXTRA != 0 {
        return None;
    }
    let name = bytes.get(10..10 + 1024).or_else(|| bytes.get(10..))?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests;
