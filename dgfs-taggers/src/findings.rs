//! What a tagger found, and how much of it there may be.
//!
//! Never grows beyond its bounds, whoever adds to it: what does not fit is left out, and the first time that happens
//! a note says so. The first of two facts with one key stays, so the order of adding is the order of trust.

use serde::{Deserialize, Serialize};

use crate::tag_name;
use crate::text::cut;

/// Plain tags at most. More would say nothing about the file.
pub const MARKS_MAX: usize = 64;
/// Keyed values at most.
pub const VALUES_MAX: usize = 64;
/// Links at most: enough for a listing, little enough for one commit.
pub const LINKS_MAX: usize = 1000;
/// Bytes of a value, a key, a link's target or a note at most.
pub const STRING_BYTES_MAX: usize = 1024;
/// Bytes of text for full text search at most.
pub const TEXT_BYTES_MAX: usize = 256 << 10;
/// Notes at most.
pub const NOTES_MAX: usize = 16;
/// Numbers of an embedding at most: what the larger of the usual models of texts give.
pub const EMBEDDING_LEN_MAX: usize = 1024;

/// All that one tagger has to say about one file.
#[derive(Serialize, Deserialize, Default, Debug, Clone, PartialEq)]
#[serde(default)]
pub struct Findings {
    /// Plain tags, at most [`MARKS_MAX`], the surest first where the tagger can tell.
    pub marks: Vec<Mark>,
    /// Keyed values, at most [`VALUES_MAX`].
    pub values: Vec<Fact>,
    /// What the file points at, at most [`LINKS_MAX`], in the order of the file.
    pub links: Vec<Link>,
    /// For full text search: whole words, at most [`TEXT_BYTES_MAX`] bytes.
    pub text: String,
    /// What similar files are found by.
    pub fingerprints: Fingerprints,
    /// What was not read and why, at most [`NOTES_MAX`] sentences.
    pub notes: Vec<String>,
}

/// A plain tag.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct Mark {
    /// A lawful name (see [`tag_name`]).
    pub tag: String,
    /// 0 (a guess) to 1 (certain).
    pub confidence: f32,
}

/// A keyed value.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct Fact {
    /// Such as `title`, `camera` or `duration`: lower case, `-` between words.
    pub key: String,
    /// Its value.
    pub value: FactValue,
}

/// The value of a fact.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum FactValue {
    /// One line of text.
    Text(String),
    /// A finite number in the unit that the key documents (`docs/TAGGERS.md`).
    Number(f64),
    /// Seconds since 1970-01-01T00:00:00Z.
    Time(i64),
}

/// An edge to something outside of the file.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// What the target is to the file.
    pub kind: LinkKind,
    /// A URL, a path, a module's name or a person's, as the file spells it.
    pub target: String,
}

/// What the target of a link is.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// Something to be opened from here: a URL or a path.
    Hyperlink,
    /// A module that source code uses.
    Import,
    /// Something named here: an identifier, a message answered.
    Reference,
    /// Who made it.
    Author,
    /// A file inside of an archive.
    Member,
}

/// Short values of which similar files have similar ones.
#[derive(Serialize, Deserialize, Default, Debug, Clone, PartialEq)]
#[serde(default)]
pub struct Fingerprints {
    /// MinHash of the text's word shingles: the share of equal places estimates the share of common shingles.
    pub text: Option<Vec<u32>>,
    /// Perceptual hash of the picture: few differing bits are a similar picture.
    pub image: Option<u64>,
    /// What a model makes of the text: 1 to [`EMBEDDING_LEN_MAX`] finite numbers, the sum of whose squares is 1. The sum of
    /// products of two of them (the cosine of their angle) is near 1 where the texts mean the same; vectors of different
    /// taggers or versions have nothing to do with each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding: Option<Vec<f32>>,
}

impl Findings {
    /// Adds a plain tag, spelt lawfully; the surest of equal ones stays. A text that gives no name is left out.
    pub fn mark(&mut self, tag: &str, confidence: f32) {
        let Some(tag) = tag_name::any(tag) else { return };
        let confidence = if confidence.is_finite() { confidence.clamp(0.0, 1.0) } else { 0.0 };
        if let Some(known) = self.marks.iter_mut().find(|mark| mark.tag == tag) {
            known.confidence = known.confidence.max(confidence);
        } else if self.marks.len() < MARKS_MAX {
            self.marks.push(Mark { tag, confidence });
        } else {
            self.note(&format!("more than {MARKS_MAX} tags: the others are left out"));
        }
    }

    /// Adds a text, on one line and cut; an empty one is left out.
    pub fn text_value(&mut self, key: &str, value: &str) {
        let value = one_line(value);
        if !value.is_empty() {
            self.value(key, FactValue::Text(value));
        }
    }

    /// Adds a number; one that is not finite is left out.
    pub fn number(&mut self, key: &str, value: f64) {
        if value.is_finite() {
            self.value(key, FactValue::Number(value));
        }
    }

    /// Adds a time in seconds since 1970.
    pub fn time(&mut self, key: &str, seconds: i64) {
        self.value(key, FactValue::Time(seconds));
    }

    fn value(&mut self, key: &str, value: FactValue) {
        let key = one_line(key);
        if key.is_empty() || self.values.iter().any(|fact| fact.key == key) {
            return;
        }
        if self.values.len() < VALUES_MAX {
            self.values.push(Fact { key, value });
        } else {
            self.note(&format!("more than {VALUES_MAX} values: the others are left out"));
        }
    }

    /// Adds a link. An empty target is left out; equal ones are made one by [`Findings::finish`].
    pub fn link(&mut self, kind: LinkKind, target: &str) {
        let target = one_line(target);
        if target.is_empty() {
            return;
        }
        if self.links.len() < LINKS_MAX {
            self.links.push(Link { kind, target });
        } else {
            self.note(&format!("more than {LINKS_MAX} links: the others are left out"));
        }
    }

    /// Adds a sentence on what was not read; a repeated one and those after [`NOTES_MAX`] are left out.
    pub fn note(&mut self, sentence: &str) {
        let sentence = one_line(sentence);
        if self.notes.len() < NOTES_MAX && !self.notes.contains(&sentence) {
            self.notes.push(sentence);
        }
    }

    /// Appends text for full text search, a gap before it, cut at the end of a word.
    pub fn append_text(&mut self, text: &str) {
        let gap = usize::from(!self.text.is_empty());
        let room = TEXT_BYTES_MAX.saturating_sub(self.text.len() + gap);
        let whole = whole_words(text, room);
        if !whole.is_empty() {
            if gap == 1 {
                self.text.push('\n');
            }
            self.text.push_str(whole);
        }
    }

    /// Applies every bound to findings that came from another process, and makes repeated links one.
    pub fn finish(self) -> Self {
        let mut out = Self { fingerprints: self.fingerprints, ..Self::default() };
        if out.fingerprints.text.as_ref().is_some_and(|print| print.len() > STRING_BYTES_MAX) {
            out.fingerprints.text = None;
        }
        out.fingerprints.embedding = out.fingerprints.embedding.and_then(unit_vector);
        for note in self.notes.iter().take(NOTES_MAX) {
            out.note(note);
        }
        for mark in self.marks.iter().take(MARKS_MAX + 1) {
            out.mark(&mark.tag, mark.confidence);
        }
        for fact in self.values.into_iter().take(VALUES_MAX + 1) {
            match fact.value {
                FactValue::Text(text) => out.text_value(&fact.key, &text),
                FactValue::Number(number) => out.number(&fact.key, number),
                FactValue::Time(seconds) => out.time(&fact.key, seconds),
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        for link in self.links.into_iter().take(LINKS_MAX + 1) {
            if seen.insert(link.clone()) {
                out.link(link.kind, &link.target);
            }
        }
        out.append_text(&self.text);
        out
    }

    /// The text of the value at `key`.
    pub fn text_of(&self, key: &str) -> Option<&str> {
        self.values.iter().find(|fact| fact.key == key).and_then(|fact| match &fact.value {
            FactValue::Text(text) => Some(text.as_str()),
            FactValue::Number(_) | FactValue::Time(_) => None,
        })
    }

    /// The number at `key`.
    pub fn number_of(&self, key: &str) -> Option<f64> {
        self.values.iter().find(|fact| fact.key == key).and_then(|fact| match fact.value {
            FactValue::Number(number) => Some(number),
            FactValue::Text(_) | FactValue::Time(_) => None,
        })
    }

    /// The time at `key`, in seconds since 1970.
    pub fn time_of(&self, key: &str) -> Option<i64> {
        self.values.iter().find(|fact| fact.key == key).and_then(|fact| match fact.value {
            FactValue::Time(seconds) => Some(seconds),
            FactValue::Text(_) | FactValue::Number(_) => None,
        })
    }
}

/// `vector` made one long; `None` where it is no direction: empty, longer than [`EMBEDDING_LEN_MAX`], not finite or zero.
pub fn unit_vector(mut vector: Vec<f32>) -> Option<Vec<f32>> {
    if !(1..=EMBEDDING_LEN_MAX).contains(&vector.len()) {
        return None;
    }
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() || length <= f64::from(f32::MIN_POSITIVE) {
        return None;
    }
    // One that has the length already stays as it is, so that a second pass changes no digit.
    if (length - 1.0).abs() > 1e-6 {
        for value in &mut vector {
            *value = (f64::from(*value) / length) as f32;
        }
    }
    Some(vector)
}

/// `text` without control characters, single gaps, at most [`STRING_BYTES_MAX`] bytes.
pub fn one_line(text: &str) -> String {
    // Gaps are dropped before the cut, so a little more is looked at than can stay.
    let text = cut(text, 4 * STRING_BYTES_MAX);
    let mut out = String::new();
    for word in text.split(|letter: char| letter.is_whitespace() || letter.is_control()).filter(|word| !word.is_empty())
    {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    let len = cut(&out, STRING_BYTES_MAX).len();
    out.truncate(len);
    out
}

/// The longest beginning of `text` of at most `bytes_max` bytes that ends with a whole word. A text without any gap in
/// reach (Chinese, a long line) is cut between characters.
fn whole_words(text: &str, bytes_max: usize) -> &str {
    let head = cut(text, bytes_max);
    if head.len() == text.len() {
        return head;
    }
    // A word is not longer than this; looking further back would drop text for nothing.
    const WORD_BYTES_MAX: usize = 256;
    match head.rfind(char::is_whitespace) {
        Some(at) if head.len() - at <= WORD_BYTES_MAX => head.get(..at).unwrap_or(head),
        Some(_) | None => head,
    }
}

#[cfg(test)]
mod tests {
    use super::{Findings, LINKS_MAX, LinkKind, MARKS_MAX, NOTES_MAX, STRING_BYTES_MAX, TEXT_BYTES_MAX, VALUES_MAX};

    #[test]
    fn nothing_grows_beyond_its_bound() {
        let mut findings = Findings::default();
        for at in 0..2000 {
            findings.mark(&format!("tag{at}"), 2.0);
            findings.number(&format!("key{at}"), f64::from(at));
            findings.link(LinkKind::Hyperlink, &format!("{at}{}", "x".repeat(3000)));
            findings.note(&format!("note {at}"));
        }
        findings.append_text(&"word ".repeat(100_000));
        findings.append_text("more");
        let finished = findings.clone().finish();
        for bounded in [&findings, &finished] {
            assert_eq!(bounded.marks.len(), MARKS_MAX);
            assert_eq!(bounded.values.len(), VALUES_MAX);
            assert_eq!(bounded.notes.len(), NOTES_MAX);
            assert!(bounded.links.iter().all(|link| link.target.len() <= STRING_BYTES_MAX));
            assert!(bounded.text.len() <= TEXT_BYTES_MAX && bounded.text.ends_with(['d', 'e']));
            assert!(bounded.marks.iter().all(|mark| mark.confidence == 1.0));
        }
        assert_eq!(findings.links.len(), LINKS_MAX);
    }

    #[test]
    fn findings_from_another_process_are_bounded_again() {
        let hostile = Findings {
            marks: vec![super::Mark { tag: "-a/b".to_owned(), confidence: f32::NAN }],
            text: "字".repeat(TEXT_BYTES_MAX),
            fingerprints: super::Fingerprints {
                text: Some(vec![1; 1 << 20]),
                image: None,
                embedding: Some(vec![1.0; super::EMBEDDING_LEN_MAX + 1]),
            },
            ..Findings::default()
        };
        let finished = hostile.finish();
        assert_eq!(finished.marks, [super::Mark { tag: "a b".to_owned(), confidence: 0.0 }]);
        assert!(finished.text.len() <= TEXT_BYTES_MAX && finished.fingerprints == super::Fingerprints::default());
    }

    #[test]
    fn an_embedding_is_one_long_or_none() {
        assert_eq!(super::unit_vector(vec![3.0, 0.0, -4.0]), Some(vec![0.6, 0.0, -0.8]));
        let once = super::unit_vector(vec![1.0, 2.0, 3.0]).unwrap();
        assert_eq!(super::unit_vector(once.clone()), Some(once));
        for wrong in [vec![], vec![0.0; 3], vec![f32::NAN, 1.0], vec![f32::INFINITY], vec![1.0; 1025]] {
            assert_eq!(super::unit_vector(wrong.clone()), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_first_value_of_a_key_stays() {
        let mut findings = Findings::default();
        findings.text_value("title", "  one\n two ");
        findings.text_value("title", "three");
        findings.text_value("artist", " \u{0} ");
        findings.number("width", f64::NAN);
        assert_eq!(findings.text_of("title"), Some("one two"));
        assert_eq!(findings.values.len(), 1);
    }
}
