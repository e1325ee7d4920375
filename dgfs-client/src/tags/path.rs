//! What a path below `.tags` means.
//!
//! Never asks whether a tag or an entry exists; `lookup` does. Always: a [`Spot`] is a directory whose components were read from
//! left to right by the grammar, so two of the same components mean the same.

use dgfs_proto::graph::request::Sought;
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::COMPONENT_BYTES_MAX;
use dgfs_proto::query::path::{ASK, Component, Partial, PathParser, Special as Word, Step, parse_component};
use dgfs_proto::query::{Atom, Clause, Compare, Context, DatePrefix, Entry, Key, Query, QueryError, Relation, Test};
use dgfs_proto::status::Status;
use dgfs_proto::tag::{Tag, name_component};

/// A file of answers, or the way to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    /// How often which tag occurs.
    Counts,
    /// How the query is answered.
    Explain,
    /// Takes a request and gives the answer.
    Ask,
}

impl Special {
    const ALL: [Self; 3] = [Self::Counts, Self::Explain, Self::Ask];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Counts => Word::Counts.as_str(),
            Self::Explain => Word::Explain.as_str(),
            Self::Ask => ASK,
        }
    }
}

/// The directory of co-occurring tags.
pub(crate) const REFINE: &str = "@refine";
/// The directory of saved queries.
pub(crate) const SAVED: &str = "@saved";
/// The directory of years.
const DATE: &str = "@date";
/// What the top lists besides tags and keys. The others need an argument, or (`@refine`) list the same.
pub(crate) const LISTED_AT_TOP: [&str; 5] = ["@all", DATE, "@recent", SAVED, "@untagged"];

/// A virtual directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    /// The directory that has the `.tags`.
    pub(crate) scope: Ino,
    /// Components behind `.tags`, as they were looked up.
    pub(crate) components: Vec<String>,
    /// What is here.
    pub(crate) meaning: Meaning,
    path: PathParser,
}

/// What a virtual directory shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// `.tags`: tags, keys, and further ways.
    Top,
    /// What fits.
    Query,
    /// `key=`: its values.
    Values(Key),
    /// `@refine`: tags that occur together with what fits.
    Refine,
    /// `@of`: entries of the scope.
    Of,
    /// `@of/entry`: relations.
    Relations(Entry),
    /// `@saved`: saved queries.
    Saved,
    /// `@date`: years.
    Dates,
    /// What needs an argument, such as `@file`, and lists nothing.
    Argument,
}

impl Spot {
    /// `.tags` in `scope`.
    pub(crate) const fn root(scope: Ino) -> Self {
        let path = PathParser::new(Context { utc_offset_secs: 0 });
        Self { scope, components: Vec::new(), meaning: Meaning::Top, path }
    }

    /// The directory `component` in this one, as far as the grammar goes. A value of a key is spelt with its key.
    pub(crate) fn child(&self, component: &str) -> Result<Self, QueryError> {
        let mut path = self.path.clone();
        let step = path.push(component)?;
        let meaning = match step {
            Step::Query => key_of(path.query()).map_or(Meaning::Query, Meaning::Values),
            Step::Special(Word::Refine) => Meaning::Refine,
            Step::Partial(Partial::Of) => Meaning::Of,
            Step::Partial(Partial::Relation(entry)) => Meaning::Relations(entry),
            // Elsewhere a link to the saved query would lose what is before it, or its negation.
            Step::Partial(Partial::Saved) if self.meaning == Meaning::Top && component == SAVED => Meaning::Saved,
            // Of what does not lie in a year nearly every year could be listed.
            Step::Partial(Partial::Date) if component == DATE => Meaning::Dates,
            Step::Partial(Partial::Saved | Partial::Date | Partial::File) => Meaning::Argument,
            // These are files and links, and looked up as such.
            Step::Special(Word::Counts | Word::Explain) | Step::Refinement(_) => Meaning::Argument,
        };
        let mut components = self.components.clone();
        components.push(component.to_owned());
        Ok(Self { scope: self.scope, components, meaning, path })
    }

    /// What was asked for so far; of an unfinished test nothing.
    pub(crate) const fn query(&self) -> &Query {
        self.path.query()
    }

    /// The same with the place where it looks.
    pub(crate) fn sought(&self) -> Sought {
        Sought { scope: self.scope, query: self.query().clone() }
    }

    /// The date that is parted further here: of `@date` none (years), of a year months, of a month days.
    pub(crate) fn dates(&self) -> Option<Option<DatePrefix>> {
        match self.meaning {
            Meaning::Dates => Some(None),
            Meaning::Query => match self.query().clauses.last()?.atoms.as_slice() {
                [Atom { negated: false, test: Test::Date(date) }] if date.day().is_none() => Some(Some(*date)),
                _ => None,
            },
            Meaning::Top
            | Meaning::Values(_)
            | Meaning::Refine
            | Meaning::Of
            | Meaning::Relations(_)
            | Meaning::Saved
            | Meaning::Argument => None,
        }
    }

    /// Is there an answer about what fits here?
    fn is_complete(&self) -> bool {
        match self.meaning {
            Meaning::Top | Meaning::Query | Meaning::Values(_) => true,
            Meaning::Refine
            | Meaning::Of
            | Meaning::Relations(_)
            | Meaning::Saved
            | Meaning::Dates
            | Meaning::Argument => false,
        }
    }

    /// The special file of that name, where there is one.
    pub(crate) fn special(&self, name: &str) -> Option<Special> {
        let special = Special::ALL.into_iter().find(|special| special.name() == name)?;
        let here = match special {
            Special::Counts | Special::Explain => self.is_complete(),
            Special::Ask => self.meaning == Meaning::Top,
        };
        here.then_some(special)
    }

    /// `../` as often as it takes from a link in this directory to the directory that has the `.tags`.
    pub(crate) fn way_up(&self) -> String {
        "../".repeat(self.components.len() + 1)
    }

    /// The tags of whoever is put here: those of all components, if each is one tag.
    pub(crate) fn tags(&self) -> Result<Vec<Tag>, Status> {
        let query = self.query();
        // A test of several components is no tag.
        if !self.is_complete() || query.clauses.len() != self.components.len() {
            return Err(Status::Invalid);
        }
        let mut tags = Vec::new();
        for clause in &query.clauses {
            match clause.settable_tag() {
                Some(tag) => tags.push(tag),
                // `year=/2020`: the key goes with its value.
                None if is_key_of_another(clause, query) => {}
                None => return Err(Status::Invalid),
            }
        }
        if tags.is_empty() { Err(Status::Invalid) } else { Ok(tags) }
    }

    /// The tag of the last component, if that is one.
    pub(crate) fn last_tag(&self) -> Option<Tag> {
        self.last_clause()?.settable_tag()
    }

    /// The relation that the last component is, and to whom.
    pub(crate) fn relation(&self) -> Option<(Entry, Relation)> {
        match self.last_clause()?.atoms.as_slice() {
            [atom] if !atom.negated => match &atom.test {
                Test::Related { of, relation } => Some((of.clone(), *relation)),
                _ => None,
            },
            _ => None,
        }
    }

    /// What the last component added.
    pub(crate) fn last_clause(&self) -> Option<&Clause> {
        match self.meaning {
            Meaning::Query | Meaning::Values(_) => self.query().clauses.last(),
            Meaning::Top
            | Meaning::Refine
            | Meaning::Of
            | Meaning::Relations(_)
            | Meaning::Saved
            | Meaning::Dates
            | Meaning::Argument => None,
        }
    }
}

fn is_key_of_another(clause: &Clause, query: &Query) -> bool {
    let [atom] = clause.atoms.as_slice() else { return false };
    let Test::Has(key) = &atom.test else { return false };
    let compares = |test: &Test| matches!(test, Test::Compare { key: other, op: Compare::Equal, .. } if other == key);
    !atom.negated && query.clauses.iter().any(|clause| clause.atoms.iter().any(|atom| compares(&atom.test)))
}

/// The key, if the last clause asks for any value of one.
fn key_of(query: &Query) -> Option<Key> {
    match query.clauses.last()?.atoms.as_slice() {
        [atom] if !atom.negated => match &atom.test {
            Test::Has(key) => Some(key.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// Programs look for hidden files everywhere; no tag begins with a dot, and none is to be refused as misspelt.
pub(crate) fn is_hidden(component: &str) -> bool {
    component.starts_with('.')
}

/// The component that a tag, `key=` or `key=value` has, as the graph names it; none where it has none. Values that taggers say may
/// have what nobody can set by hand, such as a comma.
pub(crate) fn component_of(facet: &str) -> Option<String> {
    let component = name_component(facet);
    let is_tag = facet.contains('=') || Tag::parse(facet).is_ok();
    let is_read = matches!(parse_component(&component, &Context::default()), Ok(Component::Clause(_)));
    (is_tag && is_read && component.len() <= COMPONENT_BYTES_MAX).then_some(component)
}

/// A value as a component spells it behind its key. A range is none: its two dots are its own.
pub(crate) fn value_component(value: &str) -> String {
    // Any key will do: what is escaped depends on the value alone.
    let component = name_component(&format!("k={value}"));
    component.strip_prefix("k=").map_or_else(String::new, str::to_owned)
}
