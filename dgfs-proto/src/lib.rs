//! The words DGFS's parts use with each other: ids, attributes, messages,
//! status codes, limits and the wire codec.
//!
//! Never opens a socket, a file or a clock: the crate is `no_std`, so the
//! compiler holds that. Reading order: [`ids`] → [`attr`] → [`status`] →
//! [`meta`] (client ↔ metadata service) → [`chunk`] (client ↔ storage
//! daemon) → [`class`], [`compression`] and [`map`] → [`log`] (the change log) → [`tag`] and
//! [`query`] (the language of tags) → [`watch`] (operator ↔ any daemon) → [`codec`] → [`limits`].
#![no_std]

extern crate alloc;

pub mod attr;
pub mod availability;
pub mod chunk;
pub mod class;
pub mod codec;
pub mod compression;
mod escape;
pub mod graph;
pub mod ids;
pub mod limits;
pub mod log;
pub mod map;
pub mod meta;
pub mod name;
pub mod permission;
pub mod query;
mod spelling;
pub mod status;
pub mod tag;
pub mod watch;
