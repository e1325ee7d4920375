//! What is remembered of peers' answers: attributes, entries, blocks of chunk data.
//!
//! Never asks anybody. Always bounded; attributes and entries are believed only while leased, or while no other session exists.

pub(crate) mod attrs;
pub(crate) mod blocks;
pub(crate) mod disk;
pub(crate) mod entries;
pub(crate) mod shards;
