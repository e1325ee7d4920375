//! One value of every message, with numbers of every size.
//!
//! The names are found by exhaustive matches: a new variant does not compile before it has a name here; give it a value in
//! the list below it, too, and a line in `golden/v7.txt`.

use dgfs_proto::attr::{Attr, AttrFlags, FileKind, Timestamp, TreeStat};
use dgfs_proto::chunk::{
    ChunkCall, ChunkRef, ChunkReply, ChunkRequest, ChunkUse, DataRange, HeldVersion, Patch, PatchKind, Put, PutBase,
    PutDurability, StoreStatus, StoredVersion, Upkeep, UseOrder, UsesOf, VersionId,
};
use dgfs_proto::class::Class;
use dgfs_proto::compression::Compression;
use dgfs_proto::ids::{ChunkId, ChunkVersion, Epoch, Ino, OpId, Partition, Seq, ServerId, SessionId, Uuid};
use dgfs_proto::log::{Change, DataChange, Event, SlotChange};
use dgfs_proto::map::{ClassMap, ClusterMap, Extra, Holder, Labels, Placement, ServerInfo, Standing};
use dgfs_proto::meta::{
    AdminRequest, Applied, Caller, ClassHealth, ClientInfo, Commit, Content, DirEntry, Filled, GarbageItem,
    InodeChunks, KeptAnswer, KeptBack, LiveQuery, LivingSessions, LockFamily, LockKind, LockSpec, MetaCall, MetaReply,
    MetaRequest, MetaStatus, Mutation, Named, NewContent, NewNode, Notice, OpenMode, Query, Recall, RecallOf,
    RemoveKind, RenameMode, ServerCommand, ServerRequest, ServerStatus, SessionRequest, SessionStatus, SetAttr,
    SetTime, SlotEdit, VolumeInfo, VolumeUsage, XattrMode,
};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;

use crate::{graph, watch};

pub(crate) fn ino(raw: u64) -> Ino {
    Ino::new(raw).unwrap()
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn version_id() -> VersionId {
    VersionId { chunk: ChunkId::new(70_000).unwrap(), version: ChunkVersion::new(u64::MAX).unwrap() }
}

fn chunk_ref() -> ChunkRef {
    let id = version_id();
    ChunkRef { chunk: id.chunk, version: id.version, len: 4 << 20, allocated: 12_345 }
}

pub(crate) fn time(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 999_999_999 }
}

pub(crate) fn attr() -> Attr {
    Attr {
        ino: ino(300),
        kind: FileKind::File,
        mode: 0o6755,
        uid: 1000,
        gid: 65_534,
        nlink: 2,
        size: 1 << 40,
        allocated: 5000,
        rdev: 0x0801,
        atime: time(-1),
        mtime: time(1_700_000_000),
        ctime: time(1 << 40),
        btime: time(0),
        data_version: 17,
        flags: AttrFlags(AttrFlags::HAS_XATTR | AttrFlags::INLINE),
        parent: Ino::ROOT,
    }
}

fn volume() -> VolumeInfo {
    VolumeInfo {
        uuid: Uuid([7; 16]),
        name: "main".to_owned(),
        chunk_bytes: 4 << 20,
        inline_bytes_max: 4096,
        format: 1,
        created: time(1_700_000_000),
        initial_servers: 3,
    }
}

fn client() -> ClientInfo {
    ClientInfo { host: "host".to_owned(), pid: 4711, mount_point: "/mnt/g".to_owned(), version: "0.1.0".to_owned() }
}

fn lock() -> LockSpec {
    LockSpec { family: LockFamily::Flock, owner: u64::MAX, kind: LockKind::Write, start: 5, end: u64::MAX, pid: 99 }
}

fn usage() -> VolumeUsage {
    VolumeUsage { capacity_bytes: 1 << 50, free_bytes: 1 << 49, inodes: 12, allocated_bytes: 345 }
}

fn labels() -> Labels {
    Labels { zone: "z".to_owned(), host: "h".to_owned(), disk: String::new() }
}

fn upkeep() -> Upkeep {
    Upkeep {
        partitions_left: 1,
        bytes_left: 1 << 33,
        estimate_s: 99,
        fetched: 2,
        fetched_bytes: 3,
        not_found: 4,
        healed: 5,
        recompressed: 12,
        scrubbed_bytes: 6,
        scrub_errors: 7,
        scrubbed_at: 1_700_000_000,
        damaged_reads: 7,
    }
}

fn map() -> ClusterMap {
    let server = ServerInfo {
        id: ServerId(2),
        address: "127.0.0.1:5000".to_owned(),
        label: "two".to_owned(),
        labels: labels(),
        weight: 930,
        standing: Standing::Draining,
        up: true,
        capacity_bytes: 1 << 41,
        used_bytes: 1 << 30,
        free_bytes: 1 << 40,
    };
    let members = vec![Holder { server: ServerId(2), full: true, since: Epoch(3) }];
    let extras = vec![Extra { server: ServerId(300), place: 1, until: Epoch(70_000) }];
    let placements = vec![Placement { members, extras, changed: Epoch(9) }, Placement::default()];
    ClusterMap {
        epoch: Epoch(9),
        servers: vec![server],
        classes: vec![ClassMap { class: Class::coded(4, 2).unwrap(), placements }],
        default_class: Class::SINGLE,
        policies: 7,
    }
}

fn changes() -> Vec<Change> {
    let data = DataChange {
        ino: ino(2),
        slots: vec![SlotChange { index: 1 << 33, old: None, new: Some(chunk_ref()) }],
        old_size: 1,
        new_size: 2,
        old_mtime: time(3),
        old_inline: Some(vec![1, 2, 3]),
    };
    vec![
        Change::Made { ino: ino(2), parent: Ino::ROOT, name: name("a"), kind: FileKind::Directory },
        Change::Linked { ino: ino(2), parent: Ino::ROOT, name: name("b") },
        Change::Unlinked { ino: ino(2), parent: Ino::ROOT, name: name("a"), last: false },
        Change::Renamed {
            ino: ino(2),
            parent: Ino::ROOT,
            name: name("b"),
            new_parent: ino(3),
            new_name: name("c"),
            replaced: Some(ino(4)),
            exchanged: true,
        },
        Change::AttrSet { ino: ino(2) },
        Change::Data(data),
        Change::Xattr { ino: ino(2), name: b"user.x".to_vec() },
        Change::Freed { ino: ino(2) },
    ]
    .into_iter()
    .chain(graph::changes())
    .collect()
}

fn mutation_name(mutation: &Mutation) -> &'static str {
    match mutation {
        Mutation::Make { .. } => "make",
        Mutation::Link { .. } => "link",
        Mutation::Remove { .. } => "remove",
        Mutation::Rename { .. } => "rename",
        Mutation::SetAttr { .. } => "set-attr",
        Mutation::Commit(_) => "commit",
        Mutation::SetXattr { .. } => "set-xattr",
        Mutation::RemoveXattr { .. } => "remove-xattr",
        Mutation::CopyChunks { .. } => "copy-chunks",
        Mutation::Open { .. } => "open",
        Mutation::Register { .. } => "register",
        Mutation::Release { .. } => "release",
        Mutation::Lock { .. } => "lock",
        Mutation::UnlockOwner { .. } => "unlock-owner",
        Mutation::Grant { .. } => "grant",
        Mutation::GrantInodes { .. } => "grant-inodes",
        Mutation::Tag(_) => "tag",
        Mutation::Tags { .. } => "tags",
        Mutation::Relate { .. } => "relate",
        Mutation::SaveQuery { .. } => "save-query",
    }
}

fn make(node: NewNode) -> Mutation {
    let caller = Caller { uid: 1000, gid: 100 };
    Mutation::Make {
        parent: Ino::ROOT,
        name: name("neu ü"),
        node,
        mode: 0o640,
        umask: 0o22,
        caller,
        open: true,
        ino: None,
    }
}

fn make_as(ino: Ino) -> Mutation {
    let Mutation::Make { parent, name, node, mode, umask, caller, .. } = make(NewNode::File) else { unreachable!() };
    Mutation::Make { parent, name, node, mode, umask, caller, open: false, ino: Some(ino) }
}

fn commit(content: NewContent) -> Mutation {
    let mtime = time(1_700_000_000);
    Mutation::Commit(Commit { ino: ino(2), content, size_at_least: 9, size_expected: Some(8), mtime, policies: 3 })
}

fn mutations() -> Vec<Mutation> {
    let rename =
        |mode| Mutation::Rename { parent: ino(1), name: name("a"), new_parent: ino(2), new_name: name("b"), mode };
    let set = SetAttr {
        mode: Some(0o600),
        uid: Some(1),
        gid: None,
        size: Some(1 << 44),
        atime: Some(SetTime::Relatime),
        mtime: Some(SetTime::At(time(5))),
        kill_privileges: true,
    };
    let touch = SetAttr { atime: Some(SetTime::Now), ..SetAttr::default() };
    let set_xattr =
        |mode| Mutation::SetXattr { ino: ino(2), name: b"user.a".to_vec(), value: vec![0, 255], mode, uid: 1000 };
    let lock_of = |kind, family| Mutation::Lock { ino: ino(2), lock: LockSpec { kind, family, ..lock() }, wait: true };
    vec![
        make(NewNode::File),
        make(NewNode::Directory),
        make(NewNode::Symlink(b"../x".to_vec())),
        make(NewNode::Special { kind: FileKind::CharDevice, rdev: 0x0103 }),
        Mutation::Link { ino: ino(2), parent: ino(1), name: name("l") },
        Mutation::Remove { parent: ino(1), name: name("r"), kind: RemoveKind::Unlink },
        Mutation::Remove { parent: ino(1), name: name("r"), kind: RemoveKind::Rmdir },
        rename(RenameMode::Replace),
        rename(RenameMode::NoReplace),
        rename(RenameMode::Exchange),
        Mutation::SetAttr { ino: ino(2), set },
        Mutation::SetAttr { ino: ino(2), set: touch },
        commit(NewContent::Inline { base_data_version: 3, bytes: b"hello".to_vec() }),
        commit(NewContent::Slots {
            inline_base: Some(3),
            edits: vec![SlotEdit { index: 300, base: None, new: Some(chunk_ref()) }],
        }),
        set_xattr(XattrMode::Any),
        set_xattr(XattrMode::Create),
        set_xattr(XattrMode::Replace),
        Mutation::RemoveXattr { ino: ino(2), name: b"user.a".to_vec() },
        Mutation::CopyChunks { from: ino(2), from_index: 1, to: ino(3), to_index: 2, count: 4, size_at_least: 5 },
        Mutation::Open { ino: ino(2), mode: OpenMode::Read },
        Mutation::Open { ino: ino(2), mode: OpenMode::Write },
        Mutation::Open { ino: ino(2), mode: OpenMode::Truncate },
        Mutation::Register { opens: vec![(ino(2), 1), (ino(3), 70_000)] },
        Mutation::Release { opens: vec![(ino(2), 1), (ino(3), 70_000)] },
        lock_of(LockKind::Read, LockFamily::Posix),
        lock_of(LockKind::Unlock, LockFamily::Flock),
        Mutation::UnlockOwner { ino: ino(2), family: LockFamily::Posix, owner: 12 },
        Mutation::Grant { chunks: 65_536, versions: 16_777_216 },
        Mutation::GrantInodes { count: 65_536 },
    ]
    .into_iter()
    .chain(graph::mutations())
    .collect()
}

fn query_name(query: &Query) -> &'static str {
    match query {
        Query::Lookup { .. } => "lookup",
        Query::GetAttr(_) => "get-attr",
        Query::GetAttrs(_) => "get-attrs",
        Query::ReadDir { .. } => "read-dir",
        Query::ReadLink(_) => "read-link",
        Query::Content { .. } => "content",
        Query::NextChunk { .. } => "next-chunk",
        Query::GetXattr { .. } => "get-xattr",
        Query::ListXattr(_) => "list-xattr",
        Query::TreeStat(_) => "tree-stat",
        Query::TestLock { .. } => "test-lock",
        Query::StatFs => "stat-fs",
        Query::PathOf(_) => "path-of",
        Query::Policy(_) => "policy",
        Query::LeaseWrites(_) => "lease-writes",
        Query::Contents { .. } => "contents",
    }
}

fn queries() -> Vec<Query> {
    vec![
        Query::Lookup { parent: ino(1), name: name("a") },
        Query::GetAttr(ino(2)),
        Query::GetAttrs(vec![ino(2), ino(1 << 40)]),
        Query::ReadDir { ino: ino(1), cookie: u64::MAX, limit: 1024 },
        Query::ReadLink(ino(2)),
        Query::Content { ino: ino(2), first: 1 << 20, count: 1024 },
        Query::NextChunk { ino: ino(2), first: 7 },
        Query::GetXattr { ino: ino(2), name: b"user.a".to_vec() },
        Query::ListXattr(ino(2)),
        Query::TreeStat(ino(1)),
        Query::TestLock { ino: ino(2), lock: lock() },
        Query::StatFs,
        Query::PathOf(ino(2)),
        Query::Policy(ino(2)),
        Query::LeaseWrites(ino(2)),
        Query::Contents { ino: ino(2), also: vec![ino(3), ino(1 << 40)] },
    ]
}

fn request_name(request: &MetaRequest) -> String {
    match request {
        MetaRequest::Session(session) => format!("session-{}", session_name(session)),
        MetaRequest::Query(query) => format!("query-{}", query_name(query)),
        MetaRequest::Mutate { mutation, .. } => format!("mutate-{}", mutation_name(mutation)),
        MetaRequest::CancelWait(_) => "cancel-wait".to_owned(),
        MetaRequest::Sync => "sync".to_owned(),
        MetaRequest::GetMap(_) => "get-map".to_owned(),
        MetaRequest::Volume => "volume".to_owned(),
        MetaRequest::Server(ServerRequest::Join { .. }) => "server-join".to_owned(),
        MetaRequest::Server(ServerRequest::Beat { .. }) => "server-beat".to_owned(),
        MetaRequest::Server(ServerRequest::CheckLive(_)) => "server-check-live".to_owned(),
        MetaRequest::Server(ServerRequest::CheckMoves(_)) => "server-check-moves".to_owned(),
        MetaRequest::Server(ServerRequest::CheckCompression(_)) => "server-check-compression".to_owned(),
        MetaRequest::Server(ServerRequest::Numbers { .. }) => "server-numbers".to_owned(),
        MetaRequest::Server(ServerRequest::Move { .. }) => "server-move".to_owned(),
        MetaRequest::KeptBack { .. } => "kept-back".to_owned(),
        MetaRequest::Admin(AdminRequest::Status) => "admin-status".to_owned(),
        MetaRequest::Admin(AdminRequest::Inodes { .. }) => "admin-inodes".to_owned(),
        MetaRequest::Admin(AdminRequest::Log { .. }) => "admin-log".to_owned(),
        MetaRequest::Admin(AdminRequest::Servers) => "admin-servers".to_owned(),
        MetaRequest::Admin(AdminRequest::Graph { .. }) => "admin-graph".to_owned(),
        MetaRequest::Admin(AdminRequest::Catalogue { .. }) => "admin-catalogue".to_owned(),
        MetaRequest::Admin(AdminRequest::Consumers) => "admin-consumers".to_owned(),
        MetaRequest::Admin(AdminRequest::Server { command, .. }) => format!("admin-server-{}", command_name(command)),
        MetaRequest::Watch(request) => watch::request_name(request).to_owned(),
    }
}

fn command_name(command: &ServerCommand) -> &'static str {
    match command {
        ServerCommand::Drain => "drain",
        ServerCommand::Undrain => "undrain",
        ServerCommand::Remove { .. } => "remove",
        ServerCommand::Label { .. } => "label",
        ServerCommand::Weight(_) => "weight",
    }
}

fn commands() -> Vec<ServerCommand> {
    let word = |word: &str| Some(word.to_owned());
    vec![
        ServerCommand::Drain,
        ServerCommand::Undrain,
        ServerCommand::Remove { force: true },
        ServerCommand::Label { label: word("l"), zone: None, host: word("h"), disk: word("") },
        ServerCommand::Weight(Some(7)),
        ServerCommand::Weight(None),
    ]
}

fn session_name(request: &SessionRequest) -> &'static str {
    match request {
        SessionRequest::Open { .. } => "open",
        SessionRequest::Beat => "beat",
        SessionRequest::Poll { .. } => "poll",
        SessionRequest::Close => "close",
        SessionRequest::Recalled(_) => "recalled",
    }
}

fn requests() -> Vec<MetaRequest> {
    let live = LiveQuery { id: version_id(), owner: ino(2), index: 1 };
    let join = ServerRequest::Join {
        identity: Uuid([9; 16]),
        id: Some(ServerId(2)),
        address: "127.0.0.1:1".to_owned(),
        label: "l".to_owned(),
        labels: labels(),
        disk: u64::MAX,
        capacity_bytes: 1 << 40,
        used_bytes: 1,
        free_bytes: 2,
    };
    let beat = ServerRequest::Beat {
        id: ServerId(2),
        disk: 3,
        capacity_bytes: 1 << 40,
        used_bytes: 1,
        free_bytes: 2,
        collected: vec![1, 1 << 33],
        filled: vec![Filled { class: Class::SINGLE, partition: Partition(4095), since: Epoch(9) }],
        upkeep: upkeep(),
        sessions: 1 << 33,
    };
    let open =
        SessionRequest::Open { client: client(), key: u64::MAX, resume: SessionId::new(5), opens: vec![(ino(2), 3)] };
    let mut all = vec![
        MetaRequest::Session(open),
        MetaRequest::Session(SessionRequest::Beat),
        MetaRequest::Session(SessionRequest::Poll { done: 4, received: 2, recalled: vec![7, 1 << 40] }),
        MetaRequest::Session(SessionRequest::Recalled(vec![9])),
        MetaRequest::Session(SessionRequest::Close),
        MetaRequest::CancelWait(OpId(77)),
        MetaRequest::Sync,
        MetaRequest::GetMap(Epoch(3)),
        MetaRequest::Volume,
        MetaRequest::Server(join),
        MetaRequest::Server(beat),
        MetaRequest::Server(ServerRequest::CheckLive(vec![live])),
        MetaRequest::Server(ServerRequest::CheckMoves(vec![live, live])),
        MetaRequest::Server(ServerRequest::CheckCompression(vec![live])),
        MetaRequest::Server(ServerRequest::Numbers { count: 4096 }),
        MetaRequest::Server(ServerRequest::Move {
            owner: ino(2),
            index: 6,
            from: version_id(),
            to: version_id(),
            allocated: 4 << 20,
        }),
        MetaRequest::Admin(AdminRequest::Status),
        MetaRequest::Admin(AdminRequest::Inodes { after: Some(ino(4)), limit: 512 }),
        MetaRequest::Admin(AdminRequest::Log { consumer: "index".to_owned(), after: Seq(5), limit: 4096, wait: true }),
    ];
    all.push(MetaRequest::KeptBack {
        acked: OpId(6),
        changes: vec![KeptBack { op: OpId(7), at: time(1_700_000_000), mutation: make_as(ino(9)), expected: u64::MAX }],
    });
    all.push(MetaRequest::Admin(AdminRequest::Servers));
    all.extend(graph::admin_requests().into_iter().map(MetaRequest::Admin));
    all.extend(watch::requests().into_iter().map(MetaRequest::Watch));
    let command = |command| MetaRequest::Admin(AdminRequest::Server { id: ServerId(2), command });
    all.extend(commands().into_iter().map(command));
    all.extend(queries().into_iter().map(MetaRequest::Query));
    all.extend(mutations().into_iter().map(|mutation| MetaRequest::Mutate {
        op: OpId(300),
        acked: OpId(299),
        mutation,
    }));
    all
}

/// Every call to the metadata service.
pub(crate) fn meta_calls() -> Vec<(String, MetaCall)> {
    let call = |request| MetaCall { request_id: 0x0123_4567_89ab_cdef, session: SessionId::new(5), request };
    numbered(requests().into_iter().map(|request| (request_name(&request), call(request))).collect())
}

/// Names that come more than once get a number.
pub(crate) fn numbered<T>(values: Vec<(String, T)>) -> Vec<(String, T)> {
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    let number = |(name, value): (String, T)| {
        let count = seen.entry(name.clone()).and_modify(|count| *count += 1).or_insert(1);
        (if *count > 1 { format!("{name}-{count}") } else { name }, value)
    };
    values.into_iter().map(number).collect()
}

fn reply_name(reply: &MetaReply) -> String {
    match reply {
        MetaReply::Done => "done".to_owned(),
        MetaReply::Session { .. } => "session".to_owned(),
        MetaReply::Notice(_) => "notice".to_owned(),
        MetaReply::Recalls { .. } => "recalls".to_owned(),
        MetaReply::WritesLeased(_) => "writes-leased".to_owned(),
        MetaReply::KeptBack(_) => "kept-back".to_owned(),
        MetaReply::Applied(_) => "applied".to_owned(),
        MetaReply::Graph(_) => "graph".to_owned(),
        MetaReply::Catalogue(_) => "catalogue".to_owned(),
        MetaReply::Consumers(_) => "consumers".to_owned(),
        MetaReply::Watch(reply) => watch::reply_name(reply).to_owned(),
        MetaReply::InodesGranted(_) => "inodes-granted".to_owned(),
        MetaReply::Attr(_) => "attr".to_owned(),
        MetaReply::Attrs(_) => "attrs".to_owned(),
        MetaReply::Opened { .. } => "opened".to_owned(),
        MetaReply::Contents { .. } => "contents".to_owned(),
        MetaReply::Named(_) => "named".to_owned(),
        MetaReply::Entries { .. } => "entries".to_owned(),
        MetaReply::Bytes(_) => "bytes".to_owned(),
        MetaReply::Names(_) => "names".to_owned(),
        MetaReply::NextChunk(_) => "next-chunk".to_owned(),
        MetaReply::TreeStat(_) => "tree-stat".to_owned(),
        MetaReply::LockHolder(_) => "lock-holder".to_owned(),
        MetaReply::StatFs(_) => "stat-fs".to_owned(),
        MetaReply::Path(_) => "path".to_owned(),
        MetaReply::Granted { .. } => "granted".to_owned(),
        MetaReply::Map(_) => "map".to_owned(),
        MetaReply::Volume(_) => "volume".to_owned(),
        MetaReply::Joined { .. } => "joined".to_owned(),
        MetaReply::Beat { .. } => "beat".to_owned(),
        MetaReply::Alive { .. } => "alive".to_owned(),
        MetaReply::Policy { .. } => "policy".to_owned(),
        MetaReply::Servers(_) => "servers".to_owned(),
        MetaReply::Denied(_) => "denied".to_owned(),
        MetaReply::Live(_) => "live".to_owned(),
        MetaReply::Moves(_) => "moves".to_owned(),
        MetaReply::Compressions(_) => "compressions".to_owned(),
        MetaReply::Status(_) => "status".to_owned(),
        MetaReply::Inodes(_) => "inodes".to_owned(),
        MetaReply::Log { .. } => "log".to_owned(),
        MetaReply::Refused(status) => format!("refused-{status:?}"),
    }
}

fn statuses() -> Vec<Status> {
    vec![
        Status::NotFound,
        Status::Exists,
        Status::NotDirectory,
        Status::IsDirectory,
        Status::NotEmpty,
        Status::Invalid,
        Status::NameTooLong,
        Status::TooManyLinks,
        Status::FileTooBig,
        Status::NoSpace,
        Status::Quota,
        Status::NotPermitted,
        Status::AccessDenied,
        Status::NoXattr,
        Status::Range,
        Status::XattrTooBig,
        Status::WouldBlock,
        Status::Interrupted,
        Status::Deadlock,
        Status::NoLocks,
        Status::BadHandle,
        Status::ReadOnly,
        Status::NotSupported,
        Status::CrossDevice,
        Status::Stale,
        Status::Corrupt,
        Status::Io,
        Status::Conflict,
        Status::OldMap,
        Status::NoVersion,
        Status::NotActive,
        Status::Busy,
        Status::Unavailable,
        Status::Malformed,
        Status::Forbidden,
    ]
}

fn meta_status() -> MetaStatus {
    let session = SessionStatus { id: SessionId::new(5).unwrap(), client: client(), idle_ms: 12, opens: 3 };
    MetaStatus {
        volume: volume(),
        usage: usage(),
        engine: "fjall (embedded)".to_owned(),
        epoch: Epoch(6),
        seq: Seq(17),
        mutations: 1,
        commits: 2,
        engine_calls: 3,
        rows_cached: 4,
        leases: 8,
        recalls: 9,
        recall_waits: 10,
        lock_waits: 11,
        garbage: 5,
        orphans: 6,
        sessions: vec![session],
        map: map(),
        health: vec![health()],
    }
}

fn health() -> ClassHealth {
    let class = Class::replicated(3).unwrap();
    ClassHealth { class, full: 4000, degraded: 90, under_minimum: 5, unavailable: 1, places_left: 96 }
}

fn server_status() -> ServerStatus {
    ServerStatus {
        info: map().servers.remove(0),
        idle_ms: 1,
        places: 2,
        extras: 3,
        places_left: 4,
        known_ms: 1 << 40,
        down_ms: 5,
        downs: 6,
        upkeep: upkeep(),
    }
}

fn recalls() -> Vec<Recall> {
    let all = [
        RecallOf::Attrs(ino(2)),
        RecallOf::Inode(ino(3)),
        RecallOf::Writes(ino(4)),
        RecallOf::Name { parent: ino(5), name: name("n") },
        RecallOf::Names(ino(6)),
        RecallOf::AllWrites,
    ];
    all.into_iter().zip(1 << 33..).map(|(of, id)| Recall { id, of }).collect()
}

fn events() -> Vec<Event> {
    let event = |change| Event {
        seq: Seq(1 << 35),
        at: time(1_700_000_000),
        session: SessionId::new(5),
        change,
        nodes: vec![graph::node_facts()],
        continues: true,
    };
    changes().into_iter().map(event).collect()
}

/// Every answer of the metadata service.
pub(crate) fn meta_replies() -> Vec<(String, MetaReply)> {
    let slots = Content::Slots { first: 2, slots: vec![None, Some(chunk_ref())] };
    let mut all = vec![
        MetaReply::Done,
        MetaReply::Session { id: SessionId::new(5).unwrap(), sole: true, volume: volume() },
        MetaReply::Notice(None),
        MetaReply::Notice(Some((3, Notice::Shared))),
        MetaReply::Notice(Some((4, Notice::Sole))),
        MetaReply::Recalls { number: 3, recalls: recalls() },
        MetaReply::KeptBack(vec![
            KeptAnswer::Expected,
            KeptAnswer::Unkept,
            KeptAnswer::Other(Box::new(MetaReply::Refused(Status::Exists))),
        ]),
        MetaReply::InodesGranted(ino(1 << 40)),
        MetaReply::Applied(Applied {
            up_to: OpId(9),
            granted: vec![(70, 4096)],
            made: Some(ino(70)),
            others: vec![(OpId(8), MetaReply::Done)],
        }),
        MetaReply::WritesLeased(None),
        MetaReply::WritesLeased(Some(attr())),
        MetaReply::Attr(attr()),
        MetaReply::Attrs(vec![attr(), Attr { kind: FileKind::Directory, ..attr() }]),
        MetaReply::Opened { attr: attr(), content: Content::Inline(b"tiny".to_vec()) },
        MetaReply::Contents {
            attr: attr(),
            content: Content::Inline(b"tiny".to_vec()),
            also: vec![(attr(), Content::Inline(b"small".to_vec()))],
        },
        MetaReply::Opened { attr: Attr { kind: FileKind::Symlink, ..attr() }, content: slots },
        MetaReply::Named(Named { ino: ino(300), lost: None, attrs: vec![attr(), attr()] }),
        MetaReply::Named(Named { ino: ino(3), lost: Some((ino(3), 1)), attrs: Vec::new() }),
        MetaReply::Entries { entries: vec![DirEntry { cookie: u64::MAX, name: name("e"), attr: attr() }], end: true },
        MetaReply::Bytes(vec![0, 1, 255]),
        MetaReply::Names(vec![b"user.a".to_vec(), Vec::new()]),
        MetaReply::NextChunk(Some((9, chunk_ref()))),
        MetaReply::TreeStat(TreeStat { files: 1, dirs: 2, bytes: 1 << 50 }),
        MetaReply::LockHolder(Some(lock())),
        MetaReply::StatFs(usage()),
        MetaReply::Path(vec![name("a"), name("b")]),
        MetaReply::Granted { chunk: 1 << 39, version: version_id().version },
        MetaReply::Map(Some(map())),
        MetaReply::Volume(volume()),
        MetaReply::Joined { id: ServerId(2), chunk_bytes: 4 << 20, epoch: Epoch(9) },
        MetaReply::Beat {
            epoch: Epoch(9),
            policies: 70_000,
            garbage: vec![GarbageItem { number: 4, id: version_id() }],
            sessions: Some(LivingSessions { version: 1 << 33, newest: 7, living: vec![SessionId::new(7).unwrap()] }),
        },
        MetaReply::Alive { epoch: Epoch(9) },
        MetaReply::Policy { class: Class::coded(8, 3).unwrap(), compression: Compression::Zstd },
        MetaReply::Servers(vec![server_status()]),
        MetaReply::Denied("no".to_owned()),
        MetaReply::Live(vec![true, false]),
        MetaReply::Moves(vec![None, Some(Class::SINGLE)]),
        MetaReply::Compressions(vec![None, Some(Compression::None), Some(Compression::Lz4)]),
        MetaReply::Status(meta_status()),
        MetaReply::Inodes(vec![InodeChunks { attr: attr(), chunks: vec![(7, chunk_ref())] }]),
        MetaReply::Log { events: events(), head: Seq(99) },
    ];
    all.extend(
        [FileKind::Fifo, FileKind::Socket, FileKind::CharDevice, FileKind::BlockDevice]
            .map(|kind| MetaReply::Attr(Attr { kind, ..attr() })),
    );
    all.extend(statuses().into_iter().map(MetaReply::Refused));
    all.extend(graph::meta_replies());
    all.extend(watch::replies());
    numbered(all.into_iter().map(|reply| (reply_name(&reply), reply)).collect())
}

fn chunk_request_name(request: &ChunkRequest) -> &'static str {
    match request {
        ChunkRequest::Put(_) => "put",
        ChunkRequest::Get { .. } => "get",
        ChunkRequest::Extents(_) => "extents",
        ChunkRequest::Sync => "sync",
        ChunkRequest::Verify(_) => "verify",
        ChunkRequest::List { .. } => "list",
        ChunkRequest::Status => "status",
        ChunkRequest::Drop(_) => "drop",
        ChunkRequest::Export(_) => "export",
        ChunkRequest::Repair(_) => "repair",
        ChunkRequest::Stored(_) => "stored",
        ChunkRequest::Uses(_) => "uses",
    }
}

/// Every call to a storage daemon.
pub(crate) fn chunk_calls() -> Vec<(String, ChunkCall)> {
    let id = version_id();
    let put = |durability| {
        ChunkRequest::Put(Put {
            chunk: id.chunk,
            base: Some(PutBase { version: ChunkVersion::new(300).unwrap(), len: 70_000 }),
            version: id.version,
            owner: ino(2),
            index: 1 << 33,
            durability,
            compression: Compression::Lz4,
            patches: vec![
                Patch { offset: 0, len: 16_385, kind: PatchKind::Data { crcs: vec![1, u32::MAX] } },
                Patch { offset: 70_000, len: 5, kind: PatchKind::Zero },
            ],
        })
    };
    let requests = vec![
        put(PutDurability::Handed),
        put(PutDurability::Synced),
        ChunkRequest::Get { id, offset: 5, len: 70_000 },
        ChunkRequest::Extents(id),
        ChunkRequest::Sync,
        ChunkRequest::Verify(id),
        ChunkRequest::List { after: Some(id), until: ChunkId::new(u64::MAX), limit: 4096 },
        ChunkRequest::Status,
        ChunkRequest::Drop(vec![id]),
        ChunkRequest::Export(id),
        ChunkRequest::Repair(vec![id]),
        ChunkRequest::Stored(vec![id]),
        ChunkRequest::Uses(UsesOf::Top { by: UseOrder::Reads, limit: 1000 }),
        ChunkRequest::Uses(UsesOf::Top { by: UseOrder::Recent, limit: 1 }),
        ChunkRequest::Uses(UsesOf::Chunks(vec![id.chunk])),
    ];
    let call = |request| ChunkCall { request_id: u64::MAX, map_epoch: Epoch(9), session: SessionId::new(5), request };
    numbered(requests.into_iter().map(|request| (chunk_request_name(&request).to_owned(), call(request))).collect())
}

fn chunk_reply_name(reply: &ChunkReply) -> &'static str {
    match reply {
        ChunkReply::Put { .. } => "put",
        ChunkReply::Data { .. } => "data",
        ChunkReply::Extents(_) => "extents",
        ChunkReply::Exported { .. } => "exported",
        ChunkReply::OldMap(_) => "old-map",
        ChunkReply::Done => "done",
        ChunkReply::Held(_) => "held",
        ChunkReply::Status(_) => "status",
        ChunkReply::Refused(_) => "refused",
        ChunkReply::Stored(_) => "stored",
        ChunkReply::Uses(_) => "uses",
    }
}

/// Every answer of a storage daemon.
pub(crate) fn chunk_replies() -> Vec<(String, ChunkReply)> {
    let status = StoreStatus {
        server: ServerId(2),
        directory: "/srv/chunks".to_owned(),
        capacity_bytes: 1 << 41,
        used_bytes: 1 << 30,
        free_bytes: 1 << 40,
        live_bytes: 5,
        record_bytes: 1 << 20,
        versions: 6,
        segments: 7,
        puts: 8,
        gets: 9,
        put_bytes: 10,
        get_bytes: 11,
        checksum_errors: 12,
        syncs: 13,
        lost: vec!["segment file 00000001.seg is missing".to_owned()],
        interrupted: vec!["a write".to_owned()],
        lost_versions: 14,
        lost_bytes: 1 << 34,
        mended: vec!["the index".to_owned()],
        upkeep: upkeep(),
    };
    let replies = vec![
        ChunkReply::Put { allocated: 70_000 },
        ChunkReply::Data { crc: u32::MAX },
        ChunkReply::Extents(vec![DataRange { offset: 1, len: 70_000 }]),
        ChunkReply::Exported {
            owner: ino(2),
            index: 6,
            compression: Compression::Zstd,
            patches: vec![Patch { offset: 1, len: 2, kind: PatchKind::Data { crcs: vec![u32::MAX] } }],
        },
        ChunkReply::OldMap(map()),
        ChunkReply::Done,
        ChunkReply::Held(vec![HeldVersion { id: version_id(), allocated: 5, owner: ino(2), index: 6 }]),
        ChunkReply::Status(Box::new(status)),
        ChunkReply::Refused(Status::Corrupt),
        ChunkReply::Stored(vec![
            None,
            Some(StoredVersion { compression: Compression::Zstd, data_bytes: 70_000, disk_bytes: 12_800 }),
        ]),
        ChunkReply::Uses(vec![ChunkUse {
            chunk: version_id().chunk,
            owner: Some(ino(2)),
            index: 6,
            bytes: 70_000,
            reads: 1,
            writes: 2,
            read_bytes: 1 << 33,
            write_bytes: 4,
            errors: 5,
            last_use: 1_700_000_000,
        }]),
    ];
    numbered(replies.into_iter().map(|reply| (chunk_reply_name(&reply).to_owned(), reply)).collect())
}
