//! Commands: tags, relations, saved queries, the index itself.
//!
//! Never more than the writer may do: tagging needs the right to write each file. What concerns everybody (building the index
//! anew, a tag that is taken from every file, Cypher, which sees everything) is for root and for the user who mounted.

use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};

use dgfs_proto::graph::request::TaggerCommand;
use dgfs_proto::graph::{GraphAnswer, GraphRequest, Viewer};
use dgfs_proto::limits::TAGGED_MAX;
use dgfs_proto::meta::{Mutation, TagCommand, TagEdit};
use dgfs_proto::query::{Entry, Relation, show};
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use super::questions::malformed;
use super::request::{CommandWord, RelateWords, Save, TagWords, TaggerWord, Which};
use super::{AskError, Asking, Lines};
use crate::tags::list::saved_component;
use crate::tags::lookup::saved_name;
use crate::tags::path::{SAVED, Spot};

fn done() -> Lines {
    Ok(vec![json!({ "done": true })])
}

fn tags(texts: &[String]) -> Result<Vec<Tag>, AskError> {
    let tag = |text: &String| Tag::parse(text).map_err(|error| named(text, error.into()));
    texts.iter().map(tag).collect()
}

/// The refusal with what it is about.
fn named(what: &str, mut error: AskError) -> AskError {
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

    pub(super) async fn tag(&self, words: TagWords) -> Lines {
        let count = words.inos.len() + words.paths.len();
        if count == 0 || count > TAGGED_MAX {
            let sentence = format!("expected 1 to {TAGGED_MAX} files in \"inos\" and \"paths\" together, not {count}");
            return Err(AskError::new(Status::Invalid, sentence));
        }
        let mut edit = TagEdit {
            add: tags(&words.add)?,
            remove: tags(&words.remove)?,
            veto: tags(&words.veto)?,
            unveto: tags(&words.unveto)?,
            exclusive: words.exclusive,
            inos: Vec::with_capacity(count),
        };
        if edit.add.is_empty() && edit.remove.is_empty() && edit.veto.is_empty() && edit.unveto.is_empty() {
            let sentence = "expected a tag in \"add\", \"remove\", \"veto\" or \"unveto\"";
            return Err(AskError::new(Status::Invalid, sentence));
        }
        for which in words.inos.into_iter().chain(words.paths.into_iter().map(Which::Text)) {
            let ino = self.inode(&which).await?;
            if let Err(status) = self.view.check_may_tag(ino).await {
                let sentence = format!("{which:?}: {status}: tagging needs the right to write the file");
                return Err(AskError::new(status, sentence));
            }
            if !edit.inos.contains(&ino) {
                edit.inos.push(ino);
            }
        }
        let tagged = edit.inos.len();
        self.view.core.change_tags(edit).await?;
        Ok(vec![json!({ "tagged": tagged })])
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
            CommandWord::Delete { tag: name, unused: true } => {
                self.view.delete_tag(dgfs_proto::ids::Ino::ROOT, &tag(&name)?).await.map_err(
                    |status| match status {
                        Status::NotEmpty => AskError::new(status, format!("\"{name}\": files carry this tag")),
                        status => named(&name, status.into()),
                    },
                )?;
                return done();
            }
            CommandWord::Delete { tag: name, unused: false } => {
                self.check_operator()?;
                TagCommand::Delete { tag: tag(&name)?, unused_at: None }
            }
        };
        self.view.core.change_graph(Mutation::Tags(command), &[]).await?;
        done()
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
        changed.map_err(|status| named(relation.as_str(), status.into()))?;
        done()
    }

    pub(super) async fn save(&self, save: Save) -> Lines {
        let spot = Spot::root(self.scope).child(SAVED).and_then(|saved| saved.child(&saved_component(&save.save)))?;
        let Some(name) = saved_name(&spot) else {
            return Err(AskError::new(Status::Invalid, format!("\"{}\" is no name for a saved query", save.save)));
        };
        let expression = match &save.expression {
            Some(expression) => Some(show::show_expr(&self.query(expression, save.utc_offset_secs)?)),
            None => None,
        };
        let change = Mutation::SaveQuery { name: name.to_owned(), expression };
        self.view.core.change_graph(change, &[]).await.map_err(|status| named(&save.save, status.into()))?;
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
