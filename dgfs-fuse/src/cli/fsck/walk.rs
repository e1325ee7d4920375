//! From the metadata to the chunks: every version a file names is read on its servers.
//!
//! Never holds more than a page of inodes; what it keeps are the names of versions.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::time::Duration;

use dgfs_proto::chunk::{ChunkRef, ChunkReply, ChunkRequest, VersionId};
use dgfs_proto::class::Shape;
use dgfs_proto::ids::{Ino, ServerId};
use dgfs_proto::limits::CHUNK_PAGE_MAX;
use dgfs_proto::map::{ClusterMap, Placement};
use dgfs_proto::meta::{Content, InodeChunks, MetaReply, MetaRequest, Query};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;

use super::Findings;
use crate::cli::Failure;
use crate::volume::VolumeLink;

/// Inodes asked for at once.
const PAGE: u32 = 512;
/// How long a server may take to fetch a good copy, and how often it is looked at.
const MENDED: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(50);

/// Reads every chunk of every file; the versions they name.
pub(super) async fn check_files(
    link: &VolumeLink,
    map: &ClusterMap,
    repair: bool,
    findings: &mut Findings,
) -> Result<BTreeSet<VersionId>, Failure> {
    let chunk_bytes = chunk_bytes(link).await?;
    let mut walk = Walk { link, map, chunk_bytes, named: BTreeSet::new(), repair, findings };
    let mut progress = Progress::of(link).await;
    let mut after = None;
    loop {
        let page = link.inodes(after, PAGE).await.map_err(Failure::new)?;
        let Some(last) = page.last() else { break };
        after = Some(last.attr.ino);
        for inode in &page {
            walk.inode(inode).await?;
        }
        progress.show(walk.findings.inodes);
    }
    progress.end();
    Ok(walk.named)
}

async fn chunk_bytes(link: &VolumeLink) -> Result<u64, Failure> {
    match link.ask(MetaRequest::Volume).await.map_err(Failure::new)? {
        MetaReply::Volume(volume) => Ok(u64::from(volume.chunk_bytes)),
        _ => Err(Failure::new("the metadata service does not tell its volume")),
    }
}

/// How far it is, on a terminal.
struct Progress {
    all: u64,
    shown: bool,
}

impl Progress {
    async fn of(link: &VolumeLink) -> Self {
        let shown = std::io::stderr().is_terminal();
        let all = if shown { link.status().await.map_or(0, |status| status.usage.inodes) } else { 0 };
        Self { all, shown }
    }

    fn show(&self, done: u64) {
        if self.shown {
            let permille = done.saturating_mul(1000) / self.all.max(done).max(1);
            let bar = "#".repeat((permille / 50) as usize);
            eprint!("\r[{bar:<20}] {done} of {} inodes", self.all.max(done));
        }
    }

    fn end(&mut self) {
        if self.shown {
            eprintln!();
        }
    }
}

struct Walk<'a> {
    link: &'a VolumeLink,
    map: &'a ClusterMap,
    chunk_bytes: u64,
    named: BTreeSet<VersionId>,
    repair: bool,
    findings: &'a mut Findings,
}

/// What became of looking at one chunk everywhere.
struct Looked {
    /// Copies or shards that are there and sound.
    good: usize,
    bad: Vec<Bad>,
}

/// A copy or shard that is missing or damaged.
struct Bad {
    server: ServerId,
    label: String,
    id: VersionId,
    what: String,
}

impl Walk<'_> {
    async fn inode(&mut self, inode: &InodeChunks) -> Result<(), Failure> {
        self.findings.inodes += 1;
        let ino = inode.attr.ino;
        for (index, chunk) in &inode.chunks {
            self.chunk(ino, *index, chunk).await?;
        }
        // The page of inodes brings the first slots of each file only.
        let mut first = u64::from(CHUNK_PAGE_MAX);
        while first.saturating_mul(self.chunk_bytes) < inode.attr.size {
            let MetaReply::NextChunk(Some((next, _))) = self.query(Query::NextChunk { ino, first }).await? else {
                break;
            };
            let content = self.query(Query::Content { ino, first: next, count: CHUNK_PAGE_MAX }).await?;
            let MetaReply::Opened { content: Content::Slots { slots, .. }, .. } = content else { break };
            for (index, chunk) in (next..).zip(slots) {
                if let Some(chunk) = chunk {
                    self.chunk(ino, index, &chunk).await?;
                }
            }
            first = next.saturating_add(u64::from(CHUNK_PAGE_MAX));
        }
        Ok(())
    }

    /// A question about an inode, which may have gone meanwhile.
    async fn query(&self, query: Query) -> Result<MetaReply, Failure> {
        self.link.ask(MetaRequest::Query(query)).await.or_else(|error| {
            let gone = error.ends_with(&Status::NotFound.to_string());
            if gone { Ok(MetaReply::Done) } else { Err(Failure::new(error)) }
        })
    }

    async fn chunk(&mut self, ino: Ino, index: u64, chunk: &ChunkRef) -> Result<(), Failure> {
        self.findings.chunks += 1;
        self.named.insert(VersionId { chunk: chunk.chunk, version: chunk.version });
        let Some(placement) = self.map.placement(chunk.chunk).filter(|placement| !placement.members.is_empty()) else {
            return self.report(ino, index, chunk, "no storage server is assigned to it").await;
        };
        let looked = self.look_at(placement, chunk).await?;
        let needed = match chunk.chunk.class().shape() {
            Shape::Replicated(_) => 1,
            Shape::Coded { data, .. } => usize::from(data),
        };
        let bad = looked.bad;
        if bad.is_empty() && looked.good >= needed {
            return Ok(());
        }
        // A running cluster goes on writing: the file may have moved on since its page was read.
        if self.moved_on(ino, index, chunk).await? {
            return Ok(());
        }
        if looked.good < needed {
            let words: Vec<String> = bad.iter().map(|bad| format!("{} on {}", bad.what, bad.label)).collect();
            let words = if words.is_empty() { "no server that has it answers".to_owned() } else { words.join(", ") };
            return self.report(ino, index, chunk, &words).await;
        }
        for bad in bad {
            self.findings.degraded += 1;
            if self.repair && self.mend(&bad).await? {
                self.findings.repaired += 1;
            }
        }
        Ok(())
    }

    /// Has every copy or shard read where it is meant to be.
    async fn look_at(&self, placement: &Placement, chunk: &ChunkRef) -> Result<Looked, Failure> {
        let mut looked = Looked { good: 0, bad: Vec::new() };
        for (place, member) in (0_u8..).zip(&placement.members) {
            let server = self.map.server(member.server).filter(|server| server.up);
            let Some(server) = server else { continue };
            let id = VersionId { chunk: chunk.chunk.with_shard(place), version: chunk.version };
            let answer = self.link.ask_store(server, self.map.epoch, ChunkRequest::Verify(id)).await;
            match answer.map_err(Failure::new)? {
                ChunkReply::Refused(Status::NoVersion) if !member.full => {}
                ChunkReply::Refused(status) => {
                    let what = if status == Status::NoVersion { "missing".to_owned() } else { status.to_string() };
                    looked.bad.push(Bad { server: server.id, label: server.label.clone(), id, what });
                }
                _ => looked.good += 1,
            }
        }
        if looked.good == 0 {
            looked.good += self.good_extras(placement, chunk).await;
        }
        Ok(looked)
    }

    /// Copies that servers hold for others.
    async fn good_extras(&self, placement: &Placement, chunk: &ChunkRef) -> usize {
        let mut good = 0;
        for extra in &placement.extras {
            let Some(server) = self.map.server(extra.server).filter(|server| server.up) else { continue };
            let id = VersionId { chunk: chunk.chunk.with_shard(extra.place), version: chunk.version };
            let answer = self.link.ask_store(server, self.map.epoch, ChunkRequest::Verify(id)).await;
            good += usize::from(matches!(answer, Ok(ChunkReply::Done)));
        }
        good
    }

    /// Has a server fetch a good copy; true once it has it.
    async fn mend(&self, bad: &Bad) -> Result<bool, Failure> {
        let Some(server) = self.map.server(bad.server) else { return Ok(false) };
        let asked = self.link.ask_store(server, self.map.epoch, ChunkRequest::Repair(vec![bad.id])).await;
        let _taken = asked.map_err(Failure::new)?;
        let until = tokio::time::Instant::now() + MENDED;
        while tokio::time::Instant::now() < until {
            let answer = self.link.ask_store(server, self.map.epoch, ChunkRequest::Verify(bad.id)).await;
            if matches!(answer, Ok(ChunkReply::Done)) {
                return Ok(true);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(false)
    }

    async fn report(&mut self, ino: Ino, index: u64, chunk: &ChunkRef, what: &str) -> Result<(), Failure> {
        let path = self.path_of(ino).await?;
        let from = index.saturating_mul(self.chunk_bytes);
        let to = from.saturating_add(u64::from(chunk.len.max(1)) - 1);
        let (id, version) = (chunk.chunk, chunk.version);
        let words = format!("{path}: bytes {from} to {to} (inode {ino} chunk {id} version {version}): {what}");
        self.findings.error(words);
        self.findings.damaged(&path);
        Ok(())
    }

    /// The first of the inode's paths, for people and for `xargs`.
    async fn path_of(&self, ino: Ino) -> Result<String, Failure> {
        match self.query(Query::PathOf(ino)).await? {
            MetaReply::Path(names) if !names.is_empty() => Ok(names.iter().map(shown).collect()),
            _ => Ok(format!("(inode {ino}, no name)")),
        }
    }

    async fn moved_on(&self, ino: Ino, index: u64, chunk: &ChunkRef) -> Result<bool, Failure> {
        let content = self.query(Query::Content { ino, first: index, count: 1 }).await?;
        let MetaReply::Opened { content: Content::Slots { slots, .. }, .. } = content else { return Ok(true) };
        Ok(slots.first().copied().flatten().is_none_or(|now| now.version != chunk.version))
    }
}

/// A name behind its slash; control characters and bytes that are no text are escaped.
fn shown(name: &Name) -> String {
    let text = String::from_utf8_lossy(name.as_bytes());
    text.chars().fold("/".to_owned(), |mut shown, character| {
        if character.is_control() {
            shown.extend(character.escape_default())
        } else {
            shown.push(character)
        }
        shown
    })
}
