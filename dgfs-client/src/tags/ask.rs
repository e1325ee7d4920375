//! What is written to `@ask`, and what is read then: one request in JSON, its answer as JSON lines.
//!
//! Never does what the writer could not do by paths: permissions are checked for whoever wrote the request. Always: an answer
//! ends, and what is wrong with a request is said in a sentence: `{"error": …, "at": …, "expected": …}`.
//!
//! Reading order: [`request`] (the words) → [`questions`], [`tagging`] and [`commands`] (what they do) → [`reasons`] (why not) → [`shown`] (what is shown of things).

mod commands;
mod questions;
mod reasons;
mod request;
pub(crate) mod shown;
mod tagging;

use serde_json::{Value, json};

use dgfs_proto::ids::Ino;
use dgfs_proto::query::{Context, Query, QueryError, expr};
use dgfs_proto::status::Status;
use dgfs_proto::tag::TagError;

use crate::tags::ask::request::{Check, Duplicates, Progress, Rebuild, Request, Saved, Wait, Which, Yes};
use crate::tags::link::Refusal;
use crate::tags::lookup::View;

/// A request's view: who wrote it, and the directory that has the `.tags`.
pub(crate) struct Asking<'a> {
    pub(crate) view: View<'a>,
    pub(crate) scope: Ino,
    /// May the request change something?
    pub(crate) writable: bool,
}

/// Why a request was refused.
#[derive(Debug)]
pub(crate) struct AskError {
    sentence: String,
    /// Byte of the expression, or of the request.
    at: Option<usize>,
    expected: Option<String>,
    status: Status,
}

impl AskError {
    pub(crate) fn new(status: Status, sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), at: None, expected: None, status }
    }

    fn to_line(&self) -> Value {
        let mut line = json!({ "error": self.sentence });
        if let Some(object) = line.as_object_mut() {
            if let Some(at) = self.at {
                object.insert("at".to_owned(), json!(at));
            }
            if let Some(expected) = &self.expected {
                object.insert("expected".to_owned(), json!(expected));
            }
        }
        line
    }
}

impl From<Status> for AskError {
    fn from(status: Status) -> Self {
        Self::new(status, status.to_string())
    }
}

impl From<Refusal> for AskError {
    fn from(refusal: Refusal) -> Self {
        let sentence = match refusal {
            Refusal::Status(Status::NotSupported) => {
                "this mount knows no index: start one with `dgfs index`".to_owned()
            }
            Refusal::Status(Status::Unavailable) => "no index answered in time".to_owned(),
            Refusal::Status(Status::NotFound) => {
                "a tag, key, saved query or file that is named is not known".to_owned()
            }
            Refusal::Status(_) | Refusal::Sentence(_) | Refusal::Unknown(_) => refusal.to_string(),
        };
        Self::new(refusal.status(), sentence)
    }
}

impl From<QueryError> for AskError {
    fn from(error: QueryError) -> Self {
        let (at, expected) = (Some(error.at), Some(error.expected.to_string()));
        Self { sentence: error.to_string(), at, expected, status: error.status() }
    }
}

impl From<TagError> for AskError {
    fn from(error: TagError) -> Self {
        Self::new(Status::Invalid, format!("not a tag: {error}"))
    }
}

type Lines = Result<Vec<Value>, AskError>;

impl Asking<'_> {
    /// Carries a request out; the answer's lines, and why it was refused.
    pub(crate) async fn answer(&self, bytes: &[u8]) -> (String, Option<Status>) {
        let answer = match request::read(bytes) {
            Ok(request) if !self.writable && request.changes() => Err(AskError::new(
                Status::ReadOnly,
                "the mount is read-only, or the way that was asked by is: nothing can be changed here",
            )),
            Ok(request) => self.carry_out(request).await,
            Err(error) => Err(error),
        };
        // Who waited for an index, or for taggers, is to see by path what they found.
        self.view.kept.forget();
        let (lines, refused) = match answer {
            Ok(lines) => (lines, None),
            Err(error) => (vec![error.to_line()], Some(error.status)),
        };
        let mut text = String::new();
        for line in lines {
            text.push_str(&line.to_string());
            text.push('\n');
        }
        (text, refused)
    }

    async fn carry_out(&self, request: Request) -> Lines {
        match request {
            Request::Find(find) => self.find(find).await,
            Request::Count(count) => self.count(&count).await,
            Request::Facets(facets) => self.facets(facets).await,
            Request::Explain(explain) => self.explain(&explain).await,
            Request::Tags(tags) => self.tags(tags).await,
            Request::Saved(Saved { saved: Yes }) => self.saved().await,
            Request::Related(related) => self.related(related).await,
            Request::Duplicates(Duplicates { duplicates: Yes, limit }) => self.duplicates(limit).await,
            Request::Marks(marks) => self.marks(marks).await,
            Request::Progress(Progress { status: Yes }) => self.status().await,
            Request::Wait(Wait { wait: Yes }) => self.wait().await,
            Request::Watch(watch) => self.watch(watch).await,
            Request::Rebuild(Rebuild { rebuild: Yes }) => self.rebuild().await,
            Request::Check(Check { check: Yes }) => self.check().await,
            Request::Cypher(cypher) => self.cypher(cypher.cypher).await,
            Request::Tagger(tagger) => self.tagger(tagger.tagger).await,
            Request::Tag(tag) => self.tag(tag.tag).await,
            Request::TagsCommand(command) => self.tags_command(command.tags_command).await,
            Request::Relate(relate) => self.relate(relate.relate).await,
            Request::Save(save) => self.save(save).await,
        }
    }

    fn query(&self, expression: &str, utc_offset_secs: i32) -> Result<Query, AskError> {
        Ok(expr::parse_expr(expression, &Context { utc_offset_secs })?)
    }

    /// The inode that a request names, if the viewer can reach it.
    async fn inode(&self, which: &Which) -> Result<Ino, AskError> {
        let ino = match which {
            Which::Number(number) => {
                Ino::new(*number).ok_or_else(|| AskError::new(Status::NotFound, "0 is no inode's number"))?
            }
            Which::Text(text) => match text.strip_prefix('~').and_then(dgfs_proto::query::entry::parse_id) {
                Some(ino) => ino,
                None => {
                    let found = self.view.resolve_from(self.scope, text.as_bytes()).await;
                    return found.map_err(|status| AskError::new(status, format!("{text}: {status}")));
                }
            },
        };
        if self.view.viewer.uid != 0 && ino != Ino::ROOT {
            // By number one could name what one could not go to.
            let placed = self.view.place(Ino::ROOT, ino).await;
            let _ = placed.map_err(|status| AskError::new(status, format!("inode {ino}: {status}")))?;
        }
        Ok(ino)
    }
}
