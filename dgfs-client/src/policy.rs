//! Which class new data of a file get.
//!
//! Never decides: meta does, once for each directory and change of any policy. Always: a volume without policies of directories
//! is not asked about them.

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
    /// The class of new chunks of a file that this mount has open.
    pub(crate) async fn class_of_new(self: &Arc<Self>, op: &Op, ino: Ino) -> Result<Class, Status> {
        let map = self.stores.map();
        if map.policies == 0 {
            return Ok(map.default_class);
        }
        // A name may have been given to another directory since; what is written goes by the one it was opened in.
        let directory = self.files.get(ino).map_or(ino, |file| file.inner.lock().attr.parent);
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
        match self.link.query(op, Query::Policy(directory)).await {
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
