//! The storage daemon: keeps bytes of chunk versions on one disk.
//!
//! Never knows paths, and never talks to a mount about meaning: it stores,
//! checks and gives back (chunk, version) contents, which never change.
//! A request passes: [`service`] (bounds, when to answer) → [`store`] (put,
//! get, drop) → [`record`] and [`pieces`] (what a version consists of) →
//! [`segment`] (bytes) and [`table`] over [`index`] (where they lie), with
//! [`recover`] at the start and [`maintain`] in the background.

pub mod store;

mod cache;
pub mod counters;
mod group_sync;
mod identity;
mod index;
mod maintain;
mod pieces;
mod read;
mod record;
mod recover;
mod segment;
pub mod service;
mod settle;
mod space;
mod table;

#[cfg(test)]
mod tests;
