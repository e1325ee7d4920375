//! Which class new data of a file get, and what they are compressed with.
//!
//! Never decides: meta does, once for each directory and change of any policy, and it refuses what was stored by a policy of
//! before. Always: a volume without policies of directories is not asked about them.

use std::sync::Arc;

use parking_lot::Mutex;

use dgfs_proto::class::Class;
use dgfs_proto::compression::Compression;
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{MetaReply, Query};
use dgfs_proto::status::Status;

use crate::cache::shards::Shards;
use crate::core::Core;
use crate::operation::Op;

/// Directories remembered.
const REMEMBERED_MAX: usize = 4096;

/// What holds for new data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Of new chunks.
    pub(crate) class: Class,
    pub(crate) compression: Compression,
}

/// Answers of meta, while no policy changes.
pub(crate) struct Policies {
    /// The change of policies that the answers follow.
    of: Mutex<u64>,
    answers: Shards<Ino, Policy>,
}

impl Policies {
    pub(crate) fn new() -> Self {
        Self { of: Mutex::new(0), answers: Shards::new(REMEMBERED_MAX) }
    }
}

impl Core {
    /// Where a file lay when it was looked at last.
    fn directory_of(&self, ino: Ino) -> Ino {
        self.files.get(ino).map_or(ino, |file| file.inner.lock().attr.parent)
    }

    /// Meta is asked again before the next new chunk of the file.
    pub(crate) fn forget_policy_of(&self, ino: Ino) {
        self.policies.answers.change(self.directory_of(ino));
    }

    /// The policy of new data of a file that this mount has open.
    pub(crate) async fn policy_of_new(self: &Arc<Self>, op: &Op, ino: Ino) -> Result<Policy, Status> {
        let map = self.stores.map();
        let of_volume = Policy { class: map.default_class, compression: Compression::None };
        if map.policies == 0 {
            return Ok(of_volume);
        }
        let directory = self.directory_of(ino);
        {
            let mut of = self.policies.of.lock();
            if *of != map.policies {
                *of = map.policies;
                self.policies.answers.clear();
            }
        }
        if let Some(policy) = self.policies.answers.get(&directory) {
            return Ok(policy);
        }
        let asked = self.policies.answers.asking();
        // Of the file itself: where it lies now is for meta to know.
        match self.link.query(op, Query::Policy(ino)).await {
            Ok(MetaReply::Policy { class, compression }) => {
                let policy = Policy { class, compression };
                self.policies.answers.keep(asked, directory, policy);
                Ok(policy)
            }
            Ok(_) => Err(Status::Malformed),
            // The directory is gone: the file has no name any more, or another one.
            Err(Status::Stale | Status::NotFound) => Ok(of_volume),
            Err(status) => Err(status),
        }
    }
}
