//! Policies: which class the data of a directory have, and what they are compressed with.
//!
//! Kept as extended attributes of directories, inherited by everything below that has none of its own; a second copy in the
//! settings row makes them known without looking. `dgfs.policy.redundancy` names the class of new data,
//! `dgfs.policy.availability` a target in percent from which the class follows; while `dgfs.policy.apply` is set beside one of
//! them, old data are moved to it. `dgfs.policy.compression` and `dgfs.policy.apply.compression` are independent of them.
//! Never moves data itself: storage daemons ask and do.

use std::collections::BTreeSet;
use std::sync::Arc;

use dgfs_proto::attr::FileKind;
use dgfs_proto::availability::{self, Choice};
use dgfs_proto::chunk::{ChunkRef, VersionId};
use dgfs_proto::class::{Class, Shape};
use dgfs_proto::compression::Compression;
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::{CLASSES_MAX, CODED_BYTES_MIN, POLICIES_MAX};
use dgfs_proto::meta::{Commit, LiveQuery, Mutation, NewContent};
use dgfs_proto::status::Status;

use crate::core::Core;
use crate::core::ops::commit::replace;
use crate::core::tx::{Step, Stop, Tx};
use crate::rows::{SettingsRow, key};

const REDUNDANCY: &[u8] = b"dgfs.policy.redundancy";
const APPLY: &[u8] = b"dgfs.policy.apply";
const COMPRESSION: &[u8] = b"dgfs.policy.compression";
const APPLY_COMPRESSION: &[u8] = b"dgfs.policy.apply.compression";
const AVAILABILITY: &[u8] = b"dgfs.policy.availability";
/// Targets are kept in billionths.
const BILLION: u32 = 1_000_000_000;
/// How often targets are looked at while nothing changes.
const TARGETS_MS: u64 = 60_000;
/// Names of our own begin so; no others of them can be set.
const PREFIX: &[u8] = b"dgfs.";

/// What holds for the data of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) class: Class,
    /// Old data follow it, too.
    pub(crate) applied: bool,
    pub(crate) compression: Compression,
    /// Old data are compressed so, too.
    pub(crate) recompress: bool,
}

/// The policy of an inode, for the class and for the compression each: its own, or of the nearest directory above that has one,
/// or the volume's.
pub(crate) fn policy_of(tx: &mut Tx<'_>, settings: &SettingsRow, ino: Ino) -> Step<Policy> {
    let mut policy =
        Policy { class: settings.class, applied: false, compression: Compression::None, recompress: false };
    let (mut class_known, mut compression_known) = (settings.classes.is_empty(), settings.compressions.is_empty());
    let mut at = ino;
    loop {
        if let Some(class) = settings.classes.get(&at).filter(|_| !class_known) {
            (policy.class, policy.applied, class_known) = (*class, settings.applied.contains(&at), true);
        }
        if let Some(compression) = settings.compressions.get(&at).filter(|_| !compression_known) {
            policy.compression = *compression;
            (policy.recompress, compression_known) = (settings.recompressed.contains(&at), true);
        }
        if at == Ino::ROOT || (class_known && compression_known) {
            return Ok(policy);
        }
        let row = tx.live_inode(at)?;
        at = match row.attr.kind {
            FileKind::Directory => row.attr.parent,
            FileKind::File
            | FileKind::Symlink
            | FileKind::Fifo
            | FileKind::Socket
            | FileKind::CharDevice
            | FileKind::BlockDevice => row.links.first().map_or(Ino::ROOT, |link| link.parent),
        };
    }
}

/// What the file that a held version was written for has there, if it is this version still.
fn slot_of(tx: &mut Tx<'_>, held: &LiveQuery) -> Step<Option<ChunkRef>> {
    let slot = match tx.slot(held.owner, held.index) {
        Err(Stop::Refused(_)) => return Ok(None),
        other => other?,
    };
    Ok(slot.filter(|slot| slot.chunk == held.id.chunk.whole() && slot.version == held.id.version))
}

/// As [`policy_of`]; none when the inode is gone.
fn policy_of_held(tx: &mut Tx<'_>, settings: &SettingsRow, held: &LiveQuery) -> Step<Option<Policy>> {
    match policy_of(tx, settings, held.owner) {
        Err(Stop::Refused(_)) => Ok(None),
        other => other.map(Some),
    }
}

/// What a stored version is to be compressed with, where that was asked for.
pub(crate) fn wanted_compression(
    tx: &mut Tx<'_>,
    settings: &SettingsRow,
    held: &LiveQuery,
) -> Step<Option<Compression>> {
    if slot_of(tx, held)?.is_none() {
        return Ok(None);
    }
    let policy = policy_of_held(tx, settings, held)?;
    Ok(policy.filter(|policy| policy.recompress).map(|policy| policy.compression))
}

/// The class that a stored version should be moved to, if any.
pub(crate) fn wanted_class(tx: &mut Tx<'_>, settings: &SettingsRow, held: &LiveQuery) -> Step<Option<Class>> {
    let Some(slot) = slot_of(tx, held)? else { return Ok(None) };
    // A version that several slots refer to would be stored once for each.
    if tx.shared_count(slot.version)?.is_some() {
        return Ok(None);
    }
    let Some(policy) = policy_of_held(tx, settings, held)? else { return Ok(None) };
    let has = slot.chunk.class();
    let is_coded = matches!(policy.class.shape(), Shape::Coded { .. });
    let wanted = if is_coded && slot.len < CODED_BYTES_MIN { policy.class.as_copies() } else { policy.class };
    // What waits as copies to be coded is sealed in any case; other old data move only where that was asked for.
    let waits = is_coded && has == policy.class.as_copies();
    Ok((has != wanted && (policy.applied || waits)).then_some(wanted))
}

/// Refuses chunks that were made by a policy of before with `OldMap`: the writer looks at the map and stores them again.
pub(crate) fn check_commit(tx: &mut Tx<'_>, settings: &SettingsRow, commit: &Commit) -> Step<()> {
    let NewContent::Slots { edits, .. } = &commit.content else { return Ok(()) };
    if settings.policies == 0 {
        return Ok(());
    }
    let keys: Vec<_> = edits.iter().map(|edit| key::slots(commit.ino, edit.index)).collect();
    tx.want(&keys)?;
    let mut classes = BTreeSet::new();
    for edit in edits {
        let old = tx.slot(commit.ino, edit.index)?;
        let made = edit.new.filter(|new| old.is_none_or(|old| old.chunk != new.chunk));
        classes.extend(made.map(|new| new.chunk.class()));
    }
    if classes.is_empty() {
        return Ok(());
    }
    if commit.policies != settings.policies {
        return Err(Status::OldMap.into());
    }
    // A file, or a directory above it, may have been moved to where another policy holds.
    let wanted = policy_of(tx, settings, commit.ino)?.class;
    let follows = |class: &Class| *class == wanted || *class == wanted.as_copies();
    if classes.iter().all(follows) { Ok(()) } else { Err(Status::OldMap.into()) }
}

/// A slot refers to the same bytes under another name.
pub(crate) fn move_slot(
    tx: &mut Tx<'_>,
    (owner, index): (Ino, u64),
    from: VersionId,
    (to, allocated): (VersionId, u32),
) -> Step<()> {
    tx.want(&[key::inode(owner), key::slots(owner, index)])?;
    let mut row = tx.live_inode(owner)?;
    let old = tx.slot(owner, index)?;
    let current = old.filter(|old| old.chunk == from.chunk.whole() && old.version == from.version);
    let Some(old) = current.filter(|_| to.chunk.shard() == 0) else { return Err(Status::Conflict.into()) };
    let new = ChunkRef { chunk: to.chunk, version: to.version, len: old.len, allocated };
    tx.set_slot(owner, index, Some(new))?;
    replace(tx, &mut row, Some(old), Some(new))?;
    tx.put_inode(row);
    Ok(())
}

/// Percent with up to seven decimals, as billionths.
fn target_in(value: &[u8]) -> Result<u32, Status> {
    let text = std::str::from_utf8(value).map_err(|_| Status::Invalid)?;
    let percent: f64 = text.trim_end().trim_end_matches('%').parse().map_err(|_| Status::Invalid)?;
    let plausible = percent > 0.0 && percent < 100.0;
    if plausible { Ok((percent * f64::from(BILLION / 100)).round() as u32) } else { Err(Status::Invalid) }
}

fn compression_in(value: &[u8]) -> Result<Compression, Status> {
    let text = std::str::from_utf8(value).map_err(|_| Status::Invalid)?;
    text.trim_end().parse().map_err(|_| Status::Invalid)
}

fn class_in(value: &[u8]) -> Result<Class, Status> {
    let text = std::str::from_utf8(value).map_err(|_| Status::Invalid)?;
    text.trim_end().parse().map_err(|_| Status::Invalid)
}

impl Core {
    /// Refuses a policy that makes no sense or cannot be followed, before anything is changed.
    pub(crate) fn check_policy(&self, mutation: &Mutation) -> Result<(), Status> {
        let Mutation::SetXattr { ino, name, value, mode: _, uid: _ } = mutation else { return Ok(()) };
        if !name.starts_with(PREFIX) {
            return Ok(());
        }
        let class = match name.as_slice() {
            APPLY if self.settings.classes.contains_key(ino) => return Ok(()),
            APPLY_COMPRESSION if self.settings.compressions.contains_key(ino) => return Ok(()),
            APPLY | APPLY_COMPRESSION => return Err(Status::Invalid),
            COMPRESSION => {
                let _compression = compression_in(value)?;
                let is_new = !self.settings.compressions.contains_key(ino);
                let is_full = is_new && self.settings.compressions.len() >= POLICIES_MAX;
                return if is_full { Err(Status::NoSpace) } else { Ok(()) };
            }
            REDUNDANCY => class_in(value)?,
            AVAILABILITY => self.class_for_target(target_in(value)?).map_err(|_| Status::Range)?.class,
            _ => return Err(Status::NotSupported),
        };
        let is_new = !self.settings.classes.contains_key(ino);
        if is_new && self.settings.classes.len() >= POLICIES_MAX {
            return Err(Status::NoSpace);
        }
        let more = [class, class.as_copies()].iter().filter(|class| !self.cluster.is_assigned(**class)).count();
        if more > 0 && self.cluster.classes_in_use() + more > CLASSES_MAX {
            return Err(Status::NoSpace);
        }
        // Fewer servers than the class is wide could never give what it promises.
        if self.cluster.domains_for(class) < class.width() { Err(Status::Range) } else { Ok(()) }
    }

    /// A policy was set or removed.
    pub(crate) fn note_policy(&mut self, mutation: &Mutation) {
        if let Mutation::SetXattr { ino, name, value, mode: _, uid: _ } = mutation {
            match name.as_slice() {
                REDUNDANCY => {
                    if let Ok(class) = class_in(value) {
                        self.settings_mut().targets.remove(ino);
                        self.set_class(*ino, class);
                    }
                }
                AVAILABILITY => {
                    if let Ok(target) = target_in(value)
                        && let Ok(choice) = self.class_for_target(target)
                    {
                        self.settings_mut().targets.insert(*ino, target);
                        self.set_class(*ino, choice.class);
                    }
                }
                APPLY => {
                    self.settings_mut().applied.insert(*ino);
                    self.store_settings();
                }
                COMPRESSION => {
                    if let Ok(compression) = compression_in(value) {
                        self.settings_mut().compressions.insert(*ino, compression);
                        self.store_settings();
                    }
                }
                APPLY_COMPRESSION => {
                    self.settings_mut().recompressed.insert(*ino);
                    self.store_settings();
                }
                _ => {}
            }
        }
        if let Mutation::RemoveXattr { ino, name } = mutation {
            let removed = match name.as_slice() {
                REDUNDANCY if self.settings.targets.contains_key(ino) => false,
                REDUNDANCY => self.settings_mut().classes.remove(ino).is_some(),
                AVAILABILITY => {
                    let settings = self.settings_mut();
                    settings.targets.remove(ino).is_some() && settings.classes.remove(ino).is_some()
                }
                APPLY => self.settings_mut().applied.remove(ino),
                COMPRESSION => self.settings_mut().compressions.remove(ino).is_some(),
                APPLY_COMPRESSION => self.settings_mut().recompressed.remove(ino),
                _ => false,
            };
            if removed {
                self.store_settings();
            }
        }
    }

    fn settings_mut(&mut self) -> &mut SettingsRow {
        Arc::make_mut(&mut self.settings)
    }

    fn set_class(&mut self, ino: Ino, class: Class) {
        self.settings_mut().classes.insert(ino, class);
        for class in [class.as_copies(), class] {
            let _assigned = self.cluster.want(class);
        }
        self.store_settings();
    }

    /// The cheapest class that reaches a target on the servers there are.
    fn class_for_target(&self, target: u32) -> Result<Choice, Option<Choice>> {
        availability::choose(f64::from(target) / f64::from(BILLION), &self.cluster.domains_up(self.now_ms))
    }

    /// Looks whether every target is still reached, at times and when servers came or went, and chooses anew where not.
    pub(crate) fn follow_targets(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        let servers = self.cluster.candidate_ids();
        let due = now_ms >= self.targets_due_ms || servers != self.targets_for;
        if self.settings.targets.is_empty() || !due {
            return;
        }
        let changed = servers != self.targets_for;
        (self.targets_due_ms, self.targets_for) = (now_ms.saturating_add(TARGETS_MS), servers);
        let domains = self.cluster.domains_up(now_ms);
        for (ino, target) in self.settings.targets.clone() {
            let wanted = f64::from(target) / f64::from(BILLION);
            let current = self.settings.classes.get(&ino).copied();
            let reached =
                current.and_then(|class| availability::of_class(class, &domains)).is_some_and(|is| is >= wanted);
            if reached && !changed {
                continue;
            }
            let (choice, met) = match availability::choose(wanted, &domains) {
                Ok(choice) => (choice, true),
                Err(Some(best)) => (best, false),
                Err(None) => continue,
            };
            if !met {
                tracing::warn!(directory = %ino, target = wanted, best = choice.availability, class = %choice.class,
                    "the availability target is out of reach with the servers there are; the best there is is used");
            }
            if current != Some(choice.class) {
                tracing::info!(directory = %ino, class = %choice.class, "another class follows from the availability target");
                self.set_class(ino, choice.class);
            }
        }
    }

    /// An inode is gone, and its policy with it.
    pub(crate) fn forget_policy(&mut self, ino: Ino) {
        let had = &self.settings;
        let had_any = had.classes.contains_key(&ino)
            || had.applied.contains(&ino)
            || had.compressions.contains_key(&ino)
            || had.recompressed.contains(&ino);
        if !had_any {
            return;
        }
        let settings = self.settings_mut();
        settings.compressions.remove(&ino);
        settings.recompressed.remove(&ino);
        settings.applied.remove(&ino);
        settings.targets.remove(&ino);
        settings.classes.remove(&ino);
        self.store_settings();
    }
}
