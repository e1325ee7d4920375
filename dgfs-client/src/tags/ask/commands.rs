//! Commands: tags, relations, saved queries, the index itself.
//!
//! Never more than the writer may do: tagging needs the right to write each file, and a tag or saved query is changed by whom it
//! belongs to. What concerns everybody (building the index anew, Cypher, which sees everything) is for root and for the user
//! who mounted.

use serde_json::{Value, json};

use dgfs_proto::graph::request::TaggerCommand;
use dgfs_proto::graph::{GraphAnswer, GraphRequest, Viewer};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::{SAVED_QUERIES_MAX, TAG_WORDS_MAX};
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

fn not_theirs(tag: &Tag, owner: u32) -> String {
    format!("the tag \"{tag}\" was made by user {owner}: only that user, root and whoever mounted can change it")
}

/// Why a query could not be saved or forgotten.
fn saving_refused(status: Status) -> String {
    match status {
        Status::Exists => {
            "a query of this name is saved already (it can be replaced: \"replace\", --replace)".to_owned()
        }
        Status::NotPermitted => {
            "another user saved this query: only that user, root and whoever mounted can change it".to_owned()
        }
        Status::NotFound => "no query of this name is saved".to_owned(),
        Status::NoSpace => format!("there are {SAVED_QUERIES_MAX} saved queries, and no more is possible"),
        status => status.to_string(),
    }
}

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
        let by = self.view.actor();
        if by.uid == 0 || by.operator {
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
                TagCommand::Delete { tag: tag(&name)?, unused_at: None }
            }
        };
        match self.change_tags(&command).await {
            Ok(()) => done(),
            Err(status @ (Status::NotPermitted | Status::XattrTooBig)) => {
                Err(self.catalogue_refused(status, &command).await)
            }
            Err(status) => Err(self.why_not(&command, status).await),
        }
    }

    async fn change_tags(&self, command: &TagCommand) -> Result<(), Status> {
        let change = |command: &TagCommand| self.view.change_catalogue(command.clone());
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
            Err(status @ Status::NotPermitted) => {
                let delete = TagCommand::Delete { tag: tag.clone(), unused_at: None };
                Err(self.catalogue_refused(status, &delete).await)
            }
            Err(status) => Err(named(tag.as_str(), status.into())),
        }
    }

    /// Why the catalogue could not be changed: where that is a right, whose.
    async fn catalogue_refused(&self, status: Status, command: &TagCommand) -> AskError {
        if status == Status::XattrTooBig {
            let sentence = format!(
                "a tag has at most {TAG_WORDS_MAX} aliases and implies at most as many others, and this one, or what follows \
                 from it, would have more"
            );
            return AskError::new(status, sentence);
        }
        if status != Status::NotPermitted {
            return status.into();
        }
        let named = match command {
            TagCommand::Make(tag) | TagCommand::Delete { tag, .. } | TagCommand::Alias { alias: tag, tag: None } => {
                [Some(tag), None]
            }
            TagCommand::Alias { tag: Some(tag), .. } | TagCommand::Rename { from: tag, .. } => [Some(tag), None],
            TagCommand::Merge { from, into } => [Some(from), Some(into)],
            TagCommand::Imply { tag, implied, .. } => [Some(tag), Some(implied)],
        };
        let by = self.view.actor();
        for tag in named.into_iter().flatten() {
            // Without an index it is not known whose it is: that it is not the writer's is.
            if let Ok(Some(owner)) = self.view.owner_of(tag).await
                && !by.may_change(owner)
            {
                return AskError::new(status, not_theirs(tag, owner));
            }
        }
        let sentence = "by this, files would be found by a tag of another user, or a tag of another user would get another \
                        name: only that user, root and whoever mounted can do so";
        AskError::new(status, sentence)
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
        let (replace, by) = (save.replace, self.view.actor());
        let change = Mutation::SaveQuery { name: name.to_owned(), expression, replace, by };
        let refused = |status| named(&save.save, AskError::new(status, saving_refused(status)));
        self.view.core.change_graph(change, &[]).await.map_err(refused)?;
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
