//! Formatted documents: PDF, office files, e-books, mails.
//!
//! Never renders or runs anything: no macro, no script, no remote reference. Each reader makes prose of its format, and
//! `text` says the rest.

pub(crate) mod epub;
pub(crate) mod mail;
pub(crate) mod odf;
pub(crate) mod office;
pub(crate) mod ooxml;
pub(crate) mod pdf;

use crate::findings::{Findings, LinkKind};

/// Keywords of a document's own list that are taken.
const KEYWORDS_MAX: usize = 16;

/// Adds who made it.
pub(crate) fn author(name: &str, out: &mut Findings) {
    out.text_value("author", name);
    out.link(LinkKind::Author, name);
}

/// Adds the keywords that the author has listed.
pub(crate) fn listed_keywords(list: &str, out: &mut Findings) {
    let words = list.split([',', ';', '\u{ff0c}', '\u{3001}', '\u{ff1b}']).map(str::trim);
    for word in words.filter(|word| !word.is_empty()).take(KEYWORDS_MAX) {
        out.mark(&word.to_lowercase(), 0.9);
    }
}
