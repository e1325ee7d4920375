//! Tests of keys: what the file system knows of each inode, and values that people, attributes and taggers gave.
//!
//! Never mixes the two: a reserved key of the file system's own is looked up in the columns, every other one among the names
//! `key=value`.

use std::borrow::Cow;

use roaring::RoaringBitmap;

use dgfs_proto::attr::FileKind;
use dgfs_proto::query::{Compare, DatePrefix, Key, Number, Value};
use dgfs_proto::tag::fold;

use crate::graph::columns::{Facts, NEVER, NO_CONTENT};
use crate::graph::is_open;
use crate::query::classes::Class;
use crate::query::compare::{Moments, count_holds, date_of, holds, word_holds};
use crate::query::evaluate::Ready;
use crate::query::{Ask, Refusal};

/// Where the value of a key comes from.
enum Source {
    Size,
    Time(fn(&Facts) -> Option<i64>),
    Count(fn(&Facts) -> u32),
    Content,
    Class(Class),
    /// Names that begin with `key=`.
    Names,
}

fn taken(facts: &Facts) -> Option<i64> {
    Some(facts.taken_ns).filter(|taken| *taken != NEVER)
}

fn source(key: &Key) -> Source {
    match key {
        Key::Size => Source::Size,
        Key::Mtime => Source::Time(|facts| Some(facts.mtime_ns)),
        Key::Ctime => Source::Time(|facts| Some(facts.ctime_ns)),
        Key::Btime => Source::Time(|facts| Some(facts.btime_ns)),
        Key::Taken => Source::Time(taken),
        Key::Owner => Source::Count(|facts| facts.uid),
        Key::Group => Source::Count(|facts| facts.gid),
        Key::Nlink => Source::Count(|facts| facts.nlink),
        Key::Hash => Source::Content,
        Key::Other(_) => Class::of_key(key).map_or(Source::Names, Source::Class),
        Key::Type | Key::Ext | Key::Mime | Key::Lang => Source::Names,
    }
}

impl<'a> Ask<'a> {
    /// Has any value of the key.
    pub(crate) fn prepare_has(&self, key: &Key) -> Result<Ready<'a>, Refusal> {
        Ok(match source(key) {
            Source::Size => Ready::Docs(Cow::Owned(self.files())),
            Source::Time(value) => self.scan_facts(move |facts| value(facts).is_some()),
            Source::Count(_) => Ready::Docs(Cow::Borrowed(self.graph.columns.live())),
            Source::Content => self.scan_facts(|facts| facts.content != NO_CONTENT),
            Source::Class(_) => Ready::Docs(Cow::Owned(self.files())),
            Source::Names => Ready::Docs(Cow::Owned(self.valued(key, |_| true)?)),
        })
    }

    /// Its value compares so.
    pub(crate) fn prepare_comparison(&self, key: &Key, op: Compare, value: &Value) -> Result<Ready<'a>, Refusal> {
        let owned = value.clone();
        Ok(match source(key) {
            Source::Size => match value {
                Value::Size(size) => {
                    let size = *size;
                    self.scan_facts(move |facts| is_sized(facts) && holds(&facts.size, op, &size))
                }
                _ => Ready::none(),
            },
            Source::Time(of) => match Moments::of_comparison(op, value, self.now_ns) {
                Some(moments) => self.scan_facts(move |facts| of(facts).is_some_and(|at| moments.contain(at))),
                None => Ready::none(),
            },
            Source::Count(of) => self.scan_facts(move |facts| count_holds(of(facts), op, &owned)),
            Source::Content => self.prepare_hash(op, value),
            Source::Class(class) => self.scan_facts(class.fits(move |text| word_holds(text, op, &owned))),
            Source::Names => match (key, op, value) {
                // A class of contents stands for all of them.
                (Key::Mime, Compare::Equal, Value::Text(class)) if !class.contains('/') => {
                    let class = format!("{}/", fold(class));
                    Ready::Docs(Cow::Owned(self.valued(key, |stored| stored.starts_with(&class))?))
                }
                (_, Compare::Equal, Value::Text(text)) if date_of(value).is_none() => {
                    let name = format!("{}={}", key.as_str(), fold(text));
                    Ready::Docs(Cow::Owned(self.carriers([name])?))
                }
                _ => Ready::Docs(Cow::Owned(self.valued(key, |stored| word_holds(stored, op, value))?)),
            },
        })
    }

    /// Its value lies between.
    pub(crate) fn prepare_range(
        &self,
        key: &Key,
        low: Option<&Value>,
        high: Option<&Value>,
    ) -> Result<Ready<'a>, Refusal> {
        let (owned_low, owned_high) = (low.cloned(), high.cloned());
        Ok(match source(key) {
            Source::Size => {
                self.scan_facts(move |facts| is_sized(facts) && in_sizes(facts.size, &owned_low, &owned_high))
            }
            Source::Time(of) => match Moments::of_range(low, high, self.now_ns) {
                Some(moments) => self.scan_facts(move |facts| of(facts).is_some_and(|at| moments.contain(at))),
                None => Ready::none(),
            },
            Source::Count(of) => self.scan_facts(move |facts| {
                let at_least = owned_low.as_ref().is_none_or(|low| count_holds(of(facts), Compare::AtLeast, low));
                at_least && owned_high.as_ref().is_none_or(|high| count_holds(of(facts), Compare::AtMost, high))
            }),
            Source::Content => Ready::none(),
            Source::Class(class) => {
                self.scan_facts(class.fits(move |text| in_words(text, owned_low.as_ref(), owned_high.as_ref())))
            }
            Source::Names => Ready::Docs(Cow::Owned(self.valued(key, |stored| in_words(stored, low, high))?)),
        })
    }

    /// Taken, or where that is not known changed, on that date (of UTC).
    pub(crate) fn prepare_date(&self, date: DatePrefix) -> Ready<'a> {
        let (from, until) = date.span(0);
        let moments = Moments::span(crate::step::nanoseconds(from), crate::step::nanoseconds(until));
        self.scan_facts(move |facts| {
            facts.kind != FileKind::Directory && moments.contain(taken(facts).unwrap_or(facts.mtime_ns))
        })
    }

    fn prepare_hash(&self, op: Compare, value: &Value) -> Ready<'a> {
        let hash = match value {
            Value::Text(text) => parse_hash(text),
            _ => None,
        };
        let content = hash.and_then(|hash| self.graph.content_of_hash(&hash));
        match (op, content) {
            (Compare::Equal, Some(content)) => self.scan_facts(move |facts| facts.content == content),
            (Compare::Differs, content) => {
                self.scan_facts(move |facts| facts.content != NO_CONTENT && Some(facts.content) != content)
            }
            _ => Ready::none(),
        }
    }

    /// All that carry a value of the key that fits; values come folded.
    fn valued(&self, key: &Key, fits: impl Fn(&str) -> bool) -> Result<RoaringBitmap, Refusal> {
        let prefix = format!("{}=", key.as_str());
        let value = |name: &str| fits(name.get(prefix.len()..).unwrap_or_default());
        let (mut docs, mut guarded) = (RoaringBitmap::new(), RoaringBitmap::new());
        for (name, word) in self.graph.words.with_prefix(&prefix) {
            let Some(said) = self.graph.words.docs(word).filter(|_| value(name)) else { continue };
            if is_open(name) {
                docs |= said;
            } else {
                guarded |= said;
            }
        }
        docs |= self.readable(Cow::Owned(guarded))?.as_ref();
        let tags: Vec<String> =
            self.graph.tags.named(&prefix).filter(|(name, _)| value(name)).map(|(name, _)| name.to_owned()).collect();
        if !tags.is_empty() {
            docs |= self.carriers(tags)?;
        }
        Ok(docs)
    }
}

fn is_sized(facts: &Facts) -> bool {
    facts.kind != FileKind::Directory
}

fn in_sizes(size: u64, low: &Option<Value>, high: &Option<Value>) -> bool {
    let bound = |value: &Option<Value>, op| match value {
        Some(Value::Size(bound)) => holds(&size, op, bound),
        Some(_) => false,
        None => true,
    };
    bound(low, Compare::AtLeast) && bound(high, Compare::AtMost)
}

fn in_words(stored: &str, low: Option<&Value>, high: Option<&Value>) -> bool {
    low.is_none_or(|low| word_holds(stored, Compare::AtLeast, low))
        && high.is_none_or(|high| word_holds(stored, Compare::AtMost, high))
}

/// 64 hexadecimal digits.
fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(hash)
}

/// The number that a value is sorted by, where it is one.
pub(crate) fn sort_number(value: &str) -> Option<Number> {
    Number::parse(value)
}
