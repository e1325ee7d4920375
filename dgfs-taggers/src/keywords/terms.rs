//! Cuts a text into sentences and words and weighs each word.
//!
//! Never counts a word twice for its case. The order of the words is that of their first appearance, so that sums do not
//! depend on a map's order.

use std::collections::HashMap;

use super::stop_words::StopWords;

/// Words of a text that are looked at.
const WORDS_MAX: usize = 40_000;
/// Bytes of a word at most: longer ones are data.
const WORD_BYTES_MAX: usize = 64;

/// How many times worse a word that occurs in texts on any matter scores.
const COMMON_PENALTY: f64 = 4.0;

/// A word at its place.
#[derive(Clone, Copy)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    /// Index into [`Terms::list`].
    pub(super) term: usize,
    /// Index of its sentence.
    pub(super) sentence: usize,
    /// Whether punctuation stands between this word and the one before.
    pub(super) begins_phrase: bool,
}

/// All that is known of one word.
#[derive(Default)]
pub(super) struct Term {
    pub(super) lower: String,
    pub(super) is_stop: bool,
    /// Whether it is a number, an address or a file's name rather than a word.
    pub(super) is_data: bool,
    pub(super) count: f64,
    /// Low is important.
    pub(super) weight: f64,
    acronyms: f64,
    capitals: f64,
    sentences: Vec<usize>,
    lefts: f64,
    rights: f64,
    lefts_distinct: f64,
    rights_distinct: f64,
}

/// The words of a text.
#[derive(Default)]
pub(super) struct Terms<'a> {
    pub(super) words: Vec<Word<'a>>,
    pub(super) list: Vec<Term>,
    /// How often the second word follows the first within a phrase.
    pub(super) pairs: HashMap<(usize, usize), f64>,
    sentences: usize,
}

impl<'a> Terms<'a> {
    pub(super) fn of(text: &'a str, stops: &StopWords) -> Self {
        let mut terms = Self::default();
        let mut known = HashMap::new();
        for sentence in sentences(text) {
            if terms.words.len() >= WORDS_MAX {
                break;
            }
            terms.add_sentence(sentence, stops, &mut known);
            terms.sentences += 1;
        }
        terms.count_neighbours();
        terms.weigh();
        terms
    }

    fn add_sentence(&mut self, sentence: &'a str, stops: &StopWords, known: &mut HashMap<String, usize>) {
        let mut is_first = true;
        for (text, begins_phrase) in words(sentence) {
            let lower = text.to_lowercase();
            let term = *known.entry(lower).or_insert_with_key(|lower| {
                self.list.push(Term {
                    lower: lower.clone(),
                    is_stop: stops.has(lower),
                    is_data: is_data(lower),
                    ..Term::default()
                });
                self.list.len() - 1
            });
            let sentence = self.sentences;
            if let Some(entry) = self.list.get_mut(term) {
                entry.seen(text, sentence, is_first);
            }
            self.words.push(Word { text, term, sentence, begins_phrase });
            is_first = false;
        }
    }

    fn count_neighbours(&mut self) {
        for pair in self.words.windows(2) {
            let [left, right] = pair else { continue };
            if right.begins_phrase || left.sentence != right.sentence {
                continue;
            }
            let seen = self.pairs.entry((left.term, right.term)).or_insert(0.0);
            *seen += 1.0;
            let is_new = *seen == 1.0;
            if let Some(term) = self.list.get_mut(left.term) {
                term.rights += 1.0;
                term.rights_distinct += f64::from(u8::from(is_new));
            }
            if let Some(term) = self.list.get_mut(right.term) {
                term.lefts += 1.0;
                term.lefts_distinct += f64::from(u8::from(is_new));
            }
        }
    }

    /// The features of YAKE's section 3.2: case, position, frequency, relatedness to context, spread over sentences.
    fn weigh(&mut self) {
        let counts: Vec<f64> = self.list.iter().filter(|term| !term.is_stop).map(|term| term.count).collect();
        let many = counts.len().max(1) as f64;
        let mean = counts.iter().sum::<f64>() / many;
        let deviation = (counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / many).sqrt();
        let most = self.list.iter().map(|term| term.count).fold(1.0, f64::max);
        let sentences = self.sentences.max(1) as f64;
        for term in &mut self.list {
            let case = term.acronyms.max(term.capitals) / (1.0 + term.count.ln());
            let median = term.sentences.get(term.sentences.len() / 2).copied().unwrap_or(0) as f64;
            let position = (3.0 + median).ln().ln();
            let frequency = term.count / (mean + deviation);
            let side = |distinct: f64, all: f64| if all > 0.0 { distinct / all } else { 0.0 };
            let relatedness = 1.0
                + (side(term.lefts_distinct, term.lefts) + side(term.rights_distinct, term.rights)) * term.count / most;
            let mut distinct = term.sentences.clone();
            distinct.dedup();
            let spread = distinct.len() as f64 / sentences;
            let common = if StopWords::is_common(&term.lower) { COMMON_PENALTY } else { 1.0 };
            term.weight = common * position * relatedness / (case + frequency / relatedness + spread / relatedness);
        }
    }
}

impl Term {
    fn seen(&mut self, text: &str, sentence: usize, is_first: bool) {
        self.count += 1.0;
        self.sentences.push(sentence);
        let mut letters = text.chars();
        let is_capital = letters.next().is_some_and(char::is_uppercase);
        let is_acronym =
            is_capital && text.len() > 1 && text.chars().all(|letter| letter.is_uppercase() || letter.is_numeric());
        if is_acronym {
            self.acronyms += 1.0;
        } else if is_capital && !is_first {
            self.capitals += 1.0;
        }
    }
}

fn is_data(lower: &str) -> bool {
    let letters = lower.chars().filter(|letter| letter.is_alphabetic()).count();
    let is_address =
        lower.rsplit_once('.').is_some_and(|(_, end)| end != "js" && !end.starts_with(|c: char| c.is_ascii_digit()));
    letters * 2 < lower.chars().count() || is_address || lower.contains('_')
}

/// Sentences: ended by `.`, `!`, `?` or `;` before a gap, or by an empty line.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let len = sentence_len(rest);
            let (sentence, behind) = rest.split_at_checked(len)?;
            rest = behind;
            if sentence.contains(char::is_alphanumeric) {
                return Some(sentence);
            }
        }
        None
    })
}

fn sentence_len(text: &str) -> usize {
    let mut previous = ' ';
    let mut word_len = 0;
    for (at, letter) in text.char_indices() {
        let is_end = match letter {
            // "J. Smith" and "e.g. this" go on: a sentence's last word is longer.
            ' ' | '\n' | '\t' | '\r' if previous == '.' => word_len > 2,
            ' ' | '\n' | '\t' | '\r' if matches!(previous, '!' | '?' | ';') => true,
            '\n' => previous == '\n',
            '\u{3002}' | '\u{ff01}' | '\u{ff1f}' => true,
            _ => false,
        };
        if is_end {
            return at + letter.len_utf8();
        }
        if letter.is_alphanumeric() {
            word_len += 1;
        } else if letter != '.' || previous.is_whitespace() {
            word_len = 0;
        }
        if !(letter == ' ' || letter == '\r') || previous != '\n' {
            previous = letter;
        }
    }
    text.len()
}

/// Words with hyphens and apostrophes inside, and whether punctuation stands before each.
fn words(sentence: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut rest = sentence;
    let mut begins_phrase = true;
    std::iter::from_fn(move || {
        loop {
            let start = rest.find(char::is_alphanumeric)?;
            let gap = rest.get(..start)?;
            let tail = rest.get(start..)?;
            let is_break = begins_phrase || gap.contains(|letter: char| !letter.is_whitespace());
            let len = word_len(tail);
            let (word, behind) = tail.split_at_checked(len)?;
            rest = behind;
            begins_phrase = false;
            if word.len() <= WORD_BYTES_MAX {
                return Some((word, is_break));
            }
            begins_phrase = true;
        }
    })
}

fn word_len(tail: &str) -> usize {
    let mut len = 0;
    let mut letters = tail.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        let goes_on = letter.is_alphanumeric() || letter == '_' || (letter == '\u{301}');
        let joins = matches!(letter, '-' | '\'' | '\u{2019}' | '+' | '#' | '.')
            && letters.peek().is_some_and(|(_, next)| {
                if letter == '.' { next.is_ascii_digit() || next.is_lowercase() } else { next.is_alphanumeric() }
            });
        if !goes_on && !joins {
            break;
        }
        len = at + letter.len_utf8();
    }
    len
}
