//! What a start finds to be gone, told in sentences: by segment file, with counts, bytes and names.
//!
//! Never changes a record or an entry. Always: every version that cannot be given out any more, as far as lengths and
//! record headers tell, is counted and named in the log; the sentences kept for `dgfs status` are bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dgfs_proto::chunk::VersionId;

use crate::record::{ALIGN, Place};
use crate::segment::{SUFFIX, Segments};

/// Sentences kept; what is behind them is only counted. They travel in one attribute of 64 KiB.
const SENTENCES_MAX: usize = 40;
/// Versions named in one sentence that is kept.
const NAMES_MAX: usize = 16;
/// Versions named in one line of the log.
const LOG_NAMES: usize = 100;

/// What became of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ruin {
    /// There is no such file.
    Missing,
    /// It ends here, and records went on.
    CutAt(u64),
}

impl fmt::Display for Ruin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => out.write_str("is missing"),
            Self::CutAt(len) => write!(out, "is cut off at byte {len}"),
        }
    }
}

/// How long the segment files are.
pub(crate) struct Lengths(BTreeMap<u32, u64>);

impl Lengths {
    /// Asks the file system for each.
    pub(crate) fn of(segments: &Segments) -> std::io::Result<Self> {
        let numbers = segments.numbers()?;
        numbers
            .into_iter()
            .map(|number| Ok((number, segments.lengths_on_disk(number)?.0)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// What is wrong with a file that should have `len` bytes.
    pub(crate) fn ruin_of(&self, segment: u32, len: u64) -> Option<Ruin> {
        match self.0.get(&segment) {
            None => Some(Ruin::Missing),
            Some(now) if *now < len => Some(Ruin::CutAt(*now)),
            Some(_) => None,
        }
    }

    /// What is surely wrong at `place`, and whether that is all one can say without reading: the zeros behind a
    /// segment's last record are never written.
    pub(crate) fn ruin_at(&self, place: Place) -> (Option<Ruin>, bool) {
        let end = u64::from(place.offset) + u64::from(place.total);
        match self.ruin_of(place.segment, end) {
            Some(Ruin::CutAt(now)) => (Some(Ruin::CutAt(now)), now + u64::from(ALIGN) <= end),
            ruin => (ruin, true),
        }
    }
}

#[derive(Clone, Default)]
struct Loss {
    versions: u64,
    bytes: u64,
    names: Vec<VersionId>,
}

/// Sentences, as many as are kept.
#[derive(Clone, Default)]
struct Sentences {
    kept: Vec<String>,
    more: u64,
}

impl Sentences {
    fn keep(&mut self, sentence: String) {
        if self.kept.len() < SENTENCES_MAX { self.kept.push(sentence) } else { self.more += 1 }
    }

    fn told(mut self) -> Vec<String> {
        if self.more > 0 {
            self.kept.push(format!("and {} more, named in the log", self.more));
        }
        self.kept
    }
}

/// Everything that is gone.
#[derive(Clone, Default)]
pub(crate) struct Damage {
    sentences: Sentences,
    interrupted: Sentences,
    files: BTreeMap<(u32, Ruin), Loss>,
    /// Records that are gone: of held versions, and of dropped ones others show data of.
    records: BTreeSet<VersionId>,
    /// Versions that cannot be given out whole.
    versions: BTreeSet<VersionId>,
    /// Versions whose writing was not finished.
    unfinished: BTreeSet<VersionId>,
    bytes: u64,
}

/// What of it `dgfs status` shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) sentences: Vec<String>,
    /// Writes that a crash interrupted.
    pub(crate) interrupted: Vec<String>,
    /// The versions of those.
    pub(crate) unfinished: BTreeSet<VersionId>,
    /// All that cannot be given out whole: at most what the index has room for, 16 bytes each.
    pub(crate) versions: BTreeSet<VersionId>,
    pub(crate) bytes: u64,
}

impl Report {
    /// Every version that the start did not find whole.
    pub(crate) fn not_whole(&self) -> BTreeSet<VersionId> {
        self.versions.union(&self.unfinished).copied().collect()
    }
}

impl Damage {
    /// Something that is no version with a known place, in a sentence.
    pub(crate) fn name(&mut self, sentence: String) {
        tracing::warn!("{sentence}");
        self.keep(sentence);
    }

    fn keep(&mut self, sentence: String) {
        self.sentences.keep(sentence);
    }

    /// Bytes that were never synced are not whole. A process that is killed, or a power cut, leaves such; where a file
    /// names them nevertheless, only `dgfs fsck` can say so.
    pub(crate) fn interrupt(&mut self, sentence: String) {
        tracing::warn!("{sentence}");
        self.interrupted.keep(sentence);
    }

    /// The same of a version, which is given up.
    pub(crate) fn give_up_unfinished(&mut self, id: VersionId, why: &str) {
        self.unfinished.insert(id);
        self.interrupt(format!("chunk {} version {}: {why}", id.chunk, id.version));
    }

    /// A version was given up.
    pub(crate) fn give_up(&mut self, id: VersionId, bytes: u32, why: &str) {
        self.versions.insert(id);
        self.bytes += u64::from(bytes);
        self.name(format!("chunk {} version {}: {why}", id.chunk, id.version));
    }

    /// A file is not what it was, whatever lay in it.
    pub(crate) fn file(&mut self, segment: u32, ruin: Ruin) {
        self.files.entry((segment, ruin)).or_default();
    }

    /// The record of a version is gone with (a part of) its file. `held`: the version was not dropped.
    pub(crate) fn record(&mut self, id: VersionId, segment: u32, ruin: Ruin, bytes: u32, held: bool) {
        if !self.records.insert(id) {
            return;
        }
        let loss = self.files.entry((segment, ruin)).or_default();
        loss.bytes += u64::from(bytes);
        self.bytes += u64::from(bytes);
        if held {
            loss.versions += 1;
            loss.names.push(id);
            self.versions.insert(id);
        }
    }

    /// The records that are gone, in order.
    pub(crate) fn records(&self) -> &BTreeSet<VersionId> {
        &self.records
    }

    /// Is this version counted already?
    pub(crate) fn has(&self, id: VersionId) -> bool {
        self.versions.contains(&id) || self.unfinished.contains(&id)
    }

    /// All in sentences; the files first.
    pub(crate) fn report(mut self) -> Report {
        let others = std::mem::take(&mut self.sentences);
        for ((segment, ruin), loss) in std::mem::take(&mut self.files) {
            let file = format!("segment file {segment:08}{SUFFIX} {ruin}");
            if loss.versions == 0 && loss.bytes == 0 {
                self.name(format!(
                    "{file}; the index names no version there, so `dgfs fsck` must say which files lack data"
                ));
                continue;
            }
            let found = format!("{file}: {} chunk versions with {} bytes of data are lost", loss.versions, loss.bytes);
            tracing::error!("{found}");
            for some in loss.names.chunks(LOG_NAMES) {
                tracing::warn!("lost with {segment:08}{SUFFIX}: {}", names(some));
            }
            let first = names(loss.names.get(..NAMES_MAX).unwrap_or(&loss.names));
            let rest = loss.names.len().saturating_sub(NAMES_MAX);
            let rest = if rest > 0 { format!(" and {rest} more, named in the log") } else { String::new() };
            self.keep(if first.is_empty() { found } else { format!("{found}: {first}{rest}") });
        }
        self.sentences.more += others.more;
        others.kept.into_iter().for_each(|sentence| self.keep(sentence));
        Report {
            sentences: self.sentences.told(),
            interrupted: self.interrupted.told(),
            unfinished: self.unfinished,
            versions: self.versions,
            bytes: self.bytes,
        }
    }
}

fn names(ids: &[VersionId]) -> String {
    let words: Vec<_> = ids.iter().map(|id| format!("chunk {} version {}", id.chunk, id.version)).collect();
    words.join(", ")
}
