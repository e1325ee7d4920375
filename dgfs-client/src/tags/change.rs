//! What making, linking, removing and renaming below `.tags` does.
//!
//! Never touches a file's content, name or place: only tags, relations and saved queries change, at the metadata service, which
//! answers once it is committed. Always: who changes what a file carries may write it; what stands here only to be seen
//! (`@refine`, `@counts`) may be removed without effect, because `rm -r` must come to its end.

use dgfs_proto::graph::HandRelation;
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{Mutation, RemoveKind, RenameMode, TagCommand, TagEdit};
use dgfs_proto::name::Name;
use dgfs_proto::query::path::{component_text, parse_path};
use dgfs_proto::query::{Context, Relation, show};
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use crate::core::Core;
use crate::tags::accounts;
use crate::tags::lookup::{View, saved_name};
use crate::tags::nodes::Node;
use crate::tags::path::{Meaning, Special, Spot};
use crate::vfs::Forget;

mod relation;
mod removal;
mod rename;
mod target;

impl Core {
    /// Changes what the graph is made of.
    pub(crate) async fn change_graph(&self, mutation: Mutation, inos: &[Ino]) -> Result<(), Status> {
        let op = self.op();
        let (reply, _, changing) = self.link.change(&op, mutation).await;
        inos.iter().for_each(|ino| self.attrs.change(*ino));
        drop(changing);
        let _ = reply?;
        self.forget_in_kernel(inos.iter().map(|ino| Forget::Attrs(*ino)).collect()).await;
        Ok(())
    }
}

impl View<'_> {
    /// Changes what inodes carry, on the viewer's behalf; known attributes of them are old then.
    pub(crate) async fn change_tags(&self, edit: TagEdit) -> Result<(), Status> {
        let inos = edit.inos.clone();
        self.core.change_graph(Mutation::Tag(TagEdit { uid: self.viewer.uid, ..edit }), &inos).await
    }

    /// Changes the catalogue of tags, as far as the viewer may.
    pub(crate) async fn change_catalogue(&self, command: TagCommand) -> Result<(), Status> {
        self.core.change_graph(Mutation::Tags { command, by: self.actor() }, &[]).await
    }

    /// Saves a query under a name that is not there yet, or forgets it.
    async fn change_saved(&self, name: String, expression: Option<String>) -> Result<(), Status> {
        let by = self.actor();
        self.core.change_graph(Mutation::SaveQuery { name, expression, replace: false, by }, &[]).await
    }

    /// `mkdir`: makes a tag.
    pub(crate) async fn make_tag(&self, parent: &Node, name: &Name) -> Result<Node, Status> {
        let Node::Directory(at) = parent else { return Err(Status::NotDirectory) };
        let text = component_text(name.as_bytes());
        if at.special(&text).is_some() {
            return Err(Status::Exists);
        }
        match at.meaning {
            Meaning::Top | Meaning::Query => {}
            Meaning::Values(_)
            | Meaning::Refine
            | Meaning::Of
            | Meaning::Relations(_)
            | Meaning::Saved
            | Meaning::Dates
            | Meaning::Argument => return Err(Status::NotPermitted),
        }
        let spot = at.child(&text).map_err(|error| error.status())?;
        let tag = spot.last_tag().ok_or(Status::NotPermitted)?;
        self.change_catalogue(TagCommand::Make(tag)).await?;
        Ok(Node::Directory(std::sync::Arc::new(spot)))
    }

    /// `link`: tags an inode with all tags of the path. What the kernel is to be told of: the inode itself.
    pub(crate) async fn tag_link(&self, ino: Ino, parent: &Node) -> Result<(), Status> {
        let Node::Directory(at) = parent else { return Err(Status::NotDirectory) };
        if let Some((of, relation)) = at.relation() {
            return self.relate(at.scope, &of, relation, ino).await;
        }
        let add = at.tags()?;
        self.check_may_tag(ino).await?;
        self.change_tags(TagEdit { inos: vec![ino], add, exclusive: true, ..TagEdit::default() }).await
    }

    /// `symlink`: as `link`, of what the target leads to; or saves a query.
    pub(crate) async fn tag_symlink(&self, parent: &Node, name: &Name, target: &[u8]) -> Result<Node, Status> {
        let Node::Directory(at) = parent else { return Err(Status::NotDirectory) };
        if at.meaning == Meaning::Saved {
            return self.save_query(at, name, target).await;
        }
        if at.relation().is_none() {
            // Before the target is looked for: whatever it is, it cannot be put here.
            let _: Vec<Tag> = at.tags()?;
        }
        let ino = self.resolve(at, target).await?;
        self.tag_link(ino, parent).await?;
        Ok(Node::Entry { at: std::sync::Arc::clone(at), ino })
    }

    async fn save_query(&self, at: &std::sync::Arc<Spot>, name: &Name, target: &[u8]) -> Result<Node, Status> {
        let spot = at.child(&component_text(name.as_bytes())).map_err(|error| error.status())?;
        let name = saved_name(&spot).ok_or(Status::Invalid)?.to_owned();
        let path = std::str::from_utf8(target).map_err(|_| Status::Invalid)?;
        // As `readlink` shows it, so that a link can be made again from what another one says.
        let path = path.strip_prefix("../").unwrap_or(path);
        let mut query = parse_path(path, &Context::default()).map_err(|error| error.status())?;
        if self.saved_expression(&name).await.is_ok() {
            return Err(Status::Exists);
        }
        accounts::number_query(&mut query, &self.core.runtime).await?;
        let expression = Some(show::show_expr(&query));
        self.change_saved(name.clone(), expression).await?;
        Ok(Node::Saved { at: std::sync::Arc::clone(at), name })
    }

    /// `unlink`, `rmdir`.
    pub(crate) async fn remove(&self, parent: &Node, name: &Name, kind: RemoveKind) -> Result<(), Status> {
        let Node::Directory(at) = parent else { return Err(Status::NotDirectory) };
        match (self.lookup(parent, name).await?, kind) {
            (Node::Entry { ino, .. }, RemoveKind::Unlink) => self.remove_entry(at, ino).await,
            (Node::Saved { name, .. }, RemoveKind::Unlink) => self.forget_saved(at, name).await,
            (
                Node::File { special: Special::Counts | Special::Explain, .. } | Node::Refinement { .. },
                RemoveKind::Unlink,
            ) => Ok(()),
            (Node::File { special: Special::Ask, .. }, RemoveKind::Unlink) => Err(Status::NotPermitted),
            (Node::Directory(_), RemoveKind::Unlink) => Err(Status::IsDirectory),
            (Node::Directory(spot), RemoveKind::Rmdir) => self.remove_directory(at, &spot).await,
            (_, RemoveKind::Rmdir) => Err(Status::NotDirectory),
        }
    }

    /// Saved queries are the volume's: in the `.tags` of a directory below they are shown, and `rm -r` of that directory leaves
    /// them.
    async fn forget_saved(&self, at: &Spot, name: String) -> Result<(), Status> {
        if at.scope != Ino::ROOT {
            return Ok(());
        }
        self.change_saved(name, None).await
    }

    async fn remove_directory(&self, at: &Spot, spot: &Spot) -> Result<(), Status> {
        if spot.meaning == Meaning::Refine {
            return Ok(());
        }
        if at.meaning == Meaning::Saved
            && let Some(name) = saved_name(spot)
        {
            return self.forget_saved(at, name.to_owned()).await;
        }
        match spot.last_tag().filter(|_| at.meaning == Meaning::Top) {
            Some(tag) => self.delete_tag(at.scope, &tag).await.map(|_| ()),
            None => Err(Status::NotPermitted),
        }
    }

    /// `rename`.
    pub(crate) async fn rename(
        &self,
        from: (&Node, &Name),
        to: (&Node, &Name),
        mode: RenameMode,
    ) -> Result<(), Status> {
        let (Node::Directory(source), Node::Directory(target)) = (from.0, to.0) else {
            return Err(Status::NotDirectory);
        };
        if mode == RenameMode::Exchange {
            return Err(Status::Invalid);
        }
        match self.lookup(from.0, from.1).await? {
            Node::Entry { ino, .. } => self.move_entry(ino, source, target).await,
            Node::Saved { name, .. } => self.rename_saved(&name, target, to.1).await,
            Node::Directory(spot) => self.rename_tag((source, &spot), target, to.1).await,
            Node::Refinement { .. } | Node::File { .. } => Err(Status::NotPermitted),
        }
    }
}

/// The relation that people make, and whether the other file is where it begins.
pub(crate) fn by_hand(relation: Relation) -> Option<(HandRelation, bool)> {
    match relation {
        Relation::LinksTo => Some((HandRelation::LinksTo, true)),
        Relation::LinkedFrom => Some((HandRelation::LinksTo, false)),
        Relation::Derived => Some((HandRelation::DerivedFrom, false)),
        Relation::Sources => Some((HandRelation::DerivedFrom, true)),
        Relation::Versions => Some((HandRelation::VersionOf, true)),
        Relation::Related => Some((HandRelation::RelatedTo, true)),
        Relation::Tags | Relation::Similar | Relation::SameContent | Relation::Authors => None,
    }
}
