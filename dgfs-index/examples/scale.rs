//! Measures the index at a million files: `cargo run --release --example scale -p dgfs-index [FILES [JSON]]`.
//!
//! Never needs a metadata service: one that makes its answers up stands in for it. Tags are skewed as people's are: one
//! on 30 % of the files, one on 10 %, one on 2 %, and a thousand that follow Zipf's law. Always: next to each time stands the
//! processor time of the whole process, which others on the machine do not change much. `JSON` is a file for the same figures.

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
                page.tags.push((
                    id,
                    TagFacts { name, aliases: Vec::new(), implies: Vec::new(), merged_into: None, owner: 0 },
                ));
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

/// Processor time of this process so far.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that outlives the call, which only writes to it (clock_gettime(2)).
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    if failed != 0 {
        return Duration::ZERO;
    }
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// How long something took.
#[derive(Clone, Copy, Default)]
struct Took {
    wall: Duration,
    processor: Duration,
}

/// Counts from its making.
struct Watch(Instant, Duration);

impl Watch {
    fn start() -> Self {
        Self(Instant::now(), processor_time())
    }

    fn stop(&self) -> Took {
        Took { wall: self.0.elapsed(), processor: processor_time().saturating_sub(self.1) }
    }
}

/// Figures by name, said as they come.
#[derive(Default)]
struct Figures(serde_json::Map<String, serde_json::Value>);

impl Figures {
    fn note(&mut self, key: &str, value: serde_json::Value) {
        self.0.insert(key.to_owned(), value);
    }

    fn once(&mut self, key: &str, took: Took, more: &str) -> Result<(), Failure> {
        let seconds = |time: Duration| time.as_secs_f64();
        self.note(key, serde_json::json!({"wall_s": seconds(took.wall), "cpu_s": seconds(took.processor)}));
        say(&format!("{key}: {:.2?} (processor {:.2?}){more}", took.wall, took.processor))
    }

    fn many(&mut self, key: &str, took: &[Took]) -> Result<(), Failure> {
        let at = |permille: usize, of: fn(&Took) -> Duration| {
            let mut times: Vec<Duration> = took.iter().map(of).collect();
            times.sort_unstable();
            times.get(times.len() * permille / 1000).copied().unwrap_or_default()
        };
        let wall = |took: &Took| took.wall;
        let processor = |took: &Took| took.processor;
        let (median, p99) = (at(500, wall), at(990, wall));
        let (cpu_median, cpu_p99) = (at(500, processor), at(990, processor));
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        self.note(
            key,
            serde_json::json!({"p50_ms": ms(median), "p99_ms": ms(p99), "cpu_p50_ms": ms(cpu_median), "cpu_p99_ms": ms(cpu_p99)}),
        );
        say(&format!(
            "{key}: median {median:.2?}, p99 {p99:.2?} (processor: median {cpu_median:.2?}, p99 {cpu_p99:.2?})"
        ))
    }
}

struct Bench {
    channel: LocalChannel<GraphProtocol>,
}

impl Bench {
    async fn ask(&self, viewer: &Viewer, request: GraphRequest) -> Result<(Took, GraphAnswer), Failure> {
        let call =
            GraphCall { request_id: 0, viewer: viewer.clone(), deadline_ms: 5000, at_least: Some(Seq(0)), request };
        let watch = Watch::start();
        let (reply, _) = self.channel.call(call, Bytes::new(), None).await?;
        let took = watch.stop();
        match reply.answer {
            GraphAnswer::Refused(status) => Err(format!("refused: {status}").into()),
            answer => Ok((took, answer)),
        }
    }

    /// Median and 99th percentile over many questions, each another one so that no cache answers.
    async fn many(
        &self,
        (figures, what): (&mut Figures, &str),
        viewer: &Viewer,
        request: impl Fn(usize) -> Result<GraphRequest, Failure>,
    ) -> Result<(), Failure> {
        let mut took = Vec::new();
        for round in 0..ROUNDS {
            took.push(self.ask(viewer, request(round)?).await?.0);
        }
        figures.many(what, &took)
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

async fn questions(bench: &Bench, figures: &mut Figures) -> Result<(), Failure> {
    let root = Viewer::root();
    let user = Viewer { uid: 7, gids: vec![100] };
    let three = |round: usize| format!("tag1 and tag2 and not tag{}", 40 + round);
    let rare = |round: usize| format!("tag1 and tag2 and tag3 and not tag{}", 40 + round);
    let large = |round: usize| format!("tag1 and not tag{}", 40 + round);
    bench.many((figures, "3 tags, first page"), &root, |round| search(&rare(round))).await?;
    bench.many((figures, "3 tags, first page, as a user"), &user, |round| search(&rare(round))).await?;
    bench.many((figures, "30 % and 10 %, first page"), &root, |round| search(&three(round))).await?;
    bench.many((figures, "30 %, first page"), &root, |round| search(&large(round))).await?;
    bench.many((figures, "30 %, first page, as a user"), &user, |round| search(&large(round))).await?;
    bench
        .many((figures, "count of 30 % and 10 %"), &root, |round| Ok(GraphRequest::Count(sought(&three(round))?)))
        .await?;
    let facets = |text: String| -> Result<GraphRequest, Failure> {
        Ok(GraphRequest::Facets { sought: sought(&text)?, prefix: String::new(), limit: 10_000 })
    };
    bench.many((figures, "facets of 30 %"), &root, |round| facets(large(round))).await?;
    bench.many((figures, "facets of 3 tags"), &root, |round| facets(rare(round))).await?;
    for (what, viewer, text) in [
        ("size range over everything", &root, "size=10M..11M"),
        ("name glob over everything", &root, "name:*77*.pdf"),
        ("everything, first page", &root, "@all"),
        ("everything, first page, as a user", &user, "@all"),
    ] {
        let (took, answer) = bench.ask(viewer, search(text)?).await?;
        let hits = match answer {
            GraphAnswer::Hits { hits, .. } => hits.len(),
            _ => 0,
        };
        figures.once(what, took, &format!(", page of {hits}"))?;
    }
    let (took, _) = bench.ask(&root, GraphRequest::Top { scope: Ino::ROOT }).await?;
    figures.once("top of all tags", took, "")?;
    all_pages(bench, figures).await
}

/// A large tag listed to its end, as `ls` does.
async fn all_pages(bench: &Bench, figures: &mut Figures) -> Result<(), Failure> {
    let (root, watch) = (Viewer::root(), Watch::start());
    let (mut after, mut seen) = (None, 0);
    loop {
        let request = GraphRequest::Search { sought: sought("tag1")?, after, limit: 1024 };
        let GraphAnswer::Hits { hits, end, .. } = bench.ask(&root, request).await?.1 else { break };
        seen += hits.len();
        after = hits.last().map(|hit| hit.ino);
        if end || hits.is_empty() {
            break;
        }
    }
    figures.once("30 %, all pages", watch.stop(), &format!(", {seen} entries"))
}

fn tag_changes(index: &Index, files: u64, figures: &mut Figures) -> Result<(), Failure> {
    const CHANGES: u64 = 100_000;
    const BATCH: u64 = 1000;
    let watch = Watch::start();
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
    let took = watch.stop();
    let rate = |time: Duration| CHANGES as f64 / time.as_secs_f64();
    let more = format!(", {:.0}/s ({:.0}/s of processor time)", rate(took.wall), rate(took.processor));
    figures.note("tag changes per second", rate(took.wall).round().into());
    figures.once(&format!("{CHANGES} tag changes in batches of {BATCH}"), took, &more)
}

fn note_built(index: &Index, took: Took, figures: &mut Figures) -> Result<(), Failure> {
    let status = index.status();
    let million = status.inodes as f64 / 1e6;
    let per_million = (status.memory_bytes >> 20) as f64 / million.max(f64::MIN_POSITIVE);
    let more = format!(
        ", {:.0} inodes/s; {} inodes, {} tags, {} edges; memory {} MiB counted, {} MiB resident; {} MiB on disk",
        status.inodes as f64 / took.wall.as_secs_f64(),
        status.inodes,
        status.tags,
        status.edges,
        status.memory_bytes >> 20,
        resident_mib(),
        status.disk_bytes >> 20
    );
    figures.note("inodes", status.inodes.into());
    figures.note("memory MiB per million files", per_million.round().into());
    figures.note("resident MiB", resident_mib().into());
    figures.note("disk MiB", (status.disk_bytes >> 20).into());
    figures.once("rebuild", took, &more)
}

async fn measure(files: u64, dir: PathBuf, figures: &mut Figures) -> Result<(), Failure> {
    let volume = Arc::new(Volume { directories: files.div_ceil(PER_DIRECTORY), files });
    let handler: Arc<dyn Handler<MetaProtocol>> = volume.clone();
    let meta = MetaLink::new(vec![Arc::new(LocalChannel::new(handler, Role::Index))], "bench");
    let index = Index::open(&dir)?;
    let shutdown = Shutdown::new();
    let watch = Watch::start();
    let mut applied = index.subscribe();
    let follower = tokio::spawn(follow(index.clone(), meta.clone(), shutdown.clone()));
    applied.changed().await?;
    note_built(&index, watch.stop(), figures)?;
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
    questions(&bench, figures).await?;
    shutdown.ask();
    follower.await?;
    tag_changes(&index, files, figures)?;
    drop((bench, index));
    let watch = Watch::start();
    let index = Index::open(&dir)?;
    figures.once("opened again", watch.stop(), &format!(", {} MiB resident", resident_mib()))?;
    drop(index);
    Ok(())
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let files = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let dir = std::env::temp_dir().join(format!("dgfs-index-scale-{}", std::process::id()));
    let runtime = dgfs_runtime::lifecycle::build_runtime("scale", 2)?;
    let mut figures = Figures::default();
    let measured = runtime.block_on(measure(files, dir.clone(), &mut figures));
    std::fs::remove_dir_all(&dir)?;
    if let Some(path) = arguments.next() {
        std::fs::write(path, serde_json::to_vec_pretty(&figures.0)?)?;
    }
    measured
}
