//! Every bound of the system, related to each other by `const` asserts.
//!
//! A number here has its reason beside it. Nothing else defines a limit that
//! another crate relies on.

/// Bytes in a file name (POSIX `NAME_MAX` on Linux).
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes in a symlink target (`PATH_MAX` less the NUL).
pub const SYMLINK_BYTES_MAX: usize = 4095;
/// Links to one inode, as ext4.
pub const LINK_MAX: u32 = 65_000;
/// Bytes in an extended attribute's name (Linux `XATTR_NAME_MAX`).
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// Bytes in an extended attribute's value (Linux `XATTR_SIZE_MAX`).
pub const XATTR_VALUE_BYTES_MAX: usize = 65_536;
/// Bytes of all names and values of one inode: one row carries them.
pub const XATTR_TOTAL_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a chunk when `dgfs format` is not told otherwise.
pub const CHUNK_BYTES_DEFAULT: u32 = 4 << 20;
/// Smallest chunk size a volume may have.
pub const CHUNK_BYTES_MIN: u32 = 64 << 10;
/// Largest chunk size a volume may have; a message carries a whole chunk.
pub const CHUNK_BYTES_MAX: u32 = 16 << 20;
/// Bytes one checksum covers: small enough that a random 4 KiB read verifies
/// little, large enough that a 4 MiB chunk's table is 1 KiB.
pub const CHECKSUM_BLOCK_BYTES: u32 = 16 << 10;
/// Largest file whose bytes live in its inode's rows.
pub const INLINE_BYTES_MAX: u32 = 4096;
/// Largest file: 2^63 - 1 as the kernel's `loff_t`, cut to whole 16 TiB × 16.
pub const FILE_BYTES_MAX: u64 = 256 << 40;
/// Slices of the chunk space.
pub const PARTITIONS: u16 = 4096;

/// Whole copies of a chunk at most.
pub const REPLICAS_MAX: u8 = 5;
/// Shards of a coded chunk at most.
pub const SHARDS_MAX: u8 = 16;
/// Redundancy classes that a volume uses at once: the map of all of them must fit one message.
pub const CLASSES_MAX: usize = 6;
/// Smaller chunks are kept as copies also where the policy says coded: shards of a few KiB cost more calls than they save
/// bytes.
pub const CODED_BYTES_MIN: u32 = 64 << 10;
/// Storage servers of one cluster.
pub const SERVERS_MAX: usize = 1024;
/// Bytes of an address, a name or a label of a server.
pub const LABEL_BYTES_MAX: usize = 64;
/// Directories that have a policy of their own.
pub const POLICIES_MAX: usize = 4096;

/// Patches in one `put`; more are sent as one merged patch or in two puts.
pub const PATCHES_MAX: usize = 256;
/// Chunk edits in one commit; a larger flush is several commits.
pub const EDITS_MAX: usize = 256;
/// Chunk references in one page.
pub const CHUNK_PAGE_MAX: u32 = 1024;
/// Files whose content comes along with one that was asked for.
pub const CONTENTS_MAX: usize = 32;
/// Chunk references of each of them.
pub const CONTENTS_SLOTS_MAX: u32 = 32;
/// Directory entries in one page.
pub const READDIR_PAGE_MAX: u32 = 1024;
/// Change-log events in one page.
pub const LOG_PAGE_MAX: u32 = 4096;
/// Items of a list in any message that has no limit of its own.
pub const LIST_MAX: usize = 4096;
/// Chunks in one answer about their use: each takes 90 bytes at most.
pub const USES_MAX: usize = 1000;
/// Open inodes in one message that takes a session up; more are sent in several.
pub const RESUMED_OPENS_MAX: usize = 16 * LIST_MAX;
/// Mutations a session may have unacknowledged; more are refused with `Busy`.
pub const OPS_IN_FLIGHT_MAX: usize = 1024;
/// Changes in one message that a client kept back.
pub const KEPT_BACK_MAX: usize = 512;
/// Encoded bytes of them.
pub const KEPT_BACK_BYTES_MAX: usize = 512 << 10;
/// Groups of a user that are looked at, as Linux's `NGROUPS_MAX` is for NFS; more are not known.
pub const GROUPS_MAX: usize = 1024;
/// Hits in one page of the graph.
pub const GRAPH_PAGE_MAX: u32 = 1024;
/// Inodes whose places are asked for at once: all of their paths (at most 4,096 bytes each) fit into a message.
pub const PLACES_MAX: usize = 64;
/// Tags, or values of a key, in one answer; of more the most frequent.
pub const FACETS_MAX: u32 = 10_000;
/// Inodes that one change of tags may name.
pub const TAGGED_MAX: usize = 512;
/// How long a question to the graph may take.
pub const GRAPH_DEADLINE_MS: u64 = 5_000;
/// Relations that people made from one inode.
pub const RELATIONS_MAX: usize = 1000;
/// Saved queries of a volume.
pub const SAVED_QUERIES_MAX: usize = 1000;
/// Aliases of one tag, and tags that one implies.
pub const TAG_WORDS_MAX: usize = 64;
/// Encoded bytes of one page of the change log, or of inodes for the graph.
pub const PAGE_BYTES_MAX: usize = 512 << 10;
/// Sessions of one volume.
pub const SESSIONS_MAX: usize = 4096;
/// Locks on one inode: its lock row stays small enough to rewrite.
pub const LOCKS_PER_INODE_MAX: usize = 4096;
/// Lock waits parked by one session.
pub const LOCK_WAITS_MAX: usize = 1024;

/// Bytes of a frame's head (the encoded message).
pub const FRAME_HEAD_BYTES_MAX: u32 = 1 << 20;
/// Bytes of a frame's body (bulk data).
pub const FRAME_BODY_BYTES_MAX: u32 = CHUNK_BYTES_MAX;
/// A call whose body is at most this travels on the shared small-call stream.
pub const SMALL_BODY_BYTES_MAX: usize = 32 << 10;

/// Bytes of a tag in its canonical spelling; with a user's short prefix it still fits a path's component.
pub const TAG_BYTES_MAX: usize = 200;
/// Tags of one file: its row stays small, and a refinement list of it, too.
pub const TAGS_PER_FILE_MAX: usize = 1000;
/// Clauses of a query, which are the components of its path.
pub const QUERY_CLAUSES_MAX: usize = 32;
/// Alternatives in one clause of a query.
pub const QUERY_ATOMS_MAX: usize = 64;
/// Words of one full-text test: each costs a posting list.
pub const QUERY_WORDS_MAX: usize = 32;
/// Bytes of one component of a query's path (the kernel's bound for a name).
pub const COMPONENT_BYTES_MAX: usize = NAME_BYTES_MAX;
/// Bytes of a query written as an expression: the largest query fits several times, a position fits 32 bits.
pub const EXPRESSION_BYTES_MAX: usize = 64 << 10;
/// Depth of parentheses in an expression: bounds the parser's recursion.
pub const PARENTHESES_DEPTH_MAX: usize = 64;
/// Literals that distributing OR over AND may look at for one expression: some ten
/// milliseconds of work.
pub const DISTRIBUTION_STEPS_MAX: usize = 1 << 22;

/// How long a session lives without a heartbeat, on meta's clock.
pub const SESSION_LEASE_MS: u64 = 15_000;
/// How often a client sends a heartbeat.
pub const HEARTBEAT_MS: u64 = 2_000;
/// How often a storage daemon sends one.
pub const SERVER_BEAT_MS: u64 = 1_000;
/// A storage daemon that was silent for so long is down: writes go on without it.
pub const SERVER_DOWN_MS: u64 = 5_000;
/// How long a long poll waits before it answers that nothing happened. A client counts its lease from polls that were
/// answered, so that a push that does not arrive ends the lease in time.
pub const POLL_MS: u64 = 4_000;
/// How much earlier than meta a client counts its lease as ended: for clocks that run at different speeds.
pub const LEASE_MARGIN_MS: u64 = 2_000;
/// A session that lives and has not carried out a recall for so long is fenced: others wait for it.
/// Longer than a request of a hard mount may take, for which its kernel may have to wait.
pub const RECALL_MS_MAX: u64 = 75_000;
/// Recalls in one message.
pub const RECALLS_MAX: usize = 1024;
/// Leases of one session; beyond, the oldest are recalled.
pub const LEASES_PER_SESSION_MAX: usize = 64 << 10;
/// Leases of all sessions: bounds the memory of the metadata service (about 100 bytes each).
pub const LEASES_MAX: usize = 4 << 20;
/// How often a process announces itself.
pub const ANNOUNCE_MS: u64 = 5_000;
/// One that was silent for so long is not there any more.
pub const ANNOUNCED_MS: u64 = 30_000;
/// How often a standby says that it waits, and the active writer looks who does.
pub const STANDBY_LOOK_MS: u64 = 1_000;
/// A standby that said nothing for so long does not wait any more.
pub const STANDBY_MS: u64 = 4_000;
/// Processes that are known at once: as many as there may be sessions.
pub const MEMBERS_MAX: usize = SESSIONS_MAX;
/// Of them in one message.
pub const MEMBERS_PAGE_MAX: u32 = 1024;
/// Bytes of the name of one: a mount point may be long.
pub const ANNOUNCED_NAME_BYTES_MAX: usize = 255;
/// Events of the cluster's journal that are kept.
pub const EVENTS_KEPT: u64 = 10_000;
/// Of them in one message.
pub const EVENTS_PAGE_MAX: u32 = 1024;
/// Bytes of the name of whom one happened to.
pub const EVENT_SUBJECT_BYTES_MAX: usize = 128;
/// Bytes of its sentence.
pub const EVENT_TEXT_BYTES_MAX: usize = 512;
/// How long one call may take before the client gives it up (hard mounts try again).
pub const CALL_DEADLINE_MS: u64 = 30_000;
/// How long the active writer's lease in the engine lasts.
pub const WRITER_LEASE_MS: u64 = 4_000;
/// How often the active writer renews its lease and a standby looks.
pub const WRITER_RENEW_MS: u64 = 1_000;

const _: () = assert!(TAG_BYTES_MAX + "not:".len() <= COMPONENT_BYTES_MAX);
const _: () = assert!(EXPRESSION_BYTES_MAX * 3 < u32::MAX as usize);
const _: () = assert!(DISTRIBUTION_STEPS_MAX > QUERY_CLAUSES_MAX * QUERY_CLAUSES_MAX * QUERY_ATOMS_MAX);
const _: () = assert!(HEARTBEAT_MS * 5 < SESSION_LEASE_MS);
const _: () = assert!(POLL_MS + LEASE_MARGIN_MS < SESSION_LEASE_MS / 2);
const _: () = assert!(RECALLS_MAX * (NAME_BYTES_MAX + 30) < FRAME_HEAD_BYTES_MAX as usize);
const _: () = assert!(KEPT_BACK_BYTES_MAX + INLINE_BYTES_MAX as usize + 1024 < FRAME_HEAD_BYTES_MAX as usize);
const _: () = assert!(SERVER_BEAT_MS * 4 < SERVER_DOWN_MS);
const _: () = assert!(WRITER_RENEW_MS * 3 < WRITER_LEASE_MS);
const _: () = assert!(ANNOUNCE_MS * 4 < ANNOUNCED_MS);
const _: () = assert!(STANDBY_LOOK_MS * 3 < STANDBY_MS);
const _: () = assert!(
    EVENTS_PAGE_MAX as usize * (EVENT_SUBJECT_BYTES_MAX + EVENT_TEXT_BYTES_MAX + 40) < FRAME_HEAD_BYTES_MAX as usize
);
const _: () = assert!(
    MEMBERS_PAGE_MAX as usize * (ANNOUNCED_NAME_BYTES_MAX + 3 * LABEL_BYTES_MAX + 60) < FRAME_HEAD_BYTES_MAX as usize
);
const _: () = assert!(PLACES_MAX * (SYMLINK_BYTES_MAX + 4096) < FRAME_HEAD_BYTES_MAX as usize);
const _: () = assert!(CHUNK_BYTES_MAX <= FRAME_BODY_BYTES_MAX);
const _: () = assert!(XATTR_TOTAL_BYTES_MAX as u32 * 2 <= FRAME_HEAD_BYTES_MAX);
const _: () = assert!(INLINE_BYTES_MAX < CHUNK_BYTES_MIN);
const _: () = assert!(CHUNK_BYTES_MIN.is_multiple_of(CHECKSUM_BLOCK_BYTES));
const _: () = assert!(CONTENTS_MAX * (INLINE_BYTES_MAX as usize + 200) < FRAME_HEAD_BYTES_MAX as usize / 2);
const _: () = assert!(READDIR_PAGE_MAX as usize * (NAME_BYTES_MAX + 200) < FRAME_HEAD_BYTES_MAX as usize);
