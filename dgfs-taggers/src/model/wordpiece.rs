//! Texts as the numbers of word pieces, as models of the BERT family read them.
//!
//! Never grows with the text: it stops at the last token that is asked for. Follows Devlin et al., "BERT" (2018), and the
//! longest-match-first rule of Wu et al., "Google's Neural Machine Translation System" (2016).

use std::collections::HashMap;

use serde::Deserialize;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

use super::LINE_BYTES_MAX;

/// Pieces of a vocabulary at most: those of models of a hundred languages have half of it.
const PIECES_MAX: usize = 500_000;
/// Characters of a word that is cut into pieces; a longer one is unknown.
const WORD_CHARS_MAX: usize = 100;
/// What a piece inside of a word begins with.
const INSIDE: &str = "##";

/// A vocabulary and its rules.
#[derive(Debug)]
pub(super) struct WordPiece {
    pieces: HashMap<String, i32>,
    is_lower: bool,
    unknown: i32,
    first: i32,
    last: i32,
}

/// What is read of a `tokenizer.json`.
#[derive(Deserialize)]
struct Tokenizer {
    model: Model,
    normalizer: Option<Normalizer>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    vocab: serde_json::Value,
}

#[derive(Deserialize)]
struct Normalizer {
    lowercase: Option<bool>,
}

impl WordPiece {
    /// Reads a `vocab.txt`, one piece a line, or a `tokenizer.json`. `is_lower` goes before what the file says.
    ///
    /// # Errors
    ///
    /// A sentence: another tokenizer, too large, or one of the framing tokens is missing.
    pub(super) fn read(bytes: &[u8], is_lower: Option<bool>) -> Result<Self, String> {
        let (pieces, said) = if bytes.trim_ascii_start().first() == Some(&b'{') { json(bytes)? } else { list(bytes)? };
        if pieces.len() > PIECES_MAX {
            return Err(format!("{} pieces, of at most {PIECES_MAX}", pieces.len()));
        }
        let framing = |piece: &str| {
            pieces.get(piece).copied().ok_or_else(|| format!("it has no {piece}: a WordPiece vocabulary is expected"))
        };
        let (unknown, first, last) = (framing("[UNK]")?, framing("[CLS]")?, framing("[SEP]")?);
        Ok(Self { is_lower: is_lower.or(said).unwrap_or(true), unknown, first, last, pieces })
    }

    /// The tokens of `text`, framed, at most `most`, and whether these are all.
    pub(super) fn tokens(&self, text: &str, most: usize) -> (Vec<i32>, bool) {
        let room = most.saturating_sub(1).max(1);
        let mut tokens = vec![self.first];
        let mut word = String::new();
        // A gap at the end, so that the last word is not forgotten.
        for letter in text.chars().chain([' ']) {
            let is_alone = is_punctuation(letter) || is_ideograph(letter);
            if !letter.is_whitespace() && !is_alone {
                if !letter.is_control() && letter != '\u{fffd}' {
                    word.push(letter);
                }
                continue;
            }
            self.cut(&std::mem::take(&mut word), &mut tokens);
            if is_alone {
                self.cut(letter.encode_utf8(&mut [0; 4]), &mut tokens);
            }
            if tokens.len() > room {
                tokens.truncate(room);
                tokens.push(self.last);
                return (tokens, false);
            }
        }
        tokens.push(self.last);
        (tokens, true)
    }

    /// Adds the pieces of a word.
    fn cut(&self, word: &str, tokens: &mut Vec<i32>) {
        if word.is_empty() {
            return;
        }
        let before = tokens.len();
        if word.chars().count() > WORD_CHARS_MAX {
            tokens.push(self.unknown);
            return;
        }
        let word: String = if self.is_lower {
            word.to_lowercase().nfd().filter(|letter| !is_combining_mark(*letter)).collect()
        } else {
            word.to_owned()
        };
        let mut rest = word.as_str();
        let mut spelt = String::new();
        while !rest.is_empty() {
            let prefix = if tokens.len() > before { INSIDE } else { "" };
            let ends = rest.char_indices().map(|(at, letter)| at + letter.len_utf8()).rev();
            let mut found = None;
            for end in ends {
                spelt.clear();
                spelt.push_str(prefix);
                spelt.push_str(rest.get(..end).unwrap_or_default());
                if let Some(token) = self.pieces.get(&spelt) {
                    found = Some((end, *token));
                    break;
                }
            }
            let Some((end, token)) = found else {
                tokens.truncate(before);
                tokens.push(self.unknown);
                return;
            };
            tokens.push(token);
            rest = rest.get(end..).unwrap_or_default();
        }
    }
}

type Vocabulary = (HashMap<String, i32>, Option<bool>);

fn list(bytes: &[u8]) -> Result<Vocabulary, String> {
    let pieces = super::lines("vocabulary", bytes)?;
    let number = |at: usize| i32::try_from(at).map_err(|_| "too many pieces".to_owned());
    let pieces = pieces.into_iter().enumerate().map(|(at, piece)| Ok((piece, number(at)?)));
    Ok((pieces.collect::<Result<_, String>>()?, None))
}

fn json(bytes: &[u8]) -> Result<Vocabulary, String> {
    let read: Tokenizer = serde_json::from_slice(bytes).map_err(|error| format!("no tokenizer.json: {error}"))?;
    if read.model.kind.as_deref().is_some_and(|kind| kind != "WordPiece") {
        return Err(format!(
            "a tokenizer of the type {:?}; expected \"WordPiece\"",
            read.model.kind.unwrap_or_default()
        ));
    }
    let serde_json::Value::Object(vocab) = read.model.vocab else {
        return Err("its model has no vocab of pieces and numbers".to_owned());
    };
    let mut pieces = HashMap::with_capacity(vocab.len().min(PIECES_MAX));
    for (piece, number) in vocab {
        let number = number.as_i64().and_then(|number| i32::try_from(number).ok());
        let number = number.ok_or_else(|| format!("the piece {piece:?} has no number"))?;
        if piece.len() <= LINE_BYTES_MAX {
            pieces.insert(piece, number);
        }
    }
    Ok((pieces, read.normalizer.and_then(|normalizer| normalizer.lowercase)))
}

/// As BERT has it: all signs of ASCII, and Unicode's punctuation.
fn is_punctuation(letter: char) -> bool {
    letter.is_ascii_punctuation()
        || matches!(letter, '\u{a1}' | '\u{a7}' | '\u{ab}' | '\u{b6}' | '\u{b7}' | '\u{bb}' | '\u{bf}')
        || matches!(letter, '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{3001}'..='\u{3003}')
        || matches!(letter, '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301f}' | '\u{ff01}'..='\u{ff0f}')
        || matches!(letter, '\u{ff1a}'..='\u{ff20}' | '\u{ff3b}'..='\u{ff40}' | '\u{ff5b}'..='\u{ff65}')
}

/// Chinese characters stand alone.
fn is_ideograph(letter: char) -> bool {
    matches!(letter, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{f900}'..='\u{faff}')
        || matches!(letter, '\u{20000}'..='\u{2ceaf}' | '\u{2f800}'..='\u{2fa1f}')
}

#[cfg(test)]
mod tests {
    use super::WordPiece;

    const LIST: &[u8] = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nstor\n##age\n,\ncafe\n\xe6\x96\x87\n";

    #[test]
    fn words_are_cut_into_the_longest_pieces() {
        let words = WordPiece::read(LIST, None).unwrap();
        assert_eq!(words.tokens("Storage, Caf\u{e9} x\u{6587}", 99), (vec![2, 4, 5, 6, 7, 1, 8, 3], true));
        assert_eq!(words.tokens("", 99), (vec![2, 3], true));
        assert_eq!(words.tokens("storage storage storage", 5), (vec![2, 4, 5, 4, 3], false));
        assert_eq!(words.tokens(&"s".repeat(5000), 9), (vec![2, 1, 3], true));
        assert_eq!(WordPiece::read(LIST, Some(false)).unwrap().tokens("Storage", 9).0, [2, 1, 3]);
    }

    #[test]
    fn a_json_says_the_same_and_another_tokenizer_is_refused() {
        let json = r#"{"normalizer": {"lowercase": false}, "model": {"type": "WordPiece",
            "vocab": {"[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4}}}"#;
        assert_eq!(WordPiece::read(json.as_bytes(), None).unwrap().tokens("a A", 9).0, [2, 4, 1, 3]);
        let cases = [
            (json.replace("WordPiece", "BPE"), "of the type \"BPE\""),
            (json.replace("[SEP]", "[END]"), "it has no [SEP]"),
            (json.replace(": 4", ": 4.5"), "\"a\" has no number"),
            ("{".to_owned(), "no tokenizer.json"),
            ("\u{0}".to_owned(), "it has no [UNK]"),
        ];
        for (text, words) in cases {
            let refused = WordPiece::read(text.as_bytes(), None).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
