//! Policies: which class new data of a directory get.
//!
//! Kept as extended attributes (`dgfs.policy.redundancy`) of directories, inherited by everything below that has none of its
//! own; a second copy in the settings row makes them known without looking. Never moves data that are there.

use dgfs_proto::attr::FileKind;
use dgfs_proto::class::Class;
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::{CLASSES_MAX, POLICIES_MAX};
use dgfs_proto::meta::Mutation;
use dgfs_proto::status::Status;

use crate::core::Core;
use crate::core::tx::{Step, Tx};
use crate::rows::SettingsRow;

/// The attribute.
const REDUNDANCY: &[u8] = b"dgfs.policy.redundancy";
/// Names of our own begin so; no others of them can be set.
const PREFIX: &[u8] = b"dgfs.";

/// The class of new data of an inode: its own, or of the nearest directory above that has one, or the volume's.
pub(crate) fn class_of(tx: &mut Tx<'_>, settings: &SettingsRow, ino: Ino) -> Step<Class> {
    if settings.classes.is_empty() {
        return Ok(settings.class);
    }
    let mut at = ino;
    loop {
        if let Some(class) = settings.classes.get(&at) {
            return Ok(*class);
        }
        let row = tx.live_inode(at)?;
        let parent = match row.attr.kind {
            FileKind::Directory => row.attr.parent,
            FileKind::File
            | FileKind::Symlink
            | FileKind::Fifo
            | FileKind::Socket
            | FileKind::CharDevice
            | FileKind::BlockDevice => row.links.first().map_or(Ino::ROOT, |link| link.parent),
        };
        if at == Ino::ROOT {
            return Ok(settings.class);
        }
        at = parent;
    }
}

fn class_in(value: &[u8]) -> Result<Class, Status> {
    let text = std::str::from_utf8(value).map_err(|_| Status::Invalid)?;
    text.trim_end().parse().map_err(|_| Status::Invalid)
}

impl Core {
    /// Refuses a policy that makes no sense or cannot be followed, before anything is changed.
    pub(crate) fn check_policy(&mut self, mutation: &Mutation) -> Result<(), Status> {
        let Mutation::SetXattr { ino, name, value, mode: _ } = mutation else { return Ok(()) };
        if !name.starts_with(PREFIX) {
            return Ok(());
        }
        if name != REDUNDANCY {
            return Err(Status::NotSupported);
        }
        let class = class_in(value)?;
        let fits = self.settings.classes.len() < POLICIES_MAX || self.settings.classes.contains_key(ino);
        if !fits {
            return Err(Status::NoSpace);
        }
        if !self.cluster.is_assigned(class) && self.cluster.classes_in_use() >= CLASSES_MAX {
            return Err(Status::NoSpace);
        }
        // Fewer servers than the class is wide could never give what it promises.
        if self.cluster.domains_for(class) < class.width() { Err(Status::Range) } else { Ok(()) }
    }

    /// A policy was set or removed.
    pub(crate) fn note_policy(&mut self, mutation: &Mutation) {
        if let Mutation::SetXattr { ino, name, value, mode: _ } = mutation
            && name == REDUNDANCY
            && let Ok(class) = class_in(value)
        {
            self.settings.classes.insert(*ino, class);
            let _assigned = self.cluster.want(class);
            self.store_settings();
        }
        if let Mutation::RemoveXattr { ino, name } = mutation
            && name == REDUNDANCY
        {
            self.settings.classes.remove(ino);
            self.store_settings();
        }
    }
}
