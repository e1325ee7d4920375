//! The storage daemon: keeps bytes of chunk versions on one disk.
//!
//! Never knows paths, and never talks to a mount about meaning: it stores,
//! checks and gives back (chunk, version) contents, which never change.
//! A request passes: [`service`] (bounds, when to answer) → [`store`] (put,
//! get, drop) → `record`, `pieces` and `frames` (what a version consists of) →
//! `segment` (bytes) and `table` over `index` (where they lie), with
//! `recover` at the start and `maintain` in the background.
//! [`uses`] counts by chunk, `health` what the disk refuses, `tend` is the thread that saves and tries.
//! [`beat`] keeps it a member of a cluster, [`view`] is the map it goes by, `fill` and `upkeep` fetch,
//! repair, scrub and give away, `mover` and `recompress` follow policies, [`daemon`] is the process, `aside` its thread for
//! numbers and heartbeats, `silence` says when none may be sent.

pub mod beat;
pub mod daemon;
pub mod identity;
pub mod metrics;
pub mod service;
pub mod store;
pub mod uses;
pub mod view;

mod aside;
mod cache;
mod damage;
mod fence;
mod fetch;
mod fill;
mod frames;
mod group_sync;
mod health;
mod index;
mod maintain;
mod manifest;
mod measures;
mod metas;
mod mover;
mod orphans;
mod pace;
mod pages;
mod pieces;
mod progress;
mod read;
mod recompress;
mod record;
mod recover;
mod segment;
mod settle;
mod silence;
mod space;
mod table;
mod tend;
mod upkeep;

#[cfg(test)]
mod tests;
