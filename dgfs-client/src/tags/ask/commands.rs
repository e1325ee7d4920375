//! Commands: tags, relations, saved queries, the index itself.
//!
//! Never more than the writer may do: tagging needs the right to write each file. What concerns everybody (building the index
//! anew, a tag that is taken from every file, Cypher, which sees everything) is for root and for the user who mounted.

use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};

use dgfs_proto::graph::request::TaggerCommand;
use dgfs_proto::graph::{GraphAnswer, GraphRequest, Viewer};
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{Mutation, TagCommand};
use dgfs_proto::query::{Entry, Relation, show};
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use super::questions::malformed;
use super::reasons::not_related;
use super::request::{CommandWord, RelateWords, Save, TaggerWord};
use super::{AskError, Asking, Lines};
use crate::tags::accounts;
use crate::tags::list::saved_component;
use crate::tags::lookup::saved_name;
use crate::tags::path::{SAVED, Spot};

pub(super) fn done() -> Lines {
    Ok(vec![json!({ "done": true })])
}

/// The refusal with what it is about.
pub(super) fn named(what: &str, mut error: AskError) -> AskError {
    error.sentence = format!("\"{what}\": {}", error.sentence);
    error
}

impl Asking<'_> {
    fn check_operator(&self) -> Result<(), AskError> {
        let uid = self.view.viewer.uid;
        let mounted_by = std::fs::metadata("/proc/self").map(|facts| facts.uid());
        if uid == 0 || mounted_by.is_ok_and(|owner| owner == uid) {
            return Ok(());
        }
        Err(AskError::new(Status::NotPermitted, "only root and the user who mounted the volume may do this"))
    }

    async fn as_operator(&self, request: GraphRequest) -> Result<GraphAnswer, AskError> {
        self.check_operator()?;
        Ok(self.view.core.ask_graph(&Viewer::root(), request).await?.answer)
    }

    pub(super) async fn rebuild(&self) -> Lines {
        match self.as_operator(GraphRequest::Rebuild).await? {
            GraphAnswer::Done => done(),
            _ => Err(malformed()),
        }
    }

    pub(super) async fn check(&self) -> Lines {
        let GraphAnswer::Text(text) = self.as_operator(GraphRequest::Check).await? else { return Err(malformed()) };
        // The last line counts.
        let (differences, summary) = text.trim_end().rsplit_once('\n').unwrap_or(("", text.trim_end()));
        let lines = differences.lines().map(|line| json!({ "difference": line }));
        Ok(lines.chain([json!({ "end": true, "summary": summary })]).collect())
    }

    pub(super) async fn cypher(&self, cypher: String) -> Lines {
        json_lines(&self.as_operator(GraphRequest::Cypher(cypher)).await?)
    }

    pub(super) async fn tagger(&self, word: TaggerWord) -> Lines {
        match word {
            TaggerWord::List => json_lines(&self.ask(GraphRequest::Tagger(TaggerCommand::List)).await?.answer),
            TaggerWord::Pause => json_lines(&self.pause(true).await?),
            TaggerWord::Resume => json_lines(&self.pause(false).await?),
            TaggerWord::Run { tagger, of } => {
                let ino = self.inode(&of).await?;
                self.view.check_may_tag(ino).await?;
                let run = GraphRequest::Tagger(TaggerCommand::Run { tagger, ino });
                json_lines(&self.ask(run).await?.answer)
            }
        }
    }

    async fn pause(&self, on: bool) -> Result<GraphAnswer, AskError> {
        self.as_operator(GraphRequest::Tagger(TaggerCommand::Pause(on))).await
    }

    pub(super) async fn tags_command(&self, word: CommandWord) -> Lines {
        let tag = |text: &str| Tag::parse(text).map_err(|error| named(text, error.into()));
        let command = match word {
            CommandWord::Make(name) => TagCommand::Make(tag(&name)?),
            CommandWord::Rename { from, to } => TagCommand::Rename { from: tag(&from)?, to: tag(&to)? },
            CommandWord::Merge { from, into } => TagCommand::Merge { from: tag(&from)?, into: tag(&into)? },
            CommandWord::Alias { alias, tag: to } => {
                let to = to.as_deref().map(tag).transpose()?;
                TagCommand::Alias { alias: tag(&alias)?, tag: to }
            }
            CommandWord::Imply { tag: first, implied, on } => {
                TagCommand::Imply { tag: tag(&first)?, implied: tag(&implied)?, on }
            }
            CommandWord::Delete { tag: name, unused: true } => return self.delete_unused(&tag(&name)?).await,
            CommandWord::Delete { tag: name, unused: false } => {
                self.check_operator()?;
                TagCommand::Delete { tag: tag(&name)?, unused_at: None }
            }
        };
        match self.change_tags(&command).await {
            Ok(()) => done(),
            Err(status) => Err(self.why_not(&command, status).await),
        }
    }

    async fn change_tags(&self, command: &TagCommand) -> Result<(), Status> {
        let change = |command: &TagCommand| self.view.core.change_graph(Mutation::Tags(command.clone()), &[]);
        let outcome = change(command).await;
        match (&outcome, command) {
            // Another name for what only taggers say: then a person says it, too.
            (Err(Status::NotFound), TagCommand::Alias { tag: Some(tag), .. }) if self.is_known(tag).await => {
                change(&TagCommand::Make(tag.clone())).await?;
                change(command).await
            }
            _ => outcome,
        }
    }

    async fn delete_unused(&self, tag: &Tag) -> Lines {
        match self.view.delete_tag(Ino::ROOT, tag).await {
            Ok(true) => done(),
            Ok(false) => Err(self.not_set(tag).await),
            Err(Status::NotEmpty) => {
                Err(AskError::new(Status::NotEmpty, format!("\"{tag}\": files carry this tag, or one below it")))
            }
            Err(status) => Err(named(tag.as_str(), status.into())),
        }
    }

    pub(super) async fn relate(&self, words: RelateWords) -> Lines {
        let Some(relation) = Relation::parse(&words.relation) else {
            let sentence = format!("\"{}\" is no relation", words.relation);
            let mut error = AskError::new(Status::Invalid, sentence);
            error.expected = Some(Relation::ALL.map(Relation::as_str).join(", "));
            return Err(error);
        };
        let (from, to) = (Entry::Ino(self.inode(&words.from).await?), self.inode(&words.to).await?);
        let changed = if words.on {
            self.view.relate(self.scope, &from, relation, to).await
        } else {
            self.view.unrelate(self.scope, &from, relation, to).await
        };
        changed.map_err(|status| not_related(relation, words.on, status))?;
        done()
    }

    pub(super) async fn save(&self, save: Save) -> Lines {
        let spot = Spot::root(self.scope).child(SAVED).and_then(|saved| saved.child(&saved_component(&save.save)))?;
        let Some(name) = saved_name(&spot) else {
            return Err(AskError::new(Status::Invalid, format!("\"{}\" is no name for a saved query", save.save)));
        };
        let expression = match &save.expression {
            Some(expression) => {
                let mut query = self.query(expression, save.utc_offset_secs)?;
                // An index may run where other people have these names.
                accounts::number_query(&mut query, &self.view.core.runtime).await?;
                Some(show::show_expr(&query))
            }
            None => None,
        };
        let change = Mutation::SaveQuery { name: name.to_owned(), expression };
        self.view.core.change_graph(change, &[]).await.map_err(|status| match status {
            Status::NotFound => AskError::new(status, format!("no saved query is called \"{name}\"")),
            status => named(name, status.into()),
        })?;
        done()
    }
}

/// The lines of an answer that is JSON lines already; what is none is shown as text.
fn json_lines(answer: &GraphAnswer) -> Lines {
    match answer {
        GraphAnswer::Done => done(),
        GraphAnswer::Text(text) => {
            let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| json!({ "text": line }));
            Ok(text.lines().map(line).collect::<Vec<Value>>())
        }
        _ => Err(malformed()),
    }
}
