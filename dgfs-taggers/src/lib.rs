//! What can be told from a file's bytes: its kind, its language, its keywords, who made it, where and when.
//!
//! Never opens a socket, never knows a volume, never keeps anything between two files: the same bytes give the same
//! [`Findings`] whatever ran before. Contents are not trusted, so everything here is bounded, and what reads them runs
//! in worker processes with limits.
//!
//! A [`Job`] enters at [`kind_of`], which is cheap enough to run anywhere. The rest happens in a worker: [`pool`]
//! starts it behind the limits of [`sandbox`] and sends it frames of [`protocol`], [`worker`] runs each [`Tagger`]
//! that wants the kind and answers. [`external`] does the same with programs that users wrote
//! and, in workers of this crate, with models that they have.

pub mod external;
pub mod findings;
pub mod job;
pub mod kind;
pub mod pool;
pub mod protocol;
pub mod sandbox;
pub mod tag_name;
pub mod tagger;
pub mod worker;

mod archive;
mod child;
mod dates;
mod documents;
#[cfg(test)]
mod fuzz_tests;
mod keywords;
mod media;
#[cfg(feature = "models")]
mod model;
#[cfg(test)]
mod testing;
mod text;

pub use findings::{Fact, FactValue, Findings, Fingerprints, Link, LinkKind, Mark};
pub use job::Job;
pub use kind::{Class, Kind, kind_of, said_by_name};
pub use tagger::{Tagger, TaggerError, builtin};
