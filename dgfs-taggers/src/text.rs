//! Texts: decoding them, reading their markup, and telling their language.
//!
//! Never opens what a text refers to. Whatever the format, a reader makes [`Prose`] of it, and [`describe`] says the
//! same things of every prose: language, keywords, words and a fingerprint.

pub(crate) mod code;
pub(crate) mod decode;
pub(crate) mod html;
pub(crate) mod imports;
mod language;
pub(crate) mod markdown;
mod minhash;
mod rtf;
pub(crate) mod tagger;

use crate::findings::{Findings, TEXT_BYTES_MAX};
use crate::keywords;

/// Bytes of decoded text that a reader keeps at most: four times what can be searched, so that keywords see more.
pub(crate) const PROSE_BYTES_MAX: usize = 4 * TEXT_BYTES_MAX;
/// Headings that a reader keeps at most.
pub(crate) const HEADINGS_MAX: usize = 200;

/// A text without its markup.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Prose {
    /// Empty where the text has none.
    pub(crate) title: String,
    /// In their order, at most [`HEADINGS_MAX`].
    pub(crate) headings: Vec<String>,
    /// Paragraphs ended by empty lines, at most [`PROSE_BYTES_MAX`].
    pub(crate) body: String,
}

impl Prose {
    /// Adds text as it is; what does not fit is left out, and the answer is `false`.
    pub(crate) fn push(&mut self, text: &str) -> bool {
        let room = PROSE_BYTES_MAX.saturating_sub(self.body.len());
        let fits = cut(text, room);
        self.body.push_str(fits);
        fits.len() == text.len()
    }

    /// Ends a paragraph.
    pub(crate) fn end_paragraph(&mut self) {
        let len = self.body.trim_end_matches([' ', '\t']).len();
        self.body.truncate(len);
        if !self.body.is_empty() && !self.body.ends_with("\n\n") {
            self.push(if self.body.ends_with('\n') { "\n" } else { "\n\n" });
        }
    }

    /// Ends a line.
    pub(crate) fn end_line(&mut self) {
        if !self.body.is_empty() && !self.body.ends_with('\n') {
            self.push("\n");
        }
    }

    /// Adds a heading, which is also text.
    pub(crate) fn heading(&mut self, text: &str) {
        let text = crate::findings::one_line(text);
        if self.headings.len() < HEADINGS_MAX && !text.is_empty() {
            self.headings.push(text);
        }
    }
}

/// Says what is true of every prose: title, language, keywords, number of words, fingerprint, and the text itself.
pub(crate) fn describe(prose: &Prose, out: &mut Findings) {
    out.text_value("title", &prose.title);
    index_only(&prose.body, out);
    let language = language::of(&prose.body);
    if let Some(code) = language {
        out.text_value("lang", code);
    }
    for keyword in keywords::of(prose, language) {
        out.mark(&keyword.text, keyword.confidence);
    }
}

/// For texts that are not prose (data, code): full text and fingerprint alone.
pub(crate) fn index_only(body: &str, out: &mut Findings) {
    if body.len() > TEXT_BYTES_MAX {
        out.note(&format!("only the first {} KiB of the text can be searched", TEXT_BYTES_MAX >> 10));
    }
    out.append_text(body.trim());
    if out.fingerprints.text.is_none() {
        out.fingerprints.text = minhash::of(body);
    }
}

/// The longest beginning of `text` of at most `bytes_max` bytes that does not split a character.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut len = bytes_max.min(text.len());
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    text.get(..len).unwrap_or_default()
}
