//! The natural language of a text.
//!
//! Never guesses from a few words: no answer is better than a wrong one. The trigram method is Cavnar and Trenkle's
//! ("N-gram-based text categorization", 1994) in the `whatlang` crate.

use whatlang::{Detector, Lang};

use crate::keywords::{LISTED, share_of_stop_words};

/// Bytes of text that are looked at.
const LOOK_BYTES_MAX: usize = 16 << 10;
/// Letters that a text must have where only the words tell the language apart.
const LETTERS_MIN: usize = 20;
/// `whatlang` is right nearly always above this.
const CONFIDENCE_MIN: f64 = 0.6;
/// Function words make a third or more of running text; their share tells what trigrams only suspect.
const SHARE_MIN: f64 = 0.3;

/// Languages in which files are common. Fewer choices make the trigrams surer.
#[rustfmt::skip]
const KNOWN: &[Lang] = &[
    Lang::Eng, Lang::Cmn, Lang::Deu, Lang::Fra, Lang::Spa, Lang::Por, Lang::Ita, Lang::Nld, Lang::Rus, Lang::Ukr,
    Lang::Jpn, Lang::Kor, Lang::Ara, Lang::Heb, Lang::Hin, Lang::Ben, Lang::Pol, Lang::Ces, Lang::Slk, Lang::Hun,
    Lang::Ron, Lang::Bul, Lang::Srp, Lang::Hrv, Lang::Slv, Lang::Ell, Lang::Tur, Lang::Swe, Lang::Dan, Lang::Nob,
    Lang::Fin, Lang::Est, Lang::Lav, Lang::Lit, Lang::Vie, Lang::Tha, Lang::Ind, Lang::Pes, Lang::Urd, Lang::Cat,
    Lang::Lat, Lang::Epo,
];

/// ISO 639-1 code of the language, 639-3 where it has none; `None` if it cannot be told.
pub(crate) fn of(text: &str) -> Option<&'static str> {
    let head = crate::text::cut(text, LOOK_BYTES_MAX);
    let info = Detector::with_allowlist(KNOWN.to_vec()).detect(head)?;
    let letters = head.chars().filter(|letter| letter.is_alphabetic()).take(LETTERS_MIN).count();
    let is_told_by_script = matches!(info.lang(), Lang::Cmn | Lang::Jpn | Lang::Kor) && letters >= 4;
    let is_sure = info.confidence() >= CONFIDENCE_MIN && letters >= LETTERS_MIN;
    if is_told_by_script || is_sure {
        return Some(code(info.lang()));
    }
    if letters < LETTERS_MIN {
        return None;
    }
    // Trigrams of a short text mislead; its function words seldom do.
    let shares = LISTED.iter().map(|language| (share_of_stop_words(head, language), *language));
    let (share, language) = shares.max_by(|(one, _), (two, _)| one.total_cmp(two))?;
    (share >= SHARE_MIN).then_some(language)
}

fn code(lang: Lang) -> &'static str {
    match lang {
        Lang::Eng => "en",
        Lang::Cmn => "zh",
        Lang::Deu => "de",
        Lang::Fra => "fr",
        Lang::Spa => "es",
        Lang::Por => "pt",
        Lang::Ita => "it",
        Lang::Nld => "nl",
        Lang::Rus => "ru",
        Lang::Ukr => "uk",
        Lang::Jpn => "ja",
        Lang::Kor => "ko",
        Lang::Ara => "ar",
        Lang::Heb => "he",
        Lang::Hin => "hi",
        Lang::Ben => "bn",
        Lang::Pol => "pl",
        Lang::Ces => "cs",
        Lang::Slk => "sk",
        Lang::Hun => "hu",
        Lang::Ron => "ro",
        Lang::Bul => "bg",
        Lang::Srp => "sr",
        Lang::Hrv => "hr",
        Lang::Slv => "sl",
        Lang::Ell => "el",
        Lang::Tur => "tr",
        Lang::Swe => "sv",
        Lang::Dan => "da",
        Lang::Nob => "nb",
        Lang::Fin => "fi",
        Lang::Est => "et",
        Lang::Lav => "lv",
        Lang::Lit => "lt",
        Lang::Vie => "vi",
        Lang::Tha => "th",
        Lang::Ind => "id",
        Lang::Pes => "fa",
        Lang::Urd => "ur",
        Lang::Cat => "ca",
        Lang::Lat => "la",
        Lang::Epo => "eo",
        other => other.code(),
    }
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn languages_are_told_and_little_text_is_not() {
        assert_eq!(of("The file system stores the graph beside the data and answers questions about it."), Some("en"));
        assert_eq!(
            of("Das Dateisystem speichert den Graphen neben den Daten und beantwortet Fragen dazu."),
            Some("de")
        );
        assert_eq!(of("\u{5206}\u{5e03}\u{5f0f}\u{6587}\u{4ef6}\u{7cfb}\u{7edf}"), Some("zh"));
        assert_eq!(of("ok"), None);
        assert_eq!(of("12 34 56 78 !!"), None);
    }
}
