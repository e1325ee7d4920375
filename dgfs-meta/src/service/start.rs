//! A writer begins: what is always in memory is read, and an embedded volume
//! that stopped uncleanly is mended.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use dgfs_proto::attr::{Attr, AttrFlags, FileKind, Timestamp, TreeStat};
use dgfs_proto::class::Class;
use dgfs_proto::ids::{Ino, OpId, ServerId, SessionId};
use dgfs_proto::limits::{SERVER_DOWN_MS, SESSION_LEASE_MS};
use dgfs_proto::map::ClassMap;
use dgfs_proto::meta::{Caller, MetaReply};

use crate::cluster::Stored;
use crate::core::{Core, Snapshot, changes_to_undo, versions_named};
use crate::engine::{Engine, EngineError, RowKey, RowRange, Table, WriterLease};
use crate::rows::{Counters, InodeRow, JournalRow, Row, RowError, SettingsRow, key};
use crate::service::active::{Active, Dead};
use crate::service::full::Fullness;
use crate::service::recalls::Bells;
use crate::service::{MetaOptions, Watch, now};

const PAGE: usize = 4096;

/// Reads what a writer needs and makes it.
pub(crate) async fn activate(
    (engine, watching): (Arc<dyn Engine>, Arc<Watch>),
    options: MetaOptions,
    lease: WriterLease,
) -> Result<Arc<Active>, EngineError> {
    let time = now(&options.clock);
    let (mut snapshot, fresh) = read_snapshot(engine.as_ref()).await?;
    watching.journal.written(snapshot.journal);
    snapshot.cluster.grace_ms = options.server_grace_ms;
    // Storage in the same process lives as long as this does.
    snapshot.cluster.silence_ms = if options.exclusive { u64::MAX } else { SERVER_DOWN_MS };
    let mut core = Core::new(snapshot, lease, options.memory_bytes, time);
    if fresh {
        core.write(key::inode(Ino::ROOT), Some(Arc::new(Row::Inode(root(time, options.root_owner)))));
    }
    let (died, _) = watch::channel(false);
    let active = Arc::new(Active {
        core: Mutex::new(core),
        engine,
        epoch: lease.epoch,
        committed: AtomicU64::new(lease.last_batch),
        durable: AtomicU64::new(0),
        horizon: AtomicU64::new(0),
        full: Fullness::default(),
        commits: AtomicU64::new(0),
        commit_lock: tokio::sync::Mutex::new(()),
        sync_lock: tokio::sync::Mutex::new(()),
        dead: AtomicBool::new(false),
        died,
        locks_changed: Notify::new(),
        renewed_ms: AtomicU64::new(options.clock.monotonic_ms()),
        bells: Bells::default(),
        recalled: Notify::new(),
        sessions_changed: Notify::new(),
        answered: Notify::new(),
        log_changed: Notify::new(),
        waits: Mutex::new(HashMap::new()),
        watch: watching,
        mutations_told: AtomicU64::new(0),
        options,
    });
    let begun = active.begin(time).await;
    if active.full.any() && (fresh || begun.is_err()) {
        // The root, or what recovery has to write.
        return Err(EngineError::NoSpace);
    }
    begun.map_err(|_| EngineError::Unavailable("the start was interrupted".to_owned()))?;
    Ok(active)
}

/// The root of a new volume: its owner's, mode 0755.
fn root(time: Timestamp, owner: Caller) -> InodeRow {
    InodeRow {
        attr: Attr {
            ino: Ino::ROOT,
            kind: FileKind::Directory,
            mode: 0o755,
            uid: owner.uid,
            gid: owner.gid,
            nlink: 2,
            size: 0,
            allocated: 0,
            rdev: 0,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            data_version: 1,
            flags: AttrFlags::default(),
            parent: Ino::ROOT,
        },
        links: Vec::new(),
        tree: TreeStat::default(),
        target: Vec::new(),
    }
}

fn damaged(error: RowError) -> EngineError {
    match error {
        RowError::Newer { .. } => EngineError::Refused(error.to_string()),
        RowError::Damaged { .. } => EngineError::Damaged(error.to_string()),
    }
}

async fn read_one(engine: &dyn Engine, key: RowKey) -> Result<Option<Row>, EngineError> {
    let rows = engine.load(vec![key]).await?;
    rows.into_iter().flatten().next().map(|bytes| Row::decode(key, &bytes).map_err(damaged)).transpose()
}

async fn read_partition(engine: &dyn Engine, table: Table, partition: u64) -> Result<Vec<(RowKey, Row)>, EngineError> {
    let mut rows = Vec::new();
    let mut from = 0;
    loop {
        let range = RowRange { table, partition, from, to: u64::MAX, limit: PAGE };
        let page = engine.list(range).await?;
        let last = page.last().map(|(key, _)| key.sort);
        let full = page.len() == PAGE;
        for (key, bytes) in page {
            rows.push((key, Row::decode(key, &bytes).map_err(damaged)?));
        }
        match last {
            Some(last) if full && last < u64::MAX => from = last + 1,
            Some(_) | None => return Ok(rows),
        }
    }
}

async fn read_table(engine: &dyn Engine, table: Table) -> Result<Vec<(RowKey, Row)>, EngineError> {
    let mut rows = Vec::new();
    let mut from = 0;
    loop {
        let partitions = engine.partitions(table, from, PAGE).await?;
        for partition in &partitions {
            rows.extend(read_partition(engine, table, *partition).await?);
        }
        match partitions.last() {
            Some(last) if partitions.len() == PAGE && *last < u64::MAX => from = last + 1,
            Some(_) | None => return Ok(rows),
        }
    }
}

pub(crate) async fn read_snapshot(engine: &dyn Engine) -> Result<(Snapshot, bool), EngineError> {
    let volume = crate::format::read_volume(engine).await?;
    let counters = match read_one(engine, key::COUNTERS).await? {
        Some(Row::Counters(counters)) => Some(counters),
        Some(_) | None => None,
    };
    let assignment = match read_one(engine, key::ASSIGNMENT).await? {
        Some(Row::Assignment(assignment)) => assignment,
        Some(_) | None => Vec::new(),
    };
    let settings = match read_one(engine, key::SETTINGS).await? {
        Some(Row::Settings(settings)) => settings,
        Some(_) | None => SettingsRow::default(),
    };
    let counters_now = counters.unwrap_or_default();
    let cluster = Stored {
        epoch: counters_now.map_epoch,
        next_server: counters_now.next_server,
        classes: read_classes(engine).await?,
        assignment,
        ..Stored::default()
    };
    let mut snapshot = Snapshot {
        volume,
        counters: counters_now,
        settings,
        cluster,
        sessions: Vec::new(),
        answers: Vec::new(),
        consumers: Vec::new(),
        orphans: Vec::new(),
        locks: Vec::new(),
        journal: match read_one(engine, key::JOURNAL).await? {
            Some(Row::Journal(journal)) => journal,
            Some(_) | None => JournalRow::default(),
        },
        announced: BTreeMap::new(),
    };
    for (key, row) in read_partition(engine, Table::Watch, key::announced(ServerId(0)).partition).await? {
        keep(&mut snapshot, key, row);
    }
    for table in [Table::Session, Table::Answer, Table::Server, Table::Consumer, Table::Orphan, Table::Lock] {
        for (key, row) in read_table(engine, table).await? {
            keep(&mut snapshot, key, row);
        }
    }
    Ok((snapshot, counters.is_none()))
}

/// The placements of every class in use.
async fn read_classes(engine: &dyn Engine) -> Result<Vec<ClassMap>, EngineError> {
    let keys: Vec<RowKey> = (0..=u8::MAX).filter_map(Class::from_byte).map(key::class).collect();
    let mut classes = Vec::new();
    for (key, bytes) in keys.iter().zip(engine.load(keys.clone()).await?) {
        if let Some(bytes) = bytes
            && let Row::Class(map) = Row::decode(*key, &bytes).map_err(damaged)?
        {
            classes.push(map);
        }
    }
    Ok(classes)
}

fn keep(snapshot: &mut Snapshot, key: RowKey, row: Row) {
    match row {
        Row::Session(row) => snapshot.sessions.push(row),
        Row::Answer(reply) => {
            if let Some(session) = SessionId::new(key.partition) {
                snapshot.answers.push((session, OpId(key.sort), reply));
            }
        }
        Row::Server(row) => snapshot.cluster.servers.push(row),
        Row::Member(row) => snapshot.cluster.states.extend(u32::try_from(key.sort).map(|id| (ServerId(id), row))),
        Row::Consumer(row) => snapshot.consumers.push((key.sort, row)),
        Row::Announced(row) => snapshot.announced.extend(u32::try_from(key.sort).map(|id| (ServerId(id), row))),
        Row::Orphan => snapshot.orphans.extend(Ino::new(key.sort)),
        Row::Locks(held) => {
            if let Some(ino) = Ino::new(key.sort) {
                snapshot.locks.push((ino, held));
            }
        }
        Row::Volume(_)
        | Row::Counters(_)
        | Row::Assignment(_)
        | Row::Settings(_)
        | Row::Class(_)
        | Row::Inode(_)
        | Row::Inline(_)
        | Row::Xattrs(_)
        | Row::Dentries(_)
        | Row::Slots(_)
        | Row::Event(_)
        | Row::Garbage(_)
        | Row::Shared(_)
        | Row::Tag(_)
        | Row::TagNames(_)
        | Row::Saved(_)
        | Row::Happened(_)
        | Row::Journal(_) => {}
    }
}

impl Active {
    /// Mends and tidies before the first call.
    async fn begin(&self, time: Timestamp) -> Result<(), Dead> {
        if self.options.exclusive {
            let dead: Vec<SessionId> = self.core.lock().sessions.keys().copied().collect();
            for id in dead {
                let _: MetaReply = self.end_session(id).await?;
            }
            self.take_back_lost_data().await?;
            self.core.lock().queue_orphans();
        } else {
            let due = Timestamp::from_ms(time.as_ms() + SESSION_LEASE_MS);
            self.core.lock().orphans_due = Some(due);
        }
        self.sync().await
    }

    /// Content changes whose bytes a power cut took are undone (ordered mode).
    async fn take_back_lost_data(&self) -> Result<(), Dead> {
        let Some(data) = self.options.data.clone() else { return Ok(()) };
        let counters: Counters = self.core.lock().counters;
        let mut events = Vec::new();
        let mut from = counters.data_synced.0 + 1;
        while from <= counters.seq.0 {
            let range = RowRange { table: Table::Log, partition: 0, from, to: counters.seq.0, limit: PAGE };
            let page = self.persistently("read the change log", || self.engine.list(range)).await?;
            let Some(last) = page.last().map(|(key, _)| key.sort) else { break };
            for (key, bytes) in page {
                if let Ok(Row::Event(event)) = Row::decode(key, &bytes) {
                    events.push(event);
                }
            }
            from = last + 1;
        }
        let lost: BTreeSet<_> = data.lost(versions_named(&events)).await.into_iter().collect();
        let undo = changes_to_undo(&events, &lost);
        if !undo.is_empty() {
            warn!(changes = undo.len(), "a power cut took bytes that were never synced; these writes are taken back");
        }
        let time = now(&self.options.clock);
        for (_, change) in undo {
            if self.settle_if_room(|core, _| core.undo(time, &change)).await?.is_none() {
                error!(
                    "the disk is full, and the recovery of this volume needs room: free some space, then start again"
                );
                return Err(Dead);
            }
        }
        info!(events = events.len(), lost = lost.len(), "recent content changes checked against the stored data");
        Ok(())
    }
}
