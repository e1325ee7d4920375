//! Questions: what they come down to, and the answers.
//!
//! Never changes the graph and never waits. A request enters at [`answer`], is planned and evaluated to a set of inodes
//! ([`evaluate`], [`compare`], [`related`]), cut to what the viewer can reach ([`view`]), and shown ([`results`],
//! [`facets`], [`keys`], [`classes`], [`dates`]).

pub(crate) mod answer;
pub(crate) mod classes;
pub(crate) mod compare;
pub(crate) mod dates;
pub(crate) mod evaluate;
pub(crate) mod facets;
pub(crate) mod keys;
pub(crate) mod naming;
mod reading;
pub(crate) mod related;
pub(crate) mod results;
pub(crate) mod view;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dgfs_proto::graph::Viewer;
use dgfs_proto::status::Status;
use dgfs_runtime::clock::Clock;

use crate::graph::Graph;
use crate::store::{Readers, StoreError};

/// Steps of a loop between two looks at the clock.
const STEPS_PER_LOOK: u32 = 8192;

/// Why a question has no answer.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// In one word.
    Status(Status),
    /// In a sentence for a person.
    Sentence(String),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "a question to the index failed");
        Self::Status(Status::Io)
    }
}

/// What every part of an answer is made from.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// The graph in memory.
    pub(crate) graph: &'a Graph,
    /// Its tables.
    pub(crate) readers: &'a Readers,
    /// Who asks.
    pub(crate) viewer: &'a Viewer,
    /// When it has to be done.
    pub(crate) deadline: Deadline<'a>,
    /// Wall clock: nanoseconds since 1970.
    pub(crate) now_ns: i64,
}

/// A moment of the monotonic clock.
#[derive(Clone, Copy)]
pub(crate) struct Deadline<'a> {
    pub(crate) clock: &'a Clock,
    pub(crate) at: Duration,
    /// From then on it has to be done as soon as a change waits: while a question is worked on, nothing is applied.
    pub(crate) gives_way: Option<(&'a AtomicBool, Duration)>,
}

impl Deadline<'_> {
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let now = self.clock.monotonic();
        let must_go = self.gives_way.is_some_and(|(waits, from)| now > from && waits.load(Ordering::Acquire));
        if now > self.at || must_go { Err(Status::Unavailable.into()) } else { Ok(()) }
    }

    /// Looks at the clock now and then; `steps` counts.
    pub(crate) fn check_sometimes(&self, steps: &mut u32) -> Result<(), Refusal> {
        *steps = steps.wrapping_add(1);
        if steps.is_multiple_of(STEPS_PER_LOOK) { self.check() } else { Ok(()) }
    }
}
