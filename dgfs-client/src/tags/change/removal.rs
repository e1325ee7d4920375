//! Taking tags off a file, and tags out of the volume.
//!
//! Never takes off what the path does not name. A tag that a tagger says comes back unless it is vetoed, so it is.

use dgfs_proto::graph::request::Sought;
use dgfs_proto::graph::{GraphAnswer, GraphRequest, Viewer};
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{TagCommand, TagEdit};
use dgfs_proto::query::{Atom, Clause, Query, Test};
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use crate::tags::lookup::View;
use crate::tags::path::Spot;

/// Pages of tags below one that are deleted with it: a million of them.
const PAGES_MAX: usize = 1024;

impl View<'_> {
    /// `rm` of what was found: takes off what the last component says.
    pub(super) async fn remove_entry(&self, at: &Spot, ino: Ino) -> Result<(), Status> {
        if let Some((of, relation)) = at.relation() {
            return self.unrelate(at.scope, &of, relation, ino).await;
        }
        let tag = at.last_tag().ok_or(Status::NotPermitted)?;
        self.check_may_tag(ino).await?;
        let mut edit = TagEdit { inos: vec![ino], ..TagEdit::default() };
        self.take_off(&mut edit, ino, &tag).await?;
        self.change_tags(edit).await
    }

    /// Adds to `edit` what makes `ino` carry `tag` no more.
    pub(super) async fn take_off(&self, edit: &mut TagEdit, ino: Ino, tag: &Tag) -> Result<(), Status> {
        let carried = self.carried(ino, tag).await?;
        edit.remove.extend(carried.by_hand);
        edit.veto.extend(carried.by_taggers);
        Ok(())
    }

    /// `rmdir` of a tag: it is gone with what is below it, if nobody carries it. In a directory below which nobody does, but
    /// elsewhere somebody, there is nothing to do: it is not there any more. Whether there was a tag that a person made.
    pub(crate) async fn delete_tag(&self, scope: Ino, tag: &Tag) -> Result<bool, Status> {
        let clause = Clause::from(Atom::from(Test::Tag(tag.clone())));
        let sought = |scope| Sought { scope, query: Query { clauses: vec![clause.clone()] } };
        // What this user cannot see counts, too.
        let count = GraphRequest::Count(sought(Ino::ROOT));
        let reply = self.core.ask_graph(&Viewer::root(), count).await?;
        let GraphAnswer::Count(carriers) = reply.answer else { return Err(Status::Malformed) };
        if carriers > 0 {
            let here = self.core.ask_graph(&Viewer::root(), GraphRequest::Count(sought(scope))).await?;
            let elsewhere_only = scope != Ino::ROOT && here.answer == GraphAnswer::Count(0);
            return if elsewhere_only { Ok(true) } else { Err(Status::NotEmpty) };
        }
        let mut any = false;
        for tag in self.with_those_below(tag).await? {
            let delete = TagCommand::Delete { tag, unused_at: Some(reply.seq) };
            match self.change_catalogue(delete).await {
                // Only a tagger knew it, or somebody was faster.
                Ok(()) => any = true,
                Err(Status::NotFound) => {}
                Err(status) => return Err(status),
            }
        }
        Ok(any)
    }

    /// The tags below one, and itself at last.
    async fn with_those_below(&self, tag: &Tag) -> Result<Vec<Tag>, Status> {
        let mut found = Vec::new();
        let mut after = format!("{}:", tag.fold());
        for _ in 0..PAGES_MAX {
            let (page, last) = self.tags_page(after).await?;
            let read = page.len();
            let below: Vec<Tag> = page.into_iter().map(|(tag, _)| tag).take_while(|one| one.is_within(tag)).collect();
            let all_below = below.len() == read;
            found.extend(below);
            let Some(last) = last.filter(|_| all_below) else { break };
            after = last;
        }
        found.push(tag.clone());
        Ok(found)
    }
}
