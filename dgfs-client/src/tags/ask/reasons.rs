//! Why a request was refused, with the name that is at fault.
//!
//! Never decides whether it is refused: the services did. Asks further questions only then.

use dgfs_proto::graph::GraphRequest;
use dgfs_proto::limits::TAG_WORDS_MAX;
use dgfs_proto::meta::TagCommand;
use dgfs_proto::query::{Atom, Clause, Entry, Query, Relation, Test};
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use super::commands::named;
use super::{AskError, Asking};
use crate::tags::change::by_hand;

/// Names that are told at most: a person looks at the first one first.
const UNKNOWN_MAX: usize = 8;

impl Asking<'_> {
    /// Tests of a query that name what nobody knows.
    pub(super) async fn unknown_in(&self, query: &Query) -> Vec<Test> {
        let mut unknown = Vec::new();
        for atom in query.clauses.iter().flat_map(|clause| &clause.atoms) {
            if unknown.len() == UNKNOWN_MAX {
                break;
            }
            if !self.knows(&atom.test).await {
                unknown.push(atom.test.clone());
            }
        }
        unknown
    }

    /// Is all that a test names known? What cannot be found out is.
    async fn knows(&self, test: &Test) -> bool {
        let clause = Clause::from(Atom::from(test.clone()));
        let asked = self.view.core.ask_graph(self.view.viewer, GraphRequest::Known { scope: self.scope, clause }).await;
        !asked.is_err_and(|refusal| refusal.status() == Status::NotFound)
    }

    pub(super) async fn is_known(&self, tag: &Tag) -> bool {
        self.knows(&Test::Tag(tag.clone())).await
    }

    /// The refusal of a question in which something is not known.
    pub(super) async fn not_known(&self, query: &Query) -> Option<AskError> {
        let unknown = self.unknown_in(query).await;
        let sentences: Vec<String> = unknown.iter().map(not_known).collect();
        (!sentences.is_empty()).then(|| AskError::new(Status::NotFound, sentences.join("; ")))
    }

    /// Why a command about `tag` finds no such tag: nobody knows it, or only taggers.
    pub(super) async fn not_set(&self, tag: &Tag) -> AskError {
        let sentence = if self.is_known(tag).await {
            format!(
                "nobody set \"{tag}\" by hand, only taggers say it: `dgfs tag alias NAME \"{tag}\"` gives it a further name, \
                 `dgfs tagger veto \"{tag}\" FILE` keeps them from saying it of a file"
            )
        } else {
            format!("no tag is called \"{tag}\"")
        };
        AskError::new(Status::NotFound, sentence)
    }

    /// The first of `tags` that nobody set.
    async fn not_set_among(&self, tags: [&Tag; 2]) -> Option<AskError> {
        for tag in tags {
            if !self.view.is_catalogued(tag).await.unwrap_or(true) {
                return Some(self.not_set(tag).await);
            }
        }
        None
    }

    /// Why a change of the catalogue was refused.
    pub(super) async fn why_not(&self, command: &TagCommand, status: Status) -> AskError {
        let found = match (command, status) {
            (TagCommand::Rename { from: tag, .. } | TagCommand::Delete { tag, .. }, Status::NotFound)
            | (TagCommand::Alias { tag: Some(tag), .. }, Status::NotFound) => Some(self.not_set(tag).await),
            (TagCommand::Merge { from, into }, Status::NotFound) => self.not_set_among([from, into]).await,
            (TagCommand::Imply { tag, implied, .. }, Status::NotFound) => self.not_set_among([tag, implied]).await,
            _ => None,
        };
        found.unwrap_or_else(|| match sentence_of(command, status) {
            Some(sentence) => AskError::new(status, sentence),
            None => named(name_of(command).as_str(), status.into()),
        })
    }
}

const fn name_of(command: &TagCommand) -> &Tag {
    match command {
        TagCommand::Make(tag)
        | TagCommand::Rename { from: tag, .. }
        | TagCommand::Merge { from: tag, .. }
        | TagCommand::Delete { tag, .. }
        | TagCommand::Alias { alias: tag, .. }
        | TagCommand::Imply { tag, .. } => tag,
    }
}

fn sentence_of(command: &TagCommand, status: Status) -> Option<String> {
    Some(match (command, status) {
        (TagCommand::Make(tag) | TagCommand::Alias { alias: tag, tag: Some(_) }, Status::Exists) => {
            format!("there is a tag already that is called \"{tag}\", or has that further name")
        }
        (TagCommand::Rename { from, to }, Status::Exists) => {
            format!("there is a tag \"{to}\" already: `dgfs tag merge \"{from}\" \"{to}\"` makes one of the two")
        }
        (TagCommand::Merge { from, into }, Status::Invalid) => format!("\"{from}\" and \"{into}\" are one tag already"),
        (TagCommand::Alias { alias, tag: None }, Status::NotFound) => {
            format!("\"{alias}\" is no further name of a tag")
        }
        (TagCommand::Alias { alias, tag: None }, Status::Invalid) => {
            format!("\"{alias}\" is a tag itself, not a further name of one")
        }
        (TagCommand::Imply { tag, implied, .. }, Status::Invalid) => {
            format!("\"{tag}\" and \"{implied}\" are one tag, and none implies itself")
        }
        (TagCommand::Imply { tag, implied, .. }, Status::Exists) => format!("\"{tag}\" implies \"{implied}\" already"),
        (TagCommand::Imply { tag, implied, .. }, Status::NotFound) => format!("\"{tag}\" does not imply \"{implied}\""),
        (_, Status::XattrTooBig) => {
            format!("a tag has at most {TAG_WORDS_MAX} further names, and implies at most {TAG_WORDS_MAX} others")
        }
        _ => return None,
    })
}

fn not_known(test: &Test) -> String {
    match test {
        Test::Tag(tag) => format!("no tag is called \"{tag}\""),
        Test::Has(key) | Test::Compare { key, .. } | Test::Range { key, .. } => {
            format!("no file has a value of the key \"{}\"", key.as_str())
        }
        Test::Related { of: Entry::Name(name), .. } => format!("no file is called \"{name}\" in this directory"),
        Test::Related { of: entry @ Entry::Ino(_), .. } => format!("no file has the id {}", entry.to_component()),
        Test::File(ino) => format!("no file has the id {}", Entry::Ino(*ino).to_component()),
        Test::Saved(name) => format!("no saved query is called \"{name}\""),
        Test::Text(_) | Test::Name(_) | Test::All | Test::Untagged | Test::Recent | Test::Date(_) => {
            "something that is named is not known".to_owned()
        }
    }
}

/// Why a relation was not made, or not taken back.
pub(super) fn not_related(relation: Relation, on: bool, status: Status) -> AskError {
    let mut error = match (status, by_hand(relation)) {
        (Status::NotPermitted, None) => AskError::new(
            status,
            format!("\"{relation}\" is found out by the index: nobody makes it or takes it back by hand"),
        ),
        (Status::NotPermitted, Some(_)) if !on => {
            AskError::new(status, format!("nobody made the relation \"{relation}\" between these two by hand"))
        }
        (Status::Invalid, _) => AskError::new(status, "a file has no relation to itself"),
        (Status::Exists, _) => {
            AskError::new(status, format!("there is the relation \"{relation}\" between these two already"))
        }
        (Status::AccessDenied | Status::NotPermitted, _) => {
            AskError::new(status, format!("{relation}: {status}: this needs the right to write the file"))
        }
        (Status::XattrTooBig, _) => {
            AskError::new(status, format!("{relation}: the file has as many relations as one may have"))
        }
        (status, _) => named(relation.as_str(), status.into()),
    };
    if status == Status::NotPermitted && by_hand(relation).is_none() {
        let made = Relation::ALL.into_iter().filter(|one| by_hand(*one).is_some());
        error.expected = Some(made.map(Relation::as_str).collect::<Vec<_>>().join(", "));
    }
    error
}
