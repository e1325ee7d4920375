//! Changes that a client makes ahead of the metadata service and sends in batches.
//!
//! Never anything but what can be told beforehand: names, attributes, small contents. Always applied in the order in which
//! they were made, and each once.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::attr::Timestamp;
use crate::codec;
use crate::ids::{Ino, OpId};
use crate::meta::{MetaReply, Mutation};

/// A change that its client has made already, as far as its programs can see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBack {
    /// Its number in the session: greater than that of every change kept back before.
    pub op: OpId,
    /// When it was made, on the client's clock. Taken as now, where that clock is not far ahead of the service's.
    pub at: Timestamp,
    /// One of `Make` (with an inode granted), `Remove`, `Rename`, `SetAttr` (no size), `Commit` (inline, or of slots that were
    /// empty).
    pub mutation: Mutation,
    /// The [`digest`] of the answer that the client counts on.
    pub expected: u64,
}

/// What became of a change that was kept back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeptAnswer {
    /// As expected.
    Expected,
    /// As expected, and others are about to change it: it must not be believed any longer.
    Unkept,
    /// Something else.
    Other(Box<MetaReply>),
}

/// How far the changes that a session kept back were applied. Kept as an answer's row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// All up to this number.
    pub up_to: OpId,
    /// Inode numbers granted: first, count.
    pub granted: Vec<(u64, u64)>,
    /// The last of them that was used.
    pub made: Option<Ino>,
    /// Answers that were not as expected and not heard of yet.
    pub others: Vec<(OpId, MetaReply)>,
}

/// Eight bytes that tell answers apart: SipHash-1-3 under key 0 of the encoded answer, without the bytes allocated, which
/// storage servers change by themselves.
#[must_use]
pub fn digest(reply: &MetaReply) -> u64 {
    let mut reply = reply.clone();
    match &mut reply {
        MetaReply::Attr(attr) => attr.allocated = 0,
        MetaReply::Named(named) => named.attrs.iter_mut().for_each(|attr| attr.allocated = 0),
        _ => {}
    }
    let mut hasher = SipHasher13::new();
    hasher.write(&codec::encode(&reply).unwrap_or_default());
    hasher.finish()
}
