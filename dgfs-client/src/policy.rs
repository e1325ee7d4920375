//! Which class new data of a file get.
//!
//! Never decides: meta does, once for each directory and change of any policy, and it refuses what was stored by a policy of
//! before. Always: a volume without policies of directories is not asked about them.

use std::sync::Arc;

use parking_lot::Mutex;

use dgfs_proto::class::Class;
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{MetaReply, Query};
use dgfs_proto::status::Status;

use crate::cache::shards::Shards;
use crate::core::Core;
use crate::operation::Op;

/// Directories remembered.
const REMEMBERED_MAX: usize = 4096;

/// Answers of meta, while no policy changes.
pub(crate) struct Policies {
    /// The change of policies that the answers follow.
    of: Mutex<u64>,
    classes: Shards<Ino, Class>,
}

impl Policies {
    pub(crate) fn new() -> Self {
        Self { of: Mutex::new(0), classes: Shards::new(REMEMBERED_MAX) }
    }
}

impl Core {
    /// Where a file lay when it was looked at last.
    fn directory_of(&self, ino: Ino) -> Ino {
        self.files.get(ino).map_or(ino, |file| file.inner.lock().attr.parent)
    }

    /// Meta is asked again before the next new chunk of the file.
    pub(crate) fn forget_policy_of(&self, ino: Ino) {
        self.policies.classes.change(self.directory_of(ino));
    }

    /// The class of new chunks of a file that this mount has open.
    pub(crate) async fn class_of_new(self: &Arc<Self>, op: &Op, ino: Ino) -> Result<Class, Status> {
        let map = self.stores.map();
        if map.policies == 0 {
            return Ok(map.default_class);
        }
        let directory = self.directory_of(ino);
        {
            let mut of = self.policies.of.lock();
            if *of != map.policies {
                *of = map.policies;
                self.policies.classes.clear();
            }
        }
        if let Some(class) = self.policies.classes.get(&directory) {
            return Ok(class);
        }
        let asked = self.policies.classes.asking();
        // Of the file itself: where it lies now is for meta to know.
        match self.link.query(op, Query::Policy(ino)).await {
            Ok(MetaReply::Policy { class }) => {
                self.policies.classes.keep(asked, directory, class);
                Ok(class)
            }
            Ok(_) => Err(Status::Malformed),
            // The directory is gone: the file has no name any more, or another one.
            Err(Status::Stale | Status::NotFound) => Ok(map.default_class),
            Err(status) => Err(status),
        }
    }
}
