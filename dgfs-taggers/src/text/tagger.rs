//! The tagger of texts: plain text, Markdown, web pages, source code and data made of characters.
//!
//! Never reads a document format; `documents` does. A text is decoded once and given to the reader of its markup.

use super::{Prose, code, decode, describe, html, index_only, markdown, rtf};
use crate::findings::Findings;
use crate::job::Job;
use crate::kind::{Class, Kind};
use crate::tagger::{Tagger, TaggerError};

/// Bytes of a text that are read: a book has one million, so a longer text is a log or data, whose beginning will do.
const READ_BYTES_MAX: usize = 4 << 20;

/// See the module.
pub(crate) struct TextTagger;

impl Tagger for TextTagger {
    fn name(&self) -> &'static str {
        "text"
    }

    fn version(&self) -> u32 {
        1
    }

    fn wants(&self, kind: &Kind) -> bool {
        let is_mail = matches!(kind.mime.as_str(), "message/rfc822" | "application/mbox" | "multipart/related");
        kind.is_textual() && !is_mail
    }

    fn examine(&self, job: &Job<'_>, kind: &Kind, out: &mut Findings) -> Result<(), TaggerError> {
        let decoded = decode::decode(job.bytes, job.charset_hint, READ_BYTES_MAX);
        if job.size > decoded_bytes(job) {
            out.note(&format!("only the first {} KiB were read", decoded_bytes(job) >> 10));
        }
        out.text_value("charset", decoded.charset);
        match (kind.class, kind.mime.as_str()) {
            (Class::Code, _) => code::describe(&decoded.text, kind, out),
            (_, "text/html") => html::read(&decoded.text, out),
            (_, "text/markdown") => markdown::read(&decoded.text, out),
            (Class::Text, _) => describe(&plain(&decoded.text), out),
            (_, "application/rtf") => describe(&rtf::text_of(&decoded.text), out),
            (Class::Image, _) => out.text_value("title", &html::title_of(&decoded.text)),
            _ if kind.lang.as_deref() == Some("xml") => describe(&html::strip(&decoded.text), out),
            _ => index_only(&decoded.text, out),
        }
        Ok(())
    }
}

fn decoded_bytes(job: &Job<'_>) -> u64 {
    job.bytes.len().min(READ_BYTES_MAX).try_into().unwrap_or(u64::MAX)
}

/// A text without markup. Its first line is a title if it looks like one: short, alone, and not ended like a sentence.
fn plain(text: &str) -> Prose {
    const TITLE_BYTES_MAX: usize = 120;
    let mut prose = Prose::default();
    let mut lines = text.trim_start().lines();
    if let (Some(first), Some(second)) = (lines.next(), lines.next()) {
        let first = first.trim();
        let is_alone = second.trim().is_empty() || second.trim().chars().all(|letter| matches!(letter, '=' | '-'));
        if is_alone && first.len() <= TITLE_BYTES_MAX && !first.ends_with(['.', ',', ';', ':']) {
            prose.title = first.to_owned();
        }
    }
    prose.push(text);
    prose
}
