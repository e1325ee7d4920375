//! Tags given to files and taken from them.
//!
//! Never tags for somebody who may not write the file, and never changes some files of a request only. Always: a tag that is taken
//! off does not come back by a tagger, which is vetoed as `rm` of an entry does; what a file does not carry is told, and no error.

use serde_json::{Value, json};

use dgfs_proto::graph::request::Sought;
use dgfs_proto::graph::{GraphAnswer, GraphRequest};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::{TAGGED_MAX, TAGS_PER_FILE_MAX};
use dgfs_proto::meta::TagEdit;
use dgfs_proto::query::{Atom, Query, Test};
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use super::commands::named;
use super::questions::malformed;
use super::request::{TagWords, Which};
use super::{AskError, Asking, Lines};
use crate::tags::allowed::Carried;

fn tags(texts: &[String]) -> Result<Vec<Tag>, AskError> {
    let tag = |text: &String| Tag::parse(text).map_err(|error| named(text, error.into()));
    texts.iter().map(tag).collect()
}

fn is_empty(edit: &TagEdit) -> bool {
    edit.add.is_empty() && edit.remove.is_empty() && edit.veto.is_empty() && edit.unveto.is_empty()
}

impl Asking<'_> {
    pub(super) async fn tag(&self, words: TagWords) -> Lines {
        let count = words.inos.len() + words.paths.len();
        if count == 0 || count > TAGGED_MAX {
            let sentence = format!("expected 1 to {TAGGED_MAX} files in \"inos\" and \"paths\" together, not {count}");
            return Err(AskError::new(Status::Invalid, sentence));
        }
        let remove = tags(&words.remove)?;
        let mut edit = TagEdit {
            add: tags(&words.add)?,
            remove: Vec::new(),
            veto: tags(&words.veto)?,
            unveto: tags(&words.unveto)?,
            exclusive: words.exclusive,
            inos: Vec::with_capacity(count),
            uid: self.view.viewer.uid,
        };
        if is_empty(&edit) && remove.is_empty() {
            let sentence = "expected a tag in \"add\", \"remove\", \"veto\" or \"unveto\"";
            return Err(AskError::new(Status::Invalid, sentence));
        }
        for which in words.inos.into_iter().chain(words.paths.into_iter().map(Which::Text)) {
            let ino = self.inode(&which).await?;
            self.view.check_may_tag(ino).await.map_err(|status| may_not(&which, status))?;
            if !edit.inos.contains(&ino) {
                edit.inos.push(ino);
            }
        }
        let tagged = edit.inos.len();
        let mut lines = self.take_off(&mut edit, &remove).await?;
        if !is_empty(&edit) {
            self.view.change_tags(edit).await.map_err(|status| match status {
                Status::XattrTooBig => AskError::new(
                    status,
                    format!("a file carries at most {TAGS_PER_FILE_MAX} tags, and as many vetoes"),
                ),
                status => status.into(),
            })?;
        }
        lines.push(json!({ "tagged": tagged }));
        Ok(lines)
    }

    /// Adds to `edit` what makes its files carry `tags` no more; a line for each that one does not carry.
    async fn take_off(&self, edit: &mut TagEdit, tags: &[Tag]) -> Lines {
        let (mut lines, mut away) = (Vec::new(), false);
        for tag in tags {
            // Looked up once, and only where it is needed: that looks through all tags.
            let mut meant: Option<Option<Tag>> = None;
            for at in 0..edit.inos.len() {
                let Some(ino) = edit.inos.get(at).copied() else { break };
                let set = || Carried { by_hand: vec![tag.clone()], by_taggers: Vec::new() };
                let asked = if away { Err(Status::Unavailable) } else { self.view.carried_as(ino, tag).await };
                let carried = match asked {
                    // Without an index no tagger says anything; what people set is metadata, and goes on.
                    Err(Status::NotSupported | Status::Unavailable) => {
                        // It is waited for once.
                        away = true;
                        set()
                    }
                    carried => carried?,
                };
                let carried = match (carried.is_nothing(), meant.take()) {
                    (false, known) => {
                        meant = known;
                        carried
                    }
                    (true, known) => {
                        let name = match known {
                            Some(known) => known,
                            None => self.view.meant_by(tag).await?,
                        };
                        let carried = match &name {
                            Some(name) => self.view.carried_as(ino, name).await?,
                            None => carried,
                        };
                        meant = Some(name);
                        carried
                    }
                };
                if carried.is_nothing() {
                    lines.push(self.lacking(ino, tag).await?);
                }
                extend(&mut edit.remove, carried.by_hand);
                extend(&mut edit.veto, carried.by_taggers);
            }
        }
        if edit.remove.len().max(edit.veto.len()) > TAGS_PER_FILE_MAX {
            let sentence = format!("more than {TAGS_PER_FILE_MAX} different tags would be taken off: name fewer files");
            return Err(AskError::new(Status::Invalid, sentence));
        }
        Ok(lines)
    }

    /// The line of a tag that a file does not carry, or only because another tag of it implies it.
    async fn lacking(&self, ino: Ino, tag: &Tag) -> Result<Value, AskError> {
        let tests = [Test::File(ino), Test::Tag(tag.clone())];
        let clauses = tests.map(|test| Atom::from(test).into()).to_vec();
        let count = GraphRequest::Count(Sought { scope: Ino::ROOT, query: Query { clauses } });
        let GraphAnswer::Count(count) = self.ask(count).await?.answer else { return Err(malformed()) };
        Ok(json!({ "lacks": tag.as_str(), "ino": ino, "implied": count > 0 }))
    }
}

fn extend(tags: &mut Vec<Tag>, more: Vec<Tag>) {
    for tag in more {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
}

/// Why a file may not be tagged; whoever named it by number knows which it is.
fn may_not(which: &Which, status: Status) -> AskError {
    let reason = match status {
        Status::AccessDenied | Status::NotPermitted => format!("{status}: tagging needs the right to write the file"),
        status => status.to_string(),
    };
    let sentence = match which {
        Which::Number(_) => reason,
        Which::Text(text) => format!("{text}: {reason}"),
    };
    AskError::new(status, sentence)
}
