//! Measures the index at a million files: `cargo run --release --example scale -p dgfs-index [FILES]`.
//!
//! Never needs a metadata service: one that makes its answers up stands in for it. Tags are skewed as people's are: one
//! on 30 % of the files, one on 10 %, one on 2 %, and a thousand that follow Zipf's law.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use dgfs_index::follower::follow;
use dgfs_index::index::Index;
use dgfs_index::meta_link::MetaLink;
use dgfs_index::metrics::register;
use dgfs_index::service::{IndexService, ServiceParts};
use dgfs_proto::attr::{FileKind, Timestamp};
use dgfs_proto::graph::request::Sought;
use dgfs_proto::graph::{Catalogue, GraphAnswer, GraphCall, GraphNode, GraphRequest, NodeFacts, TagFacts, Viewer};
use dgfs_proto::ids::{Ino, Seq, TagId};
use dgfs_proto::log::{Change, Event};
use dgfs_proto::meta::{AdminRequest, MetaCall, MetaReply, MetaRequest};
use dgfs_proto::name::Name;
use dgfs_proto::query::expr::parse_expr;
use dgfs_proto::query::{Context, Query};
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;
use dgfs_runtime::channel::{Channel, GraphProtocol, Handler, LocalChannel, MetaProtocol, Peer, Role};
use dgfs_runtime::clock::Clock;
use dgfs_runtime::lifecycle::Shutdown;
use dgfs_runtime::metrics::MetricSet;

type Failure = Box<dyn std::error::Error>;

/// Tags beside the three large ones.
const TAIL: u64 = 1000;
/// Files of one directory.
const PER_DIRECTORY: u64 = 500;
const ROUNDS: usize = 400;

/// Spreads numbers (SplitMix64's last step).
fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn inode(number: u64) -> Ino {
    Ino::new(number.max(1)).unwrap_or(Ino::ROOT)
}

fn label(text: &str) -> Result<Tag, Failure> {
    Tag::parse(text).map_err(|error| error.to_string().into())
}

/// A volume made up: the root, directories behind it, files behind those.
struct Volume {
    directories: u64,
    files: u64,
}

impl Volume {
    fn kind(&self, ino: u64) -> FileKind {
        if ino <= 1 + self.directories { FileKind::Directory } else { FileKind::File }
    }

    fn tags(&self, ino: u64) -> Vec<TagId> {
        if self.kind(ino) == FileKind::Directory {
            return Vec::new();
        }
        let chance = mix(ino);
        let mut ids = Vec::new();
        for (id, percent) in [(1, 30), (2, 10), (3, 2)] {
            if (chance >> (id * 8)) % 100 < percent {
                ids.push(id);
            }
        }
        // Zipf: half as many of the second as of the first.
        let share = (chance >> 33) as f64 / f64::from(1u32 << 31);
        ids.push(3 + ((TAIL as f64 + 1.0).powf(share) as u64).clamp(1, TAIL));
        ids.into_iter().filter_map(TagId::new).collect()
    }

    fn node(&self, ino: u64) -> GraphNode {
        let kind = self.kind(ino);
        let at = Timestamp { secs: 1_500_000_000 + (mix(ino) % 200_000_000).cast_signed(), nanos: 0 };
        let (parent, text) = match kind {
            FileKind::Directory => (Ino::ROOT, format!("directory-{ino}")),
            _ => {
                let ext = ["jpg", "png", "txt", "pdf"].get((mix(ino) % 5) as usize).unwrap_or(&"rs");
                (inode(2 + (ino - 2 - self.directories) / PER_DIRECTORY), format!("file-number-{ino}.{ext}"))
            }
        };
        let names = match Name::new(text.as_bytes()) {
            Ok(name) if ino > 1 => vec![(parent, name)],
            _ => Vec::new(),
        };
        let facts = NodeFacts {
            ino: inode(ino),
            kind,
            mode: if kind == FileKind::Directory { 0o755 } else { 0o644 },
            uid: (mix(ino) % 20) as u32,
            gid: 100,
            nlink: 1,
            size: mix(ino) % (64 << 20),
            mtime: at,
            ctime: at,
            btime: at,
            data_version: 1,
        };
        let tags = self.tags(ino);
        GraphNode { facts, names, xattrs: Vec::new(), tags, vetoes: Vec::new(), related: Vec::new() }
    }

    fn last(&self) -> u64 {
        1 + self.directories + self.files
    }

    fn catalogue(&self, after: Option<TagId>) -> Catalogue {
        let mut page = Catalogue::default();
        for number in after.map_or(1, |after| after.get() + 1)..=3 + TAIL {
            if let (Some(id), Ok(name)) = (TagId::new(number), label(&format!("tag{number}"))) {
                page.tags.push((id, TagFacts { name, aliases: Vec::new(), implies: Vec::new(), merged_into: None }));
            }
        }
        page
    }
}

impl Handler<MetaProtocol> for Volume {
    fn handle(self: Arc<Self>, _: Arc<Peer>, call: MetaCall, _: Bytes) -> BoxFuture<'static, (MetaReply, Bytes)> {
        Box::pin(async move {
            let reply = match call.request {
                MetaRequest::Admin(AdminRequest::Log { wait, .. }) => {
                    if wait {
                        std::future::pending::<()>().await;
                    }
                    MetaReply::Log { events: Vec::new(), head: Seq(0) }
                }
                MetaRequest::Admin(AdminRequest::Graph { after, limit }) => {
                    let first = after.map_or(1, |after| after.get() + 1);
                    let last = self.last().min(first + u64::from(limit) - 1);
                    MetaReply::Graph((first..=last).map(|ino| self.node(ino)).collect())
                }
                MetaRequest::Admin(AdminRequest::Catalogue { after, .. }) => {
                    MetaReply::Catalogue(self.catalogue(after))
                }
                _ => MetaReply::Refused(Status::NotSupported),
            };
            (reply, Bytes::new())
        })
    }
}

struct Bench {
    channel: LocalChannel<GraphProtocol>,
}

impl Bench {
    async fn ask(&self, viewer: &Viewer, request: GraphRequest) -> Result<(Duration, GraphAnswer), Failure> {
        let call =
            GraphCall { request_id: 0, viewer: viewer.clone(), deadline_ms: 5000, at_least: Some(Seq(0)), request };
        let began = Instant::now();
        let (reply, _) = self.channel.call(call, Bytes::new(), None).await?;
        match reply.answer {
            GraphAnswer::Refused(status) => Err(format!("refused: {status}").into()),
            answer => Ok((began.elapsed(), answer)),
        }
    }

    /// Median and 99th percentile over many questions, each another one so that no cache answers.
    async fn many(
        &self,
        what: &str,
        viewer: &Viewer,
        request: impl Fn(usize) -> Result<GraphRequest, Failure>,
    ) -> Result<(), Failure> {
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            times.push(self.ask(viewer, request(round)?).await?.0);
        }
        times.sort_unstable();
        let at = |permille: usize| times.get(times.len() * permille / 1000).copied().unwrap_or_default();
        say(&format!("{what}: median {:.2?}, p99 {:.2?}", at(500), at(990)))
    }
}

fn say(line: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

fn query(text: &str) -> Result<Query, Failure> {
    parse_expr(text, &Context::default()).map_err(|error| error.to_string().into())
}

fn sought(text: &str) -> Result<Sought, Failure> {
    Ok(Sought { scope: Ino::ROOT, query: query(text)? })
}

fn search(text: &str) -> Result<GraphRequest, Failure> {
    Ok(GraphRequest::Search { sought: sought(text)?, after: None, limit: 1024 })
}

/// Resident memory of this process in MiB.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

async fn questions(bench: &Bench) -> Result<(), Failure> {
    let root = Viewer::root();
    let user = Viewer { uid: 7, gids: vec![100] };
    let three = |round: usize| format!("tag1 and tag2 and not tag{}", 40 + round);
    let rare = |round: usize| format!("tag1 and tag2 and tag3 and not tag{}", 40 + round);
    bench.many("3 tags (rarest 2 %), first page", &root, |round| search(&rare(round))).await?;
    bench.many("30 % and 10 %, first page of 1,024", &root, |round| search(&three(round))).await?;
    bench.many("3 tags as a user", &user, |round| search(&rare(round))).await?;
    bench.many("count of 30 % and 10 %", &root, |round| Ok(GraphRequest::Count(sought(&three(round))?))).await?;
    let facets = |text: String| -> Result<GraphRequest, Failure> {
        Ok(GraphRequest::Facets { sought: sought(&text)?, prefix: String::new(), limit: 10_000 })
    };
    bench.many("facets of the 30 % tag", &root, |round| facets(format!("tag1 and not tag{}", 40 + round))).await?;
    bench.many("facets of 3 tags", &root, |round| facets(rare(round))).await?;
    for (what, viewer, text) in [
        ("size range over everything", &root, "size=10M..11M"),
        ("name glob over everything", &root, "name:*77*.pdf"),
        ("30 % tag, first page", &root, "tag1"),
        ("30 % tag, first page, as a user", &user, "tag1"),
        ("everything, first page, as a user", &user, "@all"),
    ] {
        let (took, answer) = bench.ask(viewer, search(text)?).await?;
        let hits = match answer {
            GraphAnswer::Hits { hits, .. } => hits.len(),
            _ => 0,
        };
        say(&format!("{what}: {took:.2?} (once), page of {hits}"))?;
    }
    let (took, _) = bench.ask(&root, GraphRequest::Top { scope: Ino::ROOT }).await?;
    say(&format!("top of all tags: {took:.2?}"))
}

fn tag_changes(index: &Index, files: u64) -> Result<(), Failure> {
    const CHANGES: u64 = 100_000;
    const BATCH: u64 = 1000;
    let began = Instant::now();
    let base = index.applied().seq.0;
    for batch in 0..CHANGES / BATCH {
        let event = |number: u64| {
            let seq = Seq(base + batch * BATCH + number + 1);
            let ino = inode(10_000 + mix(seq.0) % files.saturating_sub(10_000).max(1));
            let tags = [1 + mix(seq.0 + 1) % 1000, 1 + mix(seq.0 + 2) % 1000];
            let tags = vec![(ino, tags.into_iter().filter_map(TagId::new).collect())];
            let change = Change::Tagged { made: Vec::new(), tags, vetoes: Vec::new() };
            Event { seq, at: Timestamp::default(), session: None, change, nodes: Vec::new(), continues: false }
        };
        index.apply(&(0..BATCH).map(event).collect::<Vec<_>>())?;
    }
    let took = began.elapsed();
    say(&format!("tag changes: {:.0}/s in batches of {BATCH}", CHANGES as f64 / took.as_secs_f64()))
}

async fn measure(files: u64, dir: PathBuf) -> Result<(), Failure> {
    let volume = Arc::new(Volume { directories: files.div_ceil(PER_DIRECTORY), files });
    let handler: Arc<dyn Handler<MetaProtocol>> = volume.clone();
    let meta = MetaLink::new(vec![Arc::new(LocalChannel::new(handler, Role::Index))], "bench");
    let index = Index::open(&dir)?;
    let shutdown = Shutdown::new();
    let began = Instant::now();
    let mut applied = index.subscribe();
    let follower = tokio::spawn(follow(index.clone(), meta.clone(), shutdown.clone()));
    applied.changed().await?;
    let took = began.elapsed();
    let status = index.status();
    say(&format!(
        "built: {took:.1?}, {:.0} inodes/s; {} inodes, {} tags, {} edges; memory {} MiB counted, {} MiB resident; {} MiB on disk",
        volume.last() as f64 / took.as_secs_f64(),
        status.inodes,
        status.tags,
        status.edges,
        status.memory_bytes >> 20,
        resident_mib(),
        status.disk_bytes >> 20
    ))?;
    let parts = ServiceParts {
        index: index.clone(),
        meta,
        clock: Clock::real(),
        numbers: register(&MetricSet::new(), &index),
        cypher: None,
        taggers: None,
        tagger_versions: Vec::new(),
    };
    let bench = Bench { channel: LocalChannel::new(IndexService::new(parts), Role::Client) };
    questions(&bench).await?;
    shutdown.ask();
    follower.await?;
    tag_changes(&index, files)?;
    drop((bench, index));
    let began = Instant::now();
    let index = Index::open(&dir)?;
    say(&format!("opened again: {:.1?}; {} MiB resident", began.elapsed(), resident_mib()))?;
    drop(index);
    Ok(())
}

fn main() -> Result<(), Failure> {
    let files = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let dir = std::env::temp_dir().join(format!("dgfs-index-scale-{}", std::process::id()));
    let runtime = dgfs_runtime::lifecycle::build_runtime("scale", 2)?;
    let measured = runtime.block_on(measure(files, dir.clone()));
    std::fs::remove_dir_all(&dir)?;
    measured
}
