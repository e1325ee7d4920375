//! One spelling for texts that look the same: NFC, and simple case folding as the key of uniqueness.
//!
//! Never judges what a text may hold; its callers do. What comes out is at most as long as asked for, whatever went in.

use alloc::string::String;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// How many times shorter NFC can be than the text it was made from: three conjoining jamo of three bytes become one syllable of
/// three bytes; nothing shrinks more.
const NFC_SHRINKS_MAX: usize = 3;

/// The NFC of `text` (Unicode Standard Annex #15), or `None` when that has more than `bytes_max` bytes.
pub(crate) fn nfc(text: &str, bytes_max: usize) -> Option<String> {
    // A run of combining marks is sorted as a whole: what is too long is refused before that.
    if text.len() > bytes_max.saturating_mul(NFC_SHRINKS_MAX) {
        return None;
    }
    let normal: String = match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => text.into(),
        IsNormalized::No | IsNormalized::Maybe => text.nfc().collect(),
    };
    (normal.len() <= bytes_max).then_some(normal)
}

/// Is `text` its own NFC?
pub(crate) fn is_nfc(text: &str) -> bool {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => true,
        IsNormalized::No => false,
        IsNormalized::Maybe => text.nfc().eq(text.chars()),
    }
}

/// One character's simple case folding (statuses C and S of Unicode's `CaseFolding.txt`).
pub(crate) fn fold_char(character: char) -> char {
    if character.is_ascii() {
        return character.to_ascii_lowercase();
    }
    let folded = unicode_case_mapping::case_folded(character).and_then(|folded| char::from_u32(folded.get()));
    folded.unwrap_or(character)
}

/// The key under which texts that differ in case only are one.
///
/// Folded text is composed again: a capital letter with a mark may have no composed form where the small one has (H and a macron
/// below, for one), and both must come to the same key.
pub(crate) fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.nfc().map(fold_char).nfc().collect()
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::{fold, is_nfc, nfc};

    #[test]
    fn folding_is_simple_and_finds_composed_forms() {
        for (text, key) in [
            ("Photo", "photo"),
            ("ÜBER", "über"),
            ("u\u{308}ber", "über"),
            ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
            ("ẞ", "ß"),
            ("İ", "İ"),
            ("ı", "ı"),
            ("H\u{331}", "\u{1e96}"),
            ("照片", "照片"),
        ] {
            assert_eq!(fold(text), key, "{text}");
            assert_eq!(fold(&fold(text)), key, "{text} folded twice");
        }
    }

    #[test]
    fn folding_every_character_twice_changes_nothing_more() {
        for character in '\0'..=char::MAX {
            for text in [String::from_iter([character]), String::from_iter(['a', character, '\u{301}'])] {
                let key = fold(&text);
                assert_eq!(fold(&key), key, "{text:?}");
                assert!(is_nfc(&key), "{text:?}");
            }
        }
    }

    #[test]
    fn the_bound_is_of_the_composed_text() {
        assert_eq!(nfc("\u{1112}\u{1161}\u{11ab}", 3).as_deref(), Some("한"));
        assert_eq!(nfc("\u{1112}\u{1161}\u{11ab}", 2), None);
        assert_eq!(nfc(&"\u{301}".repeat(1 << 20), 200), None);
    }
}
