//! Who may tag what, and by whose hand a tag came to a file.
//!
//! Never changes anything. The rule is that of `user.*` attributes (xattr(7)): write permission on a file or directory, in a
//! directory with the sticky bit its owner's; of everything else, which has no such attributes, its owner's. Root may always.
//! What may be done to a tag itself, meta decides: it knows who made it.

use std::os::unix::fs::MetadataExt as _;

use dgfs_proto::attr::{Attr, AttrFlags, FileKind};
use dgfs_proto::graph::{GraphAnswer, GraphRequest, TagFacts, Viewer};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::GRAPH_PAGE_MAX;
use dgfs_proto::meta::Actor;
use dgfs_proto::permission::{Guard, Wanted};
use dgfs_proto::query::path::{Component, parse_component};
use dgfs_proto::query::{Clause, Context};
use dgfs_proto::status::Status;
use dgfs_proto::tag::{Tag, parse_csv};

use crate::tags::lookup::View;

/// Where meta keeps the tags that people set.
pub(crate) const XATTR_TAGS: &[u8] = b"user.xdg.tags";
const XATTR_ACL: &[u8] = b"system.posix_acl_access";
const STICKY: u16 = 0o1000;
/// Pages of tags that are looked through for an alias: a million tags.
const PAGES_MAX: usize = 1024;

/// Does who carries `carried` pass the test for `tag`? One value has several spellings: `rating=5.0` is `rating=5`.
fn is_meant(carried: &Tag, tag: &Tag) -> bool {
    carried.is_within(tag) || compared(tag).is_some_and(|clause| compared(carried).as_ref() == Some(&clause))
}

/// The test for a tag with a value.
fn compared(tag: &Tag) -> Option<Clause> {
    tag.key_value()?;
    match parse_component(&tag.to_component(), &Context::default()) {
        Ok(Component::Clause(clause)) => Some(clause),
        Ok(Component::Special(_) | Component::Partial { .. }) | Err(_) => None,
    }
}

/// How a tag, and those below it, come to an inode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    /// Set by people.
    pub(crate) by_hand: Vec<Tag>,
    /// Said by taggers.
    pub(crate) by_taggers: Vec<Tag>,
}

impl Carried {
    pub(crate) fn is_nothing(&self) -> bool {
        self.by_hand.is_empty() && self.by_taggers.is_empty()
    }
}

impl View<'_> {
    /// On whose behalf the viewer's changes of tags and saved queries are made. Whose they are, meta knows.
    pub(crate) fn actor(&self) -> Actor {
        let uid = self.viewer.uid;
        let mounted_by = std::fs::metadata("/proc/self").map(|facts| facts.uid());
        Actor { uid, operator: mounted_by.is_ok_and(|owner| owner == uid) }
    }

    /// Refuses a viewer that may not tag `ino`.
    pub(crate) async fn check_may_tag(&self, ino: Ino) -> Result<(), Status> {
        if self.viewer.uid == 0 {
            return Ok(());
        }
        let attr = self.core.getattr(ino).await?.attr;
        let is_owner = attr.uid == self.viewer.uid;
        let owners_only = match attr.kind {
            FileKind::File => false,
            FileKind::Directory => attr.mode & STICKY != 0,
            FileKind::Symlink | FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
                true
            }
        };
        if owners_only && !is_owner {
            return Err(Status::NotPermitted);
        }
        self.check_permits(&attr, self.viewer, Wanted::WRITE).await
    }

    /// Refuses what permission bits and access list do not permit.
    pub(crate) async fn check_permits(&self, attr: &Attr, viewer: &Viewer, wanted: Wanted) -> Result<(), Status> {
        let acl = if attr.flags.has(AttrFlags::HAS_ACCESS_ACL) {
            match self.core.getxattr(attr.ino, XATTR_ACL.to_vec()).await {
                Ok(value) => Some(value),
                Err(Status::NoXattr) => None,
                Err(status) => return Err(status),
            }
        } else {
            None
        };
        let guard = Guard { mode: attr.mode, uid: attr.uid, gid: attr.gid, acl: acl.as_deref() };
        if guard.permits(viewer, wanted) { Ok(()) } else { Err(Status::AccessDenied) }
    }

    /// Tags that people set on an inode.
    pub(crate) async fn tags_by_hand(&self, ino: Ino) -> Result<Vec<Tag>, Status> {
        match self.core.getxattr(ino, XATTR_TAGS.to_vec()).await {
            Ok(value) => parse_csv(&value).map_err(|_| Status::Malformed),
            Err(Status::NoXattr) => Ok(Vec::new()),
            Err(status) => Err(status),
        }
    }

    /// How `ino` comes to carry `tag`; `NotPermitted` where only another tag brings it along, which is to be removed instead.
    pub(crate) async fn carried(&self, ino: Ino, tag: &Tag) -> Result<Carried, Status> {
        let carried = self.carried_as(ino, tag).await?;
        if !carried.is_nothing() {
            return Ok(carried);
        }
        // Perhaps it is another name for what is carried.
        if let Some(meant) = self.meant_by(tag).await? {
            let carried = self.carried_as(ino, &meant).await?;
            if !carried.is_nothing() {
                return Ok(carried);
            }
        }
        Err(Status::NotPermitted)
    }

    /// As [`Self::carried`] for a name that may be an alias, which nobody carries as such.
    pub(crate) async fn carried_as(&self, ino: Ino, tag: &Tag) -> Result<Carried, Status> {
        let mut by_hand = self.tags_by_hand(ino).await?;
        by_hand.retain(|carried| is_meant(carried, tag));
        let GraphAnswer::Marks { marks, .. } = self.core.ask_graph(self.viewer, GraphRequest::Marks(ino)).await?.answer
        else {
            return Err(Status::Malformed);
        };
        let said = marks.iter().filter_map(|mark| Tag::parse(&mark.name).ok()).filter(|said| is_meant(said, tag));
        let mut by_taggers: Vec<Tag> = said.collect();
        by_taggers.sort_unstable();
        by_taggers.dedup();
        Ok(Carried { by_hand, by_taggers })
    }

    /// The tag that `alias` is another name for.
    pub(crate) async fn meant_by(&self, alias: &Tag) -> Result<Option<Tag>, Status> {
        let wanted = alias.fold();
        let mut after = String::new();
        for _ in 0..PAGES_MAX {
            let (page, last) = self.tags_page(after).await?;
            let found = page.into_iter().find(|(_, aliases)| aliases.iter().any(|alias| alias.fold() == wanted));
            if let Some((tag, _)) = found {
                return Ok(Some(tag));
            }
            let Some(last) = last else { break };
            after = last;
        }
        Ok(None)
    }

    /// Did a person make a tag that has this name?
    pub(crate) async fn is_catalogued(&self, tag: &Tag) -> Result<bool, Status> {
        let (wanted, mut after) = (tag.fold(), String::new());
        for _ in 0..PAGES_MAX {
            let (page, last) = self.tags_page(after).await?;
            let is_it = |name: &Tag| name.fold() == wanted;
            if page.iter().any(|(name, aliases)| is_it(name) || aliases.iter().any(is_it)) {
                return Ok(true);
            }
            let Some(last) = last else { break };
            after = last;
        }
        Ok(false)
    }

    /// The user who made the tag of this name or alias; none where it is not known.
    pub(crate) async fn owner_of(&self, name: &Tag) -> Result<Option<u32>, Status> {
        let wanted = name.fold();
        let mut after = String::new();
        for _ in 0..PAGES_MAX {
            let request = GraphRequest::Tags { after: after.clone(), limit: GRAPH_PAGE_MAX };
            let GraphAnswer::Catalogue(page) = self.core.ask_graph(self.viewer, request).await?.answer else {
                return Err(Status::Malformed);
            };
            let is_it = |facts: &TagFacts| {
                facts.name.fold() == wanted || facts.aliases.iter().any(|alias| alias.fold() == wanted)
            };
            if let Some((_, facts, _)) = page.iter().find(|(_, facts, _)| is_it(facts)) {
                return Ok(Some(facts.owner));
            }
            let last = page.last().map(|(_, facts, _)| facts.name.fold());
            match last.filter(|last| page.len() >= GRAPH_PAGE_MAX as usize && *last > after) {
                Some(last) => after = last,
                None => break,
            }
        }
        Ok(None)
    }

    /// Tags behind `after`, each with its other names; the last one, folded, where a page may follow.
    pub(crate) async fn tags_page(&self, after: String) -> Result<(Vec<(Tag, Vec<Tag>)>, Option<String>), Status> {
        let request = GraphRequest::Tags { after: after.clone(), limit: GRAPH_PAGE_MAX };
        let GraphAnswer::Catalogue(tags) = self.core.ask_graph(self.viewer, request).await?.answer else {
            return Err(Status::Malformed);
        };
        let whole = tags.len() >= GRAPH_PAGE_MAX as usize;
        let last = tags.last().map(|(_, facts, _)| facts.name.fold()).filter(|last| whole && *last > after);
        Ok((tags.into_iter().map(|(_, facts, _)| (facts.name, facts.aliases)).collect(), last))
    }
}
