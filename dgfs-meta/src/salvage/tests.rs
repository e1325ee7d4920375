//! Bits flipped in every file of an embedded engine: what is lost is refused and named, the rest comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::class::Class;
use dgfs_proto::ids::{Ino, OpId, SessionId, Uuid};
use dgfs_proto::meta::{
    Caller, ClientInfo, MetaCall, MetaReply, MetaRequest, Mutation, NewNode, Query, SessionRequest, VolumeInfo,
};
use dgfs_proto::name::Name;
use dgfs_runtime::channel::{Handler, Peer, Role};
use dgfs_runtime::clock::Clock;

use crate::engine::fjall::{FjallEngine, flush_for_tests};
use crate::engine::testing::TestDir;
use crate::engine::{Engine, EngineError, RowKey, RowRange};
use crate::format::{FORMAT, TABLES, format_volume};
use crate::salvage::salvage;
use crate::service::{MEMORY_BYTES_DEFAULT, MetaOptions, MetaService, SERVER_GRACE_MS_DEFAULT};

const FILES: usize = 120;

/// A service that is used in process.
struct Volume {
    service: Arc<MetaService>,
    session: SessionId,
    op: u64,
}

impl Volume {
    async fn open(meta: &Path) -> Result<Self, EngineError> {
        let options = MetaOptions {
            holder: "test".to_owned(),
            memory_bytes: MEMORY_BYTES_DEFAULT,
            exclusive: true,
            data: None,
            root_owner: Caller { uid: 0, gid: 0 },
            server_grace_ms: SERVER_GRACE_MS_DEFAULT,
            clock: Clock::real(),
        };
        let service = MetaService::start(Arc::new(FjallEngine::open(meta)?), options).await?;
        let mut volume = Self { service, session: SessionId::new(1).unwrap(), op: 0 };
        let open = SessionRequest::Open { client: ClientInfo::default(), key: 7, resume: None, opens: Vec::new() };
        match volume.call(MetaRequest::Session(open)).await {
            MetaReply::Session { id, .. } => volume.session = id,
            other => panic!("opening a session answered {other:?}"),
        }
        Ok(volume)
    }

    async fn call(&self, request: MetaRequest) -> MetaReply {
        let peer = Arc::new(Peer { role: Role::Client, address: "test".to_owned(), local: true });
        let call = MetaCall { request_id: 1, session: Some(self.session), request };
        Arc::clone(&self.service).handle(peer, call, Bytes::new()).await.0
    }

    async fn make(&mut self, parent: Ino, text: &str, node: NewNode) -> Ino {
        self.op += 1;
        let (name, caller) = (Name::new(text.as_bytes()).unwrap(), Caller { uid: 0, gid: 0 });
        let mutation = Mutation::Make { parent, name, node, mode: 0o755, umask: 0, caller, open: false, ino: None };
        match self.call(MetaRequest::Mutate { op: OpId(self.op), acked: OpId(self.op - 1), mutation }).await {
            MetaReply::Named(named) => named.ino,
            other => panic!("making {text} answered {other:?}"),
        }
    }

    async fn list(&self, ino: Ino) -> Vec<(String, Ino)> {
        match self.call(MetaRequest::Query(Query::ReadDir { ino, cookie: 0, limit: 1000 })).await {
            MetaReply::Entries { entries, end: true } => {
                entries.into_iter().map(|entry| (entry.name.to_string(), entry.attr.ino)).collect()
            }
            other => panic!("listing {ino} answered {other:?}"),
        }
    }

    /// Names of the root and of its directories.
    async fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (name, ino) in self.list(Ino::ROOT).await {
            if name.starts_with('d') || name == "lost+found" {
                names.extend(self.list(ino).await.into_iter().map(|(below, _)| format!("{name}/{below}")));
            }
            names.insert(name);
        }
        names
    }

    async fn close(self) {
        self.service.shutdown().await.unwrap();
        drop(self.service);
        // The standby task ends with its next look.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

/// A volume whose older half lies in tables and whose newer half in the journal; the journal of the older half is there,
/// or gone as after a long life.
async fn volume(meta: &Path, old_journal: bool) -> BTreeSet<String> {
    let engine = FjallEngine::create(meta).unwrap();
    let facts = VolumeInfo {
        uuid: Uuid([7; 16]),
        name: "test".to_owned(),
        chunk_bytes: 1 << 20,
        inline_bytes_max: 4096,
        format: FORMAT,
        created: Timestamp::from_ms(1),
        initial_servers: 1,
    };
    format_volume(&engine, &facts, Class::SINGLE).await.unwrap();
    drop(engine);
    let mut names = BTreeSet::new();
    for half in ["old", "new"] {
        let mut volume = Volume::open(meta).await.unwrap();
        let directory = volume.make(Ino::ROOT, &format!("d-{half}"), NewNode::Directory).await;
        for number in 0..FILES / 2 {
            let parent = if number % 2 == 0 { Ino::ROOT } else { directory };
            volume.make(parent, &format!("{half}-{number}"), NewNode::File).await;
        }
        names = volume.names().await;
        volume.close().await;
        if half == "old" {
            flush_for_tests(meta);
            if !old_journal {
                fs::write(meta.join("0.jnl"), b"").unwrap();
                fs::remove_file(meta.join("synced")).unwrap();
            }
        }
    }
    names
}

async fn dump(engine: &dyn Engine) -> Result<BTreeMap<RowKey, Vec<u8>>, EngineError> {
    let mut rows = BTreeMap::new();
    for table in TABLES {
        for partition in engine.partitions(table, 0, 100_000).await? {
            let range = RowRange { table, partition, from: 0, to: u64::MAX, limit: 100_000 };
            rows.extend(engine.list(range).await?);
        }
    }
    Ok(rows)
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// Everything as it was (true), or a refusal with the remedy, at the opening or of the row that cannot be read.
async fn open_whole(meta: &Path, whole: &BTreeMap<RowKey, Vec<u8>>) -> Result<bool, String> {
    let read = match FjallEngine::open(meta) {
        Ok(engine) => dump(&engine).await,
        Err(error) => Err(error),
    };
    match read {
        Ok(rows) if rows == *whole => Ok(true),
        Ok(rows) => Err(format!("opened, but {} of {} rows are there", rows.len(), whole.len())),
        Err(EngineError::Damaged(sentence)) if sentence.contains("--salvage") => Ok(false),
        Err(EngineError::Refused(sentence)) if sentence.contains("engine format") => Ok(false),
        Err(other) => Err(format!("{other:?}")),
    }
}

/// Salvages and opens; how many of `names` are there.
async fn bring_back(meta: &Path, names: &BTreeSet<String>, what: &str) -> Result<Option<usize>, String> {
    let report = match salvage(meta).await {
        Ok(report) => report,
        Err(EngineError::Damaged(sentence)) if sentence.contains("backup") => {
            println!("{what}: {sentence}");
            return Ok(None);
        }
        Err(other) => return Err(format!("{other:?}")),
    };
    let volume = Volume::open(meta).await.map_err(|error| format!("after the salvage: {error}"))?;
    let left = volume.names().await;
    volume.close().await;
    let kept = names.intersection(&left).count();
    println!("{what}: {kept} of {} names; lost: {:?}", names.len(), report.lost);
    if !report.damaged.exists() || kept < names.len() && report.lost.is_empty() {
        return Err(format!("{kept} of {} names are there, and the report is {report:?}", names.len()));
    }
    Ok(Some(kept))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_any_file_is_refused_or_harmless_and_a_salvage_brings_the_rest_back() {
    let seed = std::env::var("DGFS_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x5eed_1234_u64);
    println!("DGFS_TEST_SEED={seed}");
    for old_journal in [true, false] {
        flip_bits(&mut Rng(seed), old_journal).await;
    }
}

async fn flip_bits(rng: &mut Rng, old_journal: bool) {
    let dir = TestDir::new("salvage");
    let pristine = dir.path().join("pristine");
    let names = volume(&pristine, old_journal).await;
    assert_eq!(names.len(), FILES + 2);
    let whole = dump(&FjallEngine::open(&pristine).unwrap()).await.unwrap();
    let (mut harmless, mut wrong) = (0, Vec::new());
    let mut brought = BTreeMap::new();
    for file in files_below(&pristine) {
        let used = fs::read(&file).unwrap().iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let name = file.strip_prefix(&pristine).unwrap().display().to_string();
        for round in 0..if used > 10_000 { 8 } else { usize::from(used > 0) * 3 } {
            let meta = dir.path().join(format!("{}-{round}", name.replace('/', "-"))).join("meta");
            copy(&pristine, &meta);
            let (at, bit) = (rng.below(used), rng.below(8));
            let mut bytes = fs::read(meta.join(&name)).unwrap();
            bytes[at] ^= 1 << bit;
            fs::write(meta.join(&name), bytes).unwrap();
            let what = format!("byte {at} of {used}, bit {bit} of {name}");
            match open_whole(&meta, &whole).await {
                Ok(true) => harmless += 1,
                Ok(false) => match bring_back(&meta, &names, &what).await {
                    Ok(kept) => brought.entry(name.clone()).or_insert_with(Vec::new).push(kept),
                    Err(why) => wrong.push(format!("{what}: {why}")),
                },
                Err(why) => wrong.push(format!("{what}: {why}")),
            }
        }
    }
    println!("{harmless} flips were harmless; names kept by file: {brought:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (name, kept) in brought.iter().filter(|(name, _)| name.ends_with("jnl")) {
        // One batch is lost, with a name; that of a directory takes those below it to lost+found.
        assert!(
            kept.iter().all(|kept| kept.is_some_and(|kept| kept + FILES / 4 + 2 >= names.len())),
            "{name}: {kept:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_is_cut_short_or_missing_is_refused() {
    let dir = TestDir::new("salvage-cut");
    let pristine = dir.path().join("pristine");
    let names = volume(&pristine, true).await;
    let journal =
        files_below(&pristine).into_iter().rfind(|path| path.extension().is_some_and(|end| end == "jnl")).unwrap();
    let journal = journal.file_name().unwrap().to_owned();
    for keep in [0.0, 0.5, 0.9] {
        let meta = dir.path().join(format!("cut-{keep}")).join("meta");
        copy(&pristine, &meta);
        let bytes = fs::read(meta.join(&journal)).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        fs::write(meta.join(&journal), &bytes[..(used as f64 * keep) as usize]).unwrap();
        assert!(matches!(FjallEngine::open(&meta), Err(EngineError::Damaged(_))), "cut to {keep}");
        let report = salvage(&meta).await.unwrap();
        assert!(report.lost.iter().any(|sentence| sentence.contains("newest")), "{:?}", report.lost);
        let volume = Volume::open(&meta).await.unwrap();
        let left = volume.names().await;
        assert!(left.iter().filter(|name| name.starts_with("old-")).count() >= FILES / 4, "{left:?}");
        assert!(left.is_subset(&names), "{left:?}");
        volume.close().await;
    }
    let meta = dir.path().join("gone").join("meta");
    copy(&pristine, &meta);
    fs::remove_file(meta.join(&journal)).unwrap();
    let Err(EngineError::Damaged(sentence)) = FjallEngine::open(&meta) else { panic!("accepted") };
    assert!(sentence.contains("is missing"), "{sentence}");
}
