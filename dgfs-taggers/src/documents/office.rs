//! The tagger of documents that are ZIPs of XML: Office Open XML, OpenDocument, EPUB.
//!
//! Never unpacks more than its bound over all parts together, so a bomb costs one bounded job. XML entities are not
//! expanded but for the five that every document has.

use super::{epub, odf, ooxml};
use crate::archive::zip::Zip;
use crate::findings::Findings;
use crate::job::Job;
use crate::kind::Kind;
use crate::tagger::{Tagger, TaggerError};
use crate::text::{PROSE_BYTES_MAX, Prose, describe};

/// Unpacked bytes of all parts that are read.
const UNPACKED_BYTES_MAX: u64 = 64 << 20;

/// See the module.
pub(crate) struct OfficeTagger;

/// The parts of a document, unpacked one by one within a common bound.
pub(crate) struct Parts<'a> {
    zip: Zip<'a>,
    bytes_left: u64,
}

impl Parts<'_> {
    /// The text of a part; `None` if it is not there, is encrypted, or the bound is reached.
    pub(crate) fn read(&mut self, name: &str) -> Option<String> {
        let content = self.zip.read(name, self.bytes_left)?;
        self.bytes_left = self.bytes_left.saturating_sub(content.len() as u64);
        Some(crate::text::decode::decode(&content, None, content.len()).text)
    }

    /// Names of the parts that begin and end so, in the order of the numbers in them.
    pub(crate) fn numbered(&self, start: &str, end: &str) -> Vec<String> {
        let names = self.zip.names().filter(|name| name.starts_with(start) && name.ends_with(end));
        let mut names: Vec<_> = names.map(str::to_owned).collect();
        let number =
            |name: &String| name.chars().filter(char::is_ascii_digit).take(9).collect::<String>().parse::<u32>().ok();
        names.sort_by_key(|name| (number(name), name.clone()));
        names
    }

    /// Whether nothing more can be read.
    pub(crate) fn is_spent(&self) -> bool {
        self.bytes_left == 0
    }
}

impl Tagger for OfficeTagger {
    fn name(&self) -> &'static str {
        "office"
    }

    fn version(&self) -> u32 {
        1
    }

    fn wants(&self, kind: &Kind) -> bool {
        matches!(kind.ext.as_str(), "docx" | "xlsx" | "pptx" | "odt" | "ods" | "odp" | "odg" | "epub")
    }

    fn examine(&self, job: &Job<'_>, kind: &Kind, out: &mut Findings) -> Result<(), TaggerError> {
        if job.bytes.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]) {
            out.mark("encrypted", 1.0);
            out.note("the document is encrypted");
            return Ok(());
        }
        let mut parts = Parts { zip: Zip::open(job.bytes)?, bytes_left: UNPACKED_BYTES_MAX };
        let prose = match kind.ext.as_str() {
            "epub" => epub::read(&mut parts, out)?,
            "docx" | "xlsx" | "pptx" => ooxml::read(&mut parts, kind, out)?,
            _ => odf::read(&mut parts, out)?,
        };
        finish(&prose, &parts, out);
        if !job.is_whole() {
            out.note(&format!("only the first {} MiB were read", job.bytes.len() >> 20));
        }
        Ok(())
    }
}

fn finish(prose: &Prose, parts: &Parts<'_>, out: &mut Findings) {
    if parts.is_spent() {
        out.note(&format!("unpacked beyond {} MiB: the rest was not read", UNPACKED_BYTES_MAX >> 20));
    } else if prose.body.len() >= PROSE_BYTES_MAX {
        out.note(&format!("only the first {} KiB of text were read", PROSE_BYTES_MAX >> 10));
    }
    describe(prose, out);
}

#[cfg(test)]
mod tests;
