//! Questions about the truth. Change nothing.

use std::collections::BTreeMap;

use dgfs_proto::attr::{Attr, AttrFlags, FileKind, Timestamp};
use dgfs_proto::ids::{Ino, ServerId, SessionId};
use dgfs_proto::limits::{CHUNK_PAGE_MAX, CONTENTS_MAX, CONTENTS_SLOTS_MAX, LIST_MAX, READDIR_PAGE_MAX};
use dgfs_proto::meta::{Content, DirEntry, LockSpec, MetaReply, Query, VolumeUsage};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;

use crate::core::leasing::{Attempt, told_by_query};
use crate::core::ops::lock::blocker;
use crate::core::ops::open::content;
use crate::core::ops::{tag, xattr};
use crate::core::policy::{self, Policy};
use crate::core::tx::{Need, Step, Stop, Tx};
use crate::core::{Core, Outcome, Wanted};
use crate::engine::{RowRange, Table};
use crate::rows::{DentryRow, Row, SLOTS_PER_ROW, key};

/// Slot rows looked at in one attempt of a search for data.
const SEARCH_ROWS: u64 = 1024;
/// Buckets of a directory loaded beyond those wanted, so that one page is one load.
const PAGE_SLACK: usize = 8;

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) now: Timestamp,
    pub(crate) session: Option<SessionId>,
}

impl Core {
    /// Answers a question, with what was loaded for this attempt.
    pub(crate) fn query(&mut self, asker: Asker, query: &Query, attempt: &mut Attempt<'_>) -> Outcome {
        if let Query::StatFs = query {
            return Outcome::Answer { reply: MetaReply::StatFs(self.usage()), ticket: 0 };
        }
        let start = (asker.now, asker.session, self.counters);
        let settings = &self.settings;
        let known = (&self.opens, &self.tag_use);
        let mut tx = Self::tx(&mut self.cache, known, &self.volume, attempt.loaded, start);
        let answer = match query {
            Query::Policy(ino) => {
                let policy = policy::policy_of(&mut tx, settings, *ino);
                policy.map(|Policy { class, compression, .. }| MetaReply::Policy { class, compression })
            }
            _ => ask(&mut tx, query),
        };
        let observed = tx.observed;
        let reply = match answer {
            Ok(reply) => reply,
            Err(Stop::Need(need)) => return Outcome::Need(need),
            Err(Stop::Refused(status)) => MetaReply::Refused(status),
        };
        let reply = match self.tell(asker.session, query, reply, attempt) {
            Ok(reply) => reply,
            // Only a session that leases is told to wait.
            Err((session, wanted)) => return Outcome::Recall(session, wanted),
        };
        Outcome::Answer { reply, ticket: self.wait_for(observed) }
    }

    /// An answer on its way to a session: leased, once nobody keeps anything of it back.
    fn tell(
        &mut self,
        session: Option<SessionId>,
        query: &Query,
        mut reply: MetaReply,
        attempt: &mut Attempt<'_>,
    ) -> Result<MetaReply, (SessionId, Vec<Wanted>)> {
        let Some(session) = self.leases_to(session) else { return Ok(reply) };
        if let MetaReply::Contents { also, .. } = &mut reply {
            // Nobody is disturbed for what was not asked for.
            also.retain(|(attr, _)| self.leases.may_tell(session, attr.ino));
        }
        let told = told_by_query(query, &reply);
        if let Some(first) = self.before_telling(session, query, (&told, &reply)) {
            return Err((session, first));
        }
        if let (Query::LeaseWrites(_), MetaReply::WritesLeased(Some(attr))) = (query, &reply) {
            let leased = self.lease_writes(session, attr.clone(), attempt.wait).map_err(|wanted| (session, wanted))?;
            return Ok(MetaReply::WritesLeased(leased));
        }
        attempt.leasing = self.lease(session, &told);
        Ok(reply)
    }

    /// Space and inodes of the volume.
    pub(crate) fn usage(&self) -> VolumeUsage {
        // Servers on one disk share its room: it counts once, as the one that leaves the least sees it.
        let mut disks: BTreeMap<(u64, ServerId), (u64, u64)> = BTreeMap::new();
        for server in self.cluster.members().filter(|server| server.state.up) {
            let space = server.space;
            let apart = if space.disk == 0 { server.row.id } else { ServerId(0) };
            let room = disks.entry((space.disk, apart)).or_insert((space.capacity_bytes, space.free_bytes));
            *room = (room.0.max(space.capacity_bytes), room.1.min(space.free_bytes));
        }
        // Each byte of a file takes as many as the class of new data says.
        let per_byte = u64::from(self.settings.class.overhead_permille());
        let of_files = |bytes: u64| bytes / per_byte * 1000 + bytes % per_byte * 1000 / per_byte;
        VolumeUsage {
            capacity_bytes: of_files(disks.values().map(|(capacity, _)| capacity).sum()),
            free_bytes: of_files(disks.values().map(|(_, free)| free).sum()),
            inodes: self.counters.inodes,
            allocated_bytes: self.counters.allocated,
        }
    }
}

fn ask(tx: &mut Tx<'_>, query: &Query) -> Step<MetaReply> {
    match query {
        Query::Lookup { parent, name } => lookup(tx, *parent, name),
        Query::GetAttr(ino) => Ok(MetaReply::Attr(tx.live_inode(*ino)?.attr)),
        Query::LeaseWrites(ino) => Ok(MetaReply::WritesLeased(Some(tx.live_inode(*ino)?.attr))),
        Query::GetAttrs(inos) => get_attrs(tx, inos).map(MetaReply::Attrs),
        Query::ReadDir { ino, cookie, limit } => read_dir(tx, *ino, *cookie, *limit),
        Query::ReadLink(ino) => {
            let row = tx.live_inode(*ino)?;
            if row.attr.kind == FileKind::Symlink {
                Ok(MetaReply::Bytes(row.target))
            } else {
                Err(Status::Invalid.into())
            }
        }
        Query::Content { ino, first, count } => {
            let attr = tx.live_inode(*ino)?.attr;
            let content = content(tx, &attr, *first, *count)?;
            Ok(MetaReply::Opened { attr, content })
        }
        Query::Contents { ino, also } => contents(tx, *ino, also),
        Query::NextChunk { ino, first } => next_chunk(tx, *ino, *first),
        Query::GetXattr { ino, name } => {
            xattr::check_name(name)?;
            let row = tx.live_inode(*ino)?;
            let all = if row.attr.flags.has(AttrFlags::HAS_XATTR) { tx.xattrs(*ino)? } else { Default::default() };
            let value = if name == tag::SHOWN { tag::shown(tx, &all)? } else { all.get(name).cloned() };
            value.map(MetaReply::Bytes).ok_or(Status::NoXattr.into())
        }
        Query::ListXattr(ino) => {
            let row = tx.live_inode(*ino)?;
            let all = if row.attr.flags.has(AttrFlags::HAS_XATTR) { tx.xattrs(*ino)? } else { Default::default() };
            tag::listed(tx, all).map(MetaReply::Names)
        }
        Query::TreeStat(ino) => Ok(MetaReply::TreeStat(tx.live_inode(*ino)?.tree)),
        Query::TestLock { ino, lock } => test_lock(tx, *ino, lock),
        Query::PathOf(ino) => path_of(tx, *ino).map(MetaReply::Path),
        Query::StatFs | Query::Policy(_) => Err(Status::Malformed.into()),
    }
}

/// What a name leads to. A session is told the bytes of a small file with it: it will probably open it.
fn lookup(tx: &mut Tx<'_>, parent: Ino, name: &Name) -> Step<MetaReply> {
    let row = tx.live_inode(parent)?;
    if row.attr.kind != FileKind::Directory {
        return Err(Status::NotDirectory.into());
    }
    let entry = tx.dentry(parent, name)?.ok_or(Status::NotFound)?;
    if tx.session.is_none() {
        return Ok(MetaReply::Attr(tx.inode(entry.ino)?.attr));
    }
    // Both at once: where they have to be loaded, that is one load.
    tx.want(&[key::inode(entry.ino), key::inline(entry.ino)])?;
    let attr = tx.inode(entry.ino)?.attr;
    let is_small = attr.kind == FileKind::File && attr.flags.has(AttrFlags::INLINE) && attr.size > 0;
    if is_small && attr.size <= u64::from(tx.inline_bytes_max) {
        let content = content(tx, &attr, 0, 0)?;
        return Ok(MetaReply::Opened { attr, content });
    }
    Ok(MetaReply::Attr(attr))
}

/// A file's content, and that of others.
fn contents(tx: &mut Tx<'_>, ino: Ino, also: &[Ino]) -> Step<MetaReply> {
    if also.len() > CONTENTS_MAX {
        return Err(Status::Malformed.into());
    }
    let all = || also.iter().chain(std::iter::once(&ino));
    let keys: Vec<_> = all().flat_map(|ino| [key::inode(*ino), key::inline(*ino)]).collect();
    tx.want(&keys)?;
    let attr = tx.live_inode(ino)?.attr;
    let mut others = Vec::with_capacity(also.len());
    for ino in also {
        match tx.live_inode(*ino) {
            Ok(row) if row.attr.kind == FileKind::File => others.push(row.attr),
            Ok(_) | Err(Stop::Refused(_)) => {}
            Err(stop) => return Err(stop),
        }
    }
    let slots: Vec<_> = others.iter().filter(|attr| !attr.flags.has(AttrFlags::INLINE)).collect();
    tx.want(&slots.iter().map(|attr| key::slots(attr.ino, 0)).collect::<Vec<_>>())?;
    let mut also = Vec::with_capacity(others.len());
    for other in others {
        let content = content(tx, &other, 0, CONTENTS_SLOTS_MAX)?;
        if !matches!(&content, Content::Inline(bytes) if bytes.len() > tx.inline_bytes_max as usize) {
            also.push((other, content));
        }
    }
    let content = content(tx, &attr, 0, CHUNK_PAGE_MAX)?;
    Ok(MetaReply::Contents { attr, content, also })
}

fn get_attrs(tx: &mut Tx<'_>, inos: &[Ino]) -> Step<Vec<Attr>> {
    if inos.len() > LIST_MAX {
        return Err(Status::Malformed.into());
    }
    let keys: Vec<_> = inos.iter().map(|ino| key::inode(*ino)).collect();
    tx.want(&keys)?;
    let mut attrs = Vec::with_capacity(inos.len());
    for ino in inos {
        match tx.inode(*ino) {
            Ok(row) => attrs.push(row.attr),
            Err(Stop::Refused(Status::NotFound)) => {}
            Err(stop) => return Err(stop),
        }
    }
    Ok(attrs)
}

/// Entries behind `cookie`: each existing one exactly once, whatever happens around it, because a cookie is
/// made of the name's hash.
fn read_dir(tx: &mut Tx<'_>, ino: Ino, cookie: u64, limit: u32) -> Step<MetaReply> {
    let row = tx.live_inode(ino)?;
    if row.attr.kind != FileKind::Directory {
        return Err(Status::NotDirectory.into());
    }
    let limit = limit.clamp(1, READDIR_PAGE_MAX) as usize;
    let from = cookie >> 8;
    let range = RowRange { table: Table::Dentry, partition: ino.get(), from, to: u64::MAX, limit: limit + PAGE_SLACK };
    let known_to = match tx.known_range(range) {
        Some(known_to) => known_to,
        None if tx.cache.is_complete(ino.get()) => u64::MAX,
        None => return Err(Stop::Need(Need::Range(range))),
    };
    let (found, end) = page(tx, ino, (cookie, known_to), limit)?;
    let keys: Vec<_> = found.iter().map(|(_, entry)| key::inode(entry.ino)).collect();
    tx.want(&keys)?;
    let mut entries = Vec::with_capacity(found.len());
    for (cookie, entry) in found {
        let attr = tx.inode(entry.ino)?.attr;
        entries.push(DirEntry { cookie, name: entry.name, attr });
    }
    Ok(MetaReply::Entries { entries, end })
}

type Page = (Vec<(u64, DentryRow)>, bool);

fn page(tx: &mut Tx<'_>, ino: Ino, (cookie, known_to): (u64, u64), limit: usize) -> Step<Page> {
    let mut found = Vec::new();
    let mut observed = 0;
    let mut end = known_to == u64::MAX;
    if let Some(buckets) = tx.cache.buckets(ino.get(), cookie >> 8) {
        'buckets: for (hash, slot) in buckets {
            if *hash > known_to {
                break;
            }
            observed = observed.max(slot.ticket);
            let Some(Row::Dentries(entries)) = slot.row.as_deref() else { continue };
            let mut sorted: Vec<&DentryRow> = entries.iter().collect();
            sorted.sort_by_key(|entry| entry.slot);
            for entry in sorted {
                let at = hash << 8 | u64::from(entry.slot);
                if at <= cookie {
                    continue;
                }
                if found.len() == limit {
                    end = false;
                    break 'buckets;
                }
                found.push((at, entry.clone()));
            }
        }
    }
    tx.observed = tx.observed.max(observed);
    Ok((found, end))
}

fn next_chunk(tx: &mut Tx<'_>, ino: Ino, first: u64) -> Step<MetaReply> {
    let attr = tx.live_inode(ino)?.attr;
    if attr.kind != FileKind::File || attr.flags.has(AttrFlags::INLINE) {
        return Ok(MetaReply::NextChunk(None));
    }
    let end_row = attr.size.div_ceil(u64::from(tx.chunk_bytes)).div_ceil(SLOTS_PER_ROW);
    let mut at = first / SLOTS_PER_ROW;
    while at < end_row {
        let window = at..end_row.min(at + SEARCH_ROWS);
        let keys: Vec<_> = window.clone().map(|row| key::slots(ino, row * SLOTS_PER_ROW)).collect();
        tx.want(&keys)?;
        for row in window.clone() {
            let slots = tx.slot_row(ino, row * SLOTS_PER_ROW)?;
            let indexed = slots.iter().map(|(position, slot)| (row * SLOTS_PER_ROW + u64::from(*position), *slot));
            if let Some(next) = indexed.into_iter().find(|(index, _)| *index >= first) {
                return Ok(MetaReply::NextChunk(Some(next)));
            }
        }
        at = window.end;
    }
    Ok(MetaReply::NextChunk(None))
}

fn test_lock(tx: &mut Tx<'_>, ino: Ino, lock: &LockSpec) -> Step<MetaReply> {
    tx.live_inode(ino)?;
    let session = tx.session.ok_or(Status::Forbidden)?;
    let held = tx.locks(ino)?;
    Ok(MetaReply::LockHolder(blocker(&held, session, lock).map(|held| held.lock)))
}

fn path_of(tx: &mut Tx<'_>, ino: Ino) -> Step<Vec<Name>> {
    let mut names = Vec::new();
    let mut at = ino;
    while at != Ino::ROOT {
        let row = tx.live_inode(at)?;
        let home = *row.links.first().ok_or(Status::NotFound)?;
        let bucket = tx.bucket(home.parent, home.cookie >> 8)?;
        let slot = (home.cookie & 0xff) as u8;
        let entry = bucket.iter().find(|entry| entry.slot == slot && entry.ino == at).ok_or(Status::Corrupt)?;
        names.push(entry.name.clone());
        at = home.parent;
    }
    names.reverse();
    Ok(names)
}
