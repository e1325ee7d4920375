//! The words and phrases that a text is about.
//!
//! Never asks for other texts: the scores come from this one alone, after YAKE (Campos et al., "YAKE! Keyword extraction
//! from single documents using multiple local features", Information Sciences 509, 2020), with titles and headings
//! counted as evidence. Chinese is cut into words first. Keywords are lower-case; the best is first.

mod candidates;
mod chinese;
mod stop_words;
mod terms;

use crate::text::{Prose, cut};

/// Keywords of a text at most.
pub(crate) const KEYWORDS_MAX: usize = 10;
/// Languages whose words without a meaning of their own are listed.
pub(crate) const LISTED: &[&str] = &["en", "de", "fr", "es", "it", "pt", "nl", "ru"];
/// Bytes of text that are looked at: what a long text is about shows in its first hundred pages.
const LOOK_BYTES_MAX: usize = 256 << 10;

/// A keyword or phrase.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Keyword {
    pub(crate) text: String,
    /// 0 to 1, against the best of this text.
    pub(crate) confidence: f32,
}

/// The keywords of a prose in the language of this code, the best first.
pub(crate) fn of(prose: &Prose, language: Option<&str>) -> Vec<Keyword> {
    let body = cut(&prose.body, LOOK_BYTES_MAX);
    match language {
        Some("zh") => chinese::keywords(prose, body),
        // Nothing stands between their words, and no dictionary of them is at hand.
        Some("ja" | "th" | "km" | "my" | "lo") => Vec::new(),
        _ => candidates::keywords(prose, body, language),
    }
}

/// Which part of the first words of `text` are words that mean nothing by themselves in this language, 0 to 1.
pub(crate) fn share_of_stop_words(text: &str, language: &str) -> f64 {
    const WORDS_MAX: usize = 500; // Enough for a share.
    let stops = stop_words::StopWords::listed(language);
    let words = || text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).take(WORDS_MAX);
    let stop_words = words().filter(|word| stops.contains(word.to_lowercase().as_str())).count();
    stop_words as f64 / words().count().max(1) as f64
}
