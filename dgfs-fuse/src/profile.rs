//! Counts requests by process, path and kind, while somebody asks.
//!
//! Never costs more than one look at a flag otherwise. Always: each table is bounded, what does not fit is counted together, and
//! counting ends by itself [`KEPT_FOR`] after the last question.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::metrics::Op;

/// How long counting goes on after the last question.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// Entries of a table; more are counted together.
const ENTRIES_MAX: usize = 4096;

/// Who asks, and about which inode (of names: their directory's).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// The thread, as the kernel says; 0: the kernel itself.
    pub tid: u32,
    /// The inode.
    pub ino: u64,
}

/// Requests and the time they took together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// How many.
    pub count: u64,
    /// Microseconds.
    pub us: u64,
}

impl Used {
    fn add(&mut self, us: u64) {
        self.count += 1;
        self.us += us;
    }
}

/// What is counted by one key.
#[derive(Clone, Debug, Default)]
pub struct Counted<K> {
    /// The most used first.
    pub entries: Vec<(K, Used)>,
    /// What is not among them.
    pub others: Used,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

/// See the module.
#[derive(Default)]
pub struct Profile {
    on: AtomicBool,
    /// Grows each time that counting begins.
    epoch: AtomicU64,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    asked: Option<Instant>,
    /// Threads that were seen, with their processes.
    threads: HashMap<u32, Process>,
    processes: Table<Process>,
    inodes: Table<u64>,
    ops: Table<&'static str>,
}

struct Table<K> {
    entries: HashMap<K, Used>,
    others: Used,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { entries: HashMap::new(), others: Used::default() }
    }
}

impl<K: Clone + Eq + Hash> Table<K> {
    fn add(&mut self, key: &K, us: u64) {
        if let Some(used) = self.entries.get_mut(key) {
            used.add(us);
        } else if self.entries.len() < ENTRIES_MAX {
            self.entries.insert(key.clone(), Used { count: 1, us });
        } else {
            self.others.add(us);
        }
    }

    fn most(&self, limit: usize) -> Counted<K> {
        let mut entries: Vec<(K, Used)> = self.entries.iter().map(|(key, used)| (key.clone(), *used)).collect();
        entries.sort_by_key(|(_, used)| std::cmp::Reverse((used.us, used.count)));
        let mut others = self.others;
        for (_, used) in entries.drain(limit.min(entries.len())..) {
            others.count += used.count;
            others.us += used.us;
        }
        Counted { entries, others }
    }
}

impl Profile {
    /// Counts a request, if somebody wants to know.
    pub fn note(&self, op: Op, asker: Asker, took: Duration) {
        if self.on.load(Ordering::Relaxed) {
            self.count(op, asker, took);
        }
    }

    fn count(&self, op: Op, asker: Asker, took: Duration) {
        let mut tables = self.tables.lock();
        if tables.asked.is_none_or(|asked| asked.elapsed() > KEPT_FOR) {
            self.on.store(false, Ordering::Relaxed);
            *tables = Tables::default();
            return;
        }
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if !tables.threads.contains_key(&asker.tid) {
            if tables.threads.len() >= ENTRIES_MAX {
                tables.threads.clear();
            }
            tables.threads.insert(asker.tid, process_of(asker.tid));
        }
        let tables = &mut *tables;
        if let Some(process) = tables.threads.get(&asker.tid) {
            tables.processes.add(process, us);
        }
        tables.inodes.add(&asker.ino, us);
        tables.ops.add(&op.label(), us);
    }

    /// Somebody wants to know: counting begins or goes on. Its epoch: numbers of another one began at 0 again.
    pub fn ask(&self) -> u64 {
        let mut tables = self.tables.lock();
        let ended = tables.asked.is_none_or(|asked| asked.elapsed() > KEPT_FOR);
        if ended {
            *tables = Tables::default();
            self.epoch.fetch_add(1, Ordering::Relaxed);
        }
        tables.asked = Some(Instant::now());
        self.on.store(true, Ordering::Relaxed);
        self.epoch.load(Ordering::Relaxed)
    }

    /// The processes that took most, at most `limit`.
    #[must_use]
    pub fn processes(&self, limit: usize) -> Counted<Process> {
        self.tables.lock().processes.most(limit)
    }

    /// The inodes that took most, at most `limit`.
    #[must_use]
    pub fn inodes(&self, limit: usize) -> Counted<u64> {
        self.tables.lock().inodes.most(limit)
    }

    /// The operations that took most.
    #[must_use]
    pub fn ops(&self) -> Counted<&'static str> {
        self.tables.lock().ops.most(Op::ALL.len())
    }
}

/// The process of a thread. It may have ended: then the thread's own number stands for it.
fn process_of(tid: u32) -> Process {
    if tid == 0 {
        return Process { pid: 0, name: "kernel".to_owned() };
    }
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let pid = field("Tgid:").and_then(|pid| pid.parse().ok()).unwrap_or(tid);
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    Process { pid, name: name.map_or_else(|_| "(ended)".to_owned(), |name| name.trim_end().to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Asker, ENTRIES_MAX, Profile, Used};
    use crate::metrics::Op;

    const STEP: Duration = Duration::from_micros(10);

    #[test]
    fn nothing_is_counted_before_somebody_asks() {
        let profile = Profile::default();
        let tid = std::process::id();
        profile.note(Op::Read, Asker { tid, ino: 5 }, STEP);
        let epoch = profile.ask();
        assert_eq!(profile.processes(9).entries, []);
        profile.note(Op::Read, Asker { tid, ino: 5 }, STEP);
        profile.note(Op::Write, Asker { tid, ino: 6 }, 3 * STEP);
        assert_eq!(profile.ask(), epoch);
        let processes = profile.processes(9).entries;
        assert_eq!(processes.len(), 1);
        assert_eq!((processes[0].0.pid, processes[0].1), (tid, Used { count: 2, us: 40 }));
        assert_eq!(profile.inodes(9).entries, [(6, Used { count: 1, us: 30 }), (5, Used { count: 1, us: 10 })]);
        assert_eq!(profile.inodes(1).others, Used { count: 1, us: 10 });
        assert_eq!(profile.ops().entries.len(), 2);
    }

    #[test]
    fn a_table_is_bounded_and_loses_no_count() {
        let profile = Profile::default();
        let _ = profile.ask();
        let inodes = ENTRIES_MAX as u64 + 100;
        for ino in 0..inodes {
            profile.note(Op::GetAttr, Asker { tid: 0, ino }, STEP);
        }
        let counted = profile.inodes(usize::MAX);
        assert_eq!((counted.entries.len(), counted.others.count), (ENTRIES_MAX, 100));
    }
}
