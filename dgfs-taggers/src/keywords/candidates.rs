//! Ranks the phrases of a text whose words have gaps between them.
//!
//! Never lets a phrase begin or end with a word that means nothing by itself, and never says one matter twice: of
//! phrases with the same words or one within another, the better stays.

use std::collections::{HashMap, HashSet};

use super::stop_words::StopWords;
use super::terms::{Term, Terms, Word};
use super::{KEYWORDS_MAX, Keyword};
use crate::text::Prose;

/// Words of a phrase at most.
const PHRASE_WORDS_MAX: usize = 3;
/// Bytes of a one-word keyword at least.
const WORD_BYTES_MIN: usize = 3;
/// How many times better a phrase of the title, or of a heading, scores.
const TITLE_WEIGHT: f64 = 3.0;
const HEADING_WEIGHT: f64 = 1.6;
/// Words from which on a text is long: what it is about is then said more than once.
const LONG_WORDS: usize = 150;
/// How many times worse a phrase scores that a long text has once.
const ONCE_PENALTY: f64 = 8.0;

/// A phrase and how often it is there.
struct Candidate {
    terms: Vec<usize>,
    spelt: String,
    count: f64,
    /// Low is good.
    score: f64,
    /// Index of its first word, which decides between equal scores.
    first: usize,
}

/// The keywords of `body`, helped by the title and the headings of `prose`.
pub(super) fn keywords(prose: &Prose, body: &str, language: Option<&str>) -> Vec<Keyword> {
    let stops = StopWords::of(language);
    // A title that the body does not repeat counts as its first sentence.
    let has_title = prose.title.is_empty() || body.contains(prose.title.as_str());
    let text = if has_title { body.to_owned() } else { format!("{}\n\n{body}", prose.title) };
    let terms = Terms::of(&text, &stops);
    let mut found = candidates(&terms);
    let boosts = Boosts::of(prose, &stops);
    let is_long = terms.words.len() >= LONG_WORDS;
    for candidate in &mut found {
        let boost = boosts.of_phrase(candidate, &terms);
        let is_said_once = is_long && candidate.count < 2.0 && candidate.terms.len() > 1;
        candidate.score = score(candidate, &terms) / boost * if is_said_once { ONCE_PENALTY } else { 1.0 };
    }
    found.sort_by(|one, two| one.score.total_cmp(&two.score).then(one.first.cmp(&two.first)));
    distinct(found, &terms)
}

fn candidates(terms: &Terms<'_>) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    let mut known: HashMap<Vec<usize>, usize> = HashMap::new();
    for start in 0..terms.words.len() {
        for len in 1..=PHRASE_WORDS_MAX {
            let Some(words) = terms.words.get(start..start + len) else { break };
            if is_broken(words) {
                break;
            }
            if !is_candidate(words, terms) {
                continue;
            }
            let key: Vec<usize> = words.iter().map(|word| word.term).collect();
            let at = *known.entry(key).or_insert_with_key(|key| {
                let spelt = words.iter().map(|word| word.text.to_lowercase()).collect::<Vec<_>>().join(" ");
                found.push(Candidate { terms: key.clone(), spelt, count: 0.0, score: 0.0, first: start });
                found.len() - 1
            });
            if let Some(candidate) = found.get_mut(at) {
                candidate.count += 1.0;
            }
        }
    }
    found
}

/// Whether the last word does not go on with the phrase.
fn is_broken(words: &[Word<'_>]) -> bool {
    let mut rest = words.iter().skip(1);
    rest.any(|word| word.begins_phrase || Some(word.sentence) != words.first().map(|first| first.sentence))
}

fn is_candidate(words: &[Word<'_>], terms: &Terms<'_>) -> bool {
    let term = |word: Option<&Word<'_>>| word.and_then(|word| terms.list.get(word.term));
    let (Some(first), Some(last)) = (term(words.first()), term(words.last())) else { return false };
    let has_number = words.iter().any(|word| term(Some(word)).is_some_and(|term| term.is_data));
    let is_word = words.len() > 1 || first.lower.len() >= WORD_BYTES_MIN;
    !first.is_stop && !last.is_stop && !has_number && is_word
}

/// YAKE's section 3.4: the product of the words' weights over their sum and the phrase's count. A stop word inside
/// counts by how often its neighbours are really next to it.
fn score(candidate: &Candidate, terms: &Terms<'_>) -> f64 {
    let mut product = 1.0;
    let mut sum = 0.0;
    for (at, term) in candidate.terms.iter().enumerate() {
        let Some(entry) = terms.list.get(*term) else { continue };
        if entry.is_stop {
            let bond = bond(candidate, at, terms);
            product *= 1.0 + (1.0 - bond);
            sum -= 1.0 - bond;
        } else {
            product *= entry.weight;
            sum += entry.weight;
        }
    }
    product / (candidate.count * (1.0 + sum).max(0.1))
}

fn bond(candidate: &Candidate, at: usize, terms: &Terms<'_>) -> f64 {
    let count =
        |term: Option<&usize>| term.and_then(|term| terms.list.get(*term)).map_or(1.0, |term: &Term| term.count);
    let pair = |left: Option<&usize>, right: Option<&usize>| match (left, right) {
        (Some(left), Some(right)) => terms.pairs.get(&(*left, *right)).copied().unwrap_or(0.0),
        (None, _) | (_, None) => 0.0,
    };
    let (left, this, right) = (
        at.checked_sub(1).and_then(|at| candidate.terms.get(at)),
        candidate.terms.get(at),
        candidate.terms.get(at + 1),
    );
    (pair(left, this) / count(left)) * (pair(this, right) / count(right))
}

/// Words of the title and of headings.
struct Boosts {
    title: HashSet<String>,
    headings: HashSet<String>,
}

impl Boosts {
    fn of(prose: &Prose, stops: &StopWords) -> Self {
        let words = |text: &str| -> HashSet<String> {
            Terms::of(text, stops).list.into_iter().filter(|term| !term.is_stop).map(|term| stem(&term.lower)).collect()
        };
        let title = words(&prose.title);
        let headings = prose.headings.iter().flat_map(|heading| words(heading)).collect();
        Self { title, headings }
    }

    /// 1 or more.
    fn of_phrase(&self, candidate: &Candidate, terms: &Terms<'_>) -> f64 {
        let has_all = |words: &HashSet<String>| {
            let mut telling =
                candidate.terms.iter().filter_map(|term| terms.list.get(*term)).filter(|term| !term.is_stop);
            !words.is_empty() && telling.all(|term| words.contains(&stem(&term.lower)))
        };
        if has_all(&self.title) {
            TITLE_WEIGHT
        } else if has_all(&self.headings) {
            HEADING_WEIGHT
        } else {
            1.0
        }
    }
}

/// The best candidates that do not repeat one another.
fn distinct(found: Vec<Candidate>, terms: &Terms<'_>) -> Vec<Keyword> {
    let mut taken: Vec<(Vec<String>, Candidate)> = Vec::new();
    for candidate in found {
        if taken.len() >= KEYWORDS_MAX {
            break;
        }
        let stems: Vec<String> =
            candidate.terms.iter().filter_map(|term| terms.list.get(*term)).map(|term| stem(&term.lower)).collect();
        let repeats = taken.iter().any(|(other, _)| is_within(&stems, other) || is_within(other, &stems));
        if !repeats {
            taken.push((stems, candidate));
        }
    }
    let best = taken.first().map_or(1.0, |(_, candidate)| candidate.score.max(f64::MIN_POSITIVE));
    let rated = |score: f64| (0.9 * (best / score.max(best)).powf(0.25)).clamp(0.0, 1.0) as f32;
    taken
        .into_iter()
        .map(|(_, candidate)| Keyword { confidence: rated(candidate.score), text: candidate.spelt })
        .collect()
}

/// Whether all of `inner` stands in `outer` in a row.
fn is_within(inner: &[String], outer: &[String]) -> bool {
    outer.windows(inner.len().max(1)).any(|words| words == inner)
}

/// A word without its plural or possessive ending, so that `index` and `indexes` are one.
fn stem(word: &str) -> String {
    let word = word.trim_end_matches("'s").trim_end_matches("\u{2019}s");
    if word.len() > 4 && word.ends_with("ies") {
        return format!("{}y", word.trim_end_matches("ies"));
    }
    for (ending, kept) in [("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh")] {
        if let Some(start) = word.strip_suffix(ending) {
            return format!("{start}{kept}");
        }
    }
    let is_plural = word.len() > 3 && word.ends_with('s') && !word.ends_with("ss") && !word.ends_with("us");
    if is_plural { word.trim_end_matches('s').to_owned() } else { word.to_owned() }
}
