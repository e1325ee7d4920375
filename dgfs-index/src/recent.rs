//! The last changes, for those who watch.
//!
//! Never says who may hear of them. Always: a change of tags is kept with what was given and what was taken, which only the graph
//! before the change can tell.

use std::collections::{HashMap, VecDeque};

use dgfs_proto::graph::answer::Retagged;
use dgfs_proto::ids::{Ino, Seq, TagId};
use dgfs_proto::log::{Change, Event};

use crate::graph::Graph;

/// Events kept; who is further behind asks for everything anew.
const RECENT_MAX: usize = 8192;

/// An event, and what it did to tags.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    pub(crate) event: Event,
    pub(crate) retagged: Vec<Retagged>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Recent(VecDeque<Remembered>);

impl Recent {
    /// Remembers events that follow one another.
    pub(crate) fn extend(&mut self, events: impl IntoIterator<Item = Remembered>) {
        self.0.extend(events);
        let excess = self.0.len().saturating_sub(RECENT_MAX);
        self.0.drain(..excess);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Those behind `after`, of which `applied` was the last one; `None` when some are not remembered any more.
    pub(crate) fn after(&self, after: Seq, applied: Seq, limit: usize) -> Option<Vec<Remembered>> {
        let first = self.0.front().map_or(applied.next(), |one| one.event.seq);
        if after.next() < first {
            return None;
        }
        let from = self.0.partition_point(|one| one.event.seq <= after);
        Some(self.0.iter().skip(from).take(limit).cloned().collect())
    }
}

/// Numbers of the tags that inodes carried before each of some events, for [`remembered`].
pub(crate) struct Before(HashMap<Ino, Vec<TagId>>);

impl Before {
    /// From the graph as it is before `events` are applied.
    pub(crate) fn of(events: &[&Event], graph: &Graph) -> Self {
        let mut before = HashMap::new();
        for event in events {
            let Change::Tagged { tags, .. } = &event.change else { continue };
            for (ino, _) in tags {
                before.entry(*ino).or_insert_with(|| ids_of(*ino, graph));
            }
        }
        Self(before)
    }
}

fn ids_of(ino: Ino, graph: &Graph) -> Vec<TagId> {
    let tags = graph.columns.doc(ino).map_or(&[][..], |doc| graph.tags_of(doc));
    tags.iter().filter_map(|tag| graph.tags.get(*tag)).map(|entry| entry.id).collect()
}

/// The events with what they did; `graph` is the one after them, which knows the names of new tags.
pub(crate) fn remembered(events: Vec<&Event>, mut before: Before, graph: &Graph) -> Vec<Remembered> {
    let mut all = Vec::with_capacity(events.len());
    for event in events {
        let mut retagged = Vec::new();
        if let Change::Tagged { tags, .. } = &event.change {
            for (ino, now) in tags {
                let then = before.0.insert(*ino, now.clone()).unwrap_or_default();
                let given = names(now.iter().filter(|id| !then.contains(id)), graph);
                let taken = names(then.iter().filter(|id| !now.contains(id)), graph);
                if !(given.is_empty() && taken.is_empty()) {
                    retagged.push(Retagged { ino: *ino, given, taken });
                }
            }
        }
        all.push(Remembered { event: event.clone(), retagged });
    }
    all
}

/// Names of tags; of those that are gone there is none.
fn names<'a>(ids: impl Iterator<Item = &'a TagId>, graph: &Graph) -> Vec<String> {
    let entry = |id: &TagId| graph.tags.ix(*id).and_then(|tag| graph.tags.get(tag));
    ids.filter_map(entry).map(|entry| entry.facts.name.as_str().to_owned()).collect()
}
