//! Moving what was found from tag to tag, and other names for tags and saved queries.
//!
//! Never moves a file. One change for each request, but for a saved query, which is there under both names for a moment.

use std::collections::BTreeSet;

use dgfs_proto::graph::GraphRequest;
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{TagCommand, TagEdit};
use dgfs_proto::name::Name;
use dgfs_proto::query::path::component_text;
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use crate::tags::lookup::{View, saved_name};
use crate::tags::path::{Meaning, Spot};

impl View<'_> {
    /// `mv .tags/a/f .tags/b/`: without the tags that only the source names, with those that only the target names.
    pub(super) async fn move_entry(&self, ino: Ino, source: &Spot, target: &Spot) -> Result<(), Status> {
        let (from, to) = (source.tags()?, target.tags()?);
        let folded = |tags: &[Tag]| tags.iter().map(Tag::fold).collect::<BTreeSet<_>>();
        let (in_source, in_target) = (folded(&from), folded(&to));
        let add: Vec<Tag> = to.into_iter().filter(|tag| !in_source.contains(&tag.fold())).collect();
        let off: Vec<Tag> = from.into_iter().filter(|tag| !in_target.contains(&tag.fold())).collect();
        if add.is_empty() && off.is_empty() {
            return Err(Status::Invalid);
        }
        self.check_may_tag(ino).await?;
        let mut edit = TagEdit { inos: vec![ino], ..TagEdit::default() };
        for tag in &off {
            self.take_off(&mut edit, ino, tag).await?;
        }
        // What is put on stays on, also where it is below what is taken off.
        let stays = folded(&add);
        edit.remove.retain(|tag| !stays.contains(&tag.fold()));
        edit.veto.retain(|tag| !stays.contains(&tag.fold()));
        edit.add = add;
        self.change_tags(edit).await
    }

    /// `mv .tags/a .tags/c`: another name for a tag.
    pub(super) async fn rename_tag(
        &self,
        (source, spot): (&Spot, &Spot),
        target: &Spot,
        name: &Name,
    ) -> Result<(), Status> {
        if source.meaning == Meaning::Saved && target.meaning == Meaning::Saved {
            let saved = saved_name(spot).ok_or(Status::NotPermitted)?.to_owned();
            return self.rename_saved(&saved, target, name).await;
        }
        let from = spot.last_tag().filter(|_| source.meaning == Meaning::Top).ok_or(Status::NotPermitted)?;
        if target.meaning != Meaning::Top {
            // mv(1) was given a tag that exists as the place to move to: `dgfs tag merge` makes one of two.
            return Err(if target.last_tag().is_some() { Status::Exists } else { Status::Invalid });
        }
        let there = target.child(&component_text(name.as_bytes())).map_err(|error| error.status())?;
        let to = there.last_tag().ok_or(Status::Invalid)?;
        if from.fold() != to.fold() {
            let clause = there.last_clause().cloned().ok_or(Status::Invalid)?;
            match self.core.ask_graph(self.viewer, GraphRequest::Known { scope: Ino::ROOT, clause }).await {
                Ok(_) => return Err(Status::Exists),
                Err(refusal) if refusal.status() == Status::NotFound => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
        match self.change_catalogue(TagCommand::Rename { from, to }).await {
            // It was looked up a moment ago: only taggers say it, and they would say it again.
            Err(Status::NotFound) => Err(Status::NotPermitted),
            outcome => outcome,
        }
    }

    pub(super) async fn rename_saved(&self, from: &str, target: &Spot, name: &Name) -> Result<(), Status> {
        if target.meaning != Meaning::Saved {
            return Err(Status::NotPermitted);
        }
        let there = target.child(&component_text(name.as_bytes())).map_err(|error| error.status())?;
        let to = saved_name(&there).ok_or(Status::Invalid)?.to_owned();
        let saved = self.all_saved().await?;
        if saved.iter().any(|(known, _)| *known == to) {
            return Err(Status::Exists);
        }
        let expression = saved.into_iter().find(|(known, _)| known == from).map(|(_, expression)| expression);
        let expression = Some(expression.ok_or(Status::NotFound)?);
        self.change_saved(to.clone(), expression).await?;
        let forgotten = self.change_saved(from.to_owned(), None).await;
        if forgotten == Err(Status::NotPermitted) {
            // It is another user's, and stays what it is called. Whether the copy goes or not, that is the answer.
            let _ = self.change_saved(to, None).await;
        }
        forgotten
    }
}
