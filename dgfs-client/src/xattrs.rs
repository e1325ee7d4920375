//! Extended attributes.
//!
//! Never keeps a value. Where attributes are known to be true, their flags answer what is not there.

use dgfs_proto::attr::{Attr, AttrFlags};
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{MetaReply, Mutation, Query, XattrMode};
use dgfs_proto::status::Status;

use crate::core::Core;
use crate::meta_link::attr_of;
use crate::operation::Op;

impl Core {
    pub(crate) async fn setxattr(
        &self,
        ino: Ino,
        (name, value): (Vec<u8>, Vec<u8>),
        mode: XattrMode,
        uid: u32,
    ) -> Result<(), Status> {
        let op = self.op();
        self.change_xattr(&op, ino, Mutation::SetXattr { ino, name, value, mode, uid }).await
    }

    pub(crate) async fn removexattr(&self, ino: Ino, name: Vec<u8>) -> Result<(), Status> {
        let op = self.op();
        self.change_xattr(&op, ino, Mutation::RemoveXattr { ino, name }).await
    }

    async fn change_xattr(&self, op: &Op, ino: Ino, mutation: Mutation) -> Result<(), Status> {
        let asked = self.attrs.asking();
        let is_policy = sets_policy(&mutation);
        let (changed, _, _changing) = self.link.change(op, mutation).await;
        if is_policy && changed.is_ok() {
            // The map says that policies changed; this mount's next write is to follow its own.
            self.refresh_map(op).await?;
        }
        match changed.map(attr_of) {
            Ok(Ok(attr)) => {
                self.attrs.settle(asked, &attr);
                Ok(())
            }
            // Done, without attributes.
            Ok(Err(_)) => {
                self.attrs.change(ino);
                Ok(())
            }
            Err(status) => {
                self.attrs.change(ino);
                Err(status)
            }
        }
    }

    pub(crate) async fn getxattr(&self, ino: Ino, name: Vec<u8>) -> Result<Vec<u8>, Status> {
        if self.may_cache() && self.attrs.get(ino).is_some_and(|attr| is_surely_absent(&attr, &name)) {
            return Err(Status::NoXattr);
        }
        let op = self.op();
        match self.link.query(&op, Query::GetXattr { ino, name }).await? {
            MetaReply::Bytes(value) => Ok(value),
            _ => Err(Status::Malformed),
        }
    }

    pub(crate) async fn listxattr(&self, ino: Ino) -> Result<Vec<Vec<u8>>, Status> {
        if self.may_cache() && self.attrs.get(ino).is_some_and(|attr| !attr.flags.has(AttrFlags::HAS_XATTR)) {
            return Ok(Vec::new());
        }
        let op = self.op();
        match self.link.query(&op, Query::ListXattr(ino)).await? {
            MetaReply::Names(names) => Ok(names),
            _ => Err(Status::Malformed),
        }
    }
}

/// Does it set or remove a policy?
fn sets_policy(mutation: &Mutation) -> bool {
    let (Mutation::SetXattr { name, .. } | Mutation::RemoveXattr { name, .. }) = mutation else { return false };
    name.starts_with(b"dgfs.policy.")
}

/// Do the flags say that there is no such attribute? `dgfs.*` names are meta's own and not counted by flags.
fn is_surely_absent(attr: &Attr, name: &[u8]) -> bool {
    match name {
        b"security.capability" => !attr.flags.has(AttrFlags::HAS_CAPABILITY),
        b"system.posix_acl_access" => !attr.flags.has(AttrFlags::HAS_ACCESS_ACL),
        b"system.posix_acl_default" => !attr.flags.has(AttrFlags::HAS_DEFAULT_ACL),
        name if name.starts_with(b"user.") || name.starts_with(b"trusted.") || name.starts_with(b"security.") => {
            !attr.flags.has(AttrFlags::HAS_XATTR)
        }
        _ => false,
    }
}
