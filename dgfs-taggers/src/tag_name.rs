//! Spells what was found as the name of a tag that `.tags/` can carry.
//!
//! Never makes a name up: a text of which nothing remains gives none. A name is NFC, of 1 to [`BYTES_MAX`] bytes, has
//! none of the bytes that the path language (`docs/TAGS.md`) gives a meaning to, and says the same when spelt again.

use unicode_normalization::UnicodeNormalization;

/// Bytes of a tag's name at most.
pub const BYTES_MAX: usize = 200;

/// Bytes of a text that are looked at, so that a long one costs no more than a name can use.
const INPUT_BYTES_MAX: usize = 4 * BYTES_MAX;

/// First segments that the path language reads as operators.
const OPERATORS: &[&str] = &["not", "text", "name"];

/// One segment: no colon. `None` if nothing of `text` can stand in a name.
pub fn segment(text: &str) -> Option<String> {
    let mut out = String::new();
    let input = crate::text::cut(text, INPUT_BYTES_MAX);
    for letter in input.nfc() {
        // Anything with a meaning becomes a gap, so that `a/b` stays two words.
        let letter = if has_meaning(letter) { ' ' } else { letter };
        let is_gap = letter.is_whitespace();
        if is_gap && (out.is_empty() || out.ends_with(' ')) {
            continue;
        }
        if out.is_empty() && matches!(letter, '-' | '@' | '?' | '.') {
            continue;
        }
        out.push(if is_gap { ' ' } else { letter });
    }
    let cut = crate::text::cut(out.trim_end(), BYTES_MAX).trim_end();
    (!cut.is_empty()).then(|| cut.to_owned())
}

/// A namespaced name such as `place:cn:hefei`: segments are lower-cased and joined by colons. Empty ones are left out,
/// and so are those that would make the name too long. `None` if no segment remains, or if the first is an operator.
pub fn path(segments: &[&str]) -> Option<String> {
    let mut out = String::new();
    for part in segments.iter().filter_map(|part| segment(&part.to_lowercase())) {
        if out.len() + 1 + part.len() > BYTES_MAX {
            break;
        }
        if !out.is_empty() {
            out.push(':');
        }
        out.push_str(&part);
    }
    let first = out.split(':').next().unwrap_or_default();
    let is_operator = out.contains(':') && OPERATORS.contains(&first);
    (!out.is_empty() && !is_operator).then_some(out)
}

/// Spells a tag that others wrote, colons included.
pub fn any(text: &str) -> Option<String> {
    let parts: Vec<_> = crate::text::cut(text, INPUT_BYTES_MAX).split(':').filter_map(segment).collect();
    let first = parts.first()?;
    if parts.len() > 1 && OPERATORS.contains(&first.as_str()) {
        return None;
    }
    let joined = parts.join(":");
    let cut = crate::text::cut(&joined, BYTES_MAX).trim_end_matches([' ', ':']);
    (!cut.is_empty()).then(|| cut.to_owned())
}

/// `/ , =` and the comparisons are the language's own; invisible characters would make two names look alike.
fn has_meaning(letter: char) -> bool {
    let is_invisible =
        matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    letter.is_control() || is_invisible || matches!(letter, '/' | ',' | '=' | '<' | '>' | '!' | ':')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    use super::{BYTES_MAX, any, path, segment};

    #[test]
    fn names_lose_what_the_path_language_uses() {
        assert_eq!(segment("a/b, c=d"), Some("a b c d".to_owned()));
        assert_eq!(segment("--@?.hidden"), Some("hidden".to_owned()));
        assert_eq!(segment("e\u{301}t\u{e9}"), Some("\u{e9}t\u{e9}".to_owned()), "composed as NFC asks");
        assert_eq!(segment(" \u{200b}\n"), None);
        assert_eq!(segment("..."), None);
    }

    #[test]
    fn namespaced_names_keep_their_colons_and_no_operator() {
        assert_eq!(path(&["place", "CN", "Hefei"]), Some("place:cn:hefei".to_owned()));
        assert_eq!(path(&["place", "", "a:b"]), Some("place:a b".to_owned()));
        assert_eq!(path(&["not", "x"]), None);
        assert_eq!(any("text:x"), None);
        assert_eq!(any("a::b:"), Some("a:b".to_owned()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn any_text_gives_a_lawful_name_or_none(text in "\\PC{0,300}|[-@?./,=:a\u{0}\u{301}é合 ]{0,300}") {
            for name in [segment(&text), any(&text), path(&["k", &text])].into_iter().flatten() {
                prop_assert!((1..=BYTES_MAX).contains(&name.len()));
                let is_forbidden = |letter: char| letter.is_control() || matches!(letter, '/' | ',' | '=');
                prop_assert!(!name.contains(is_forbidden));
                prop_assert!(!name.starts_with(['-', '@', '?', '.']));
            }
            if let Some(name) = segment(&text) {
                prop_assert_eq!(segment(&name), Some(name.clone()));
            }
        }
    }
}
