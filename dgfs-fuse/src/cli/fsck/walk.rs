//! From the metadata to the chunks: every version a file names is read on its servers.
//!
//! Never holds more than a page of inodes; what it keeps are the names of versions.

use std::collections::BTreeSet;

use dgfs_proto::chunk::{ChunkRef, ChunkReply, ChunkRequest, VersionId};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::CHUNK_PAGE_MAX;
use dgfs_proto::map::ClusterMap;
use dgfs_proto::meta::{Content, InodeChunks, MetaReply, MetaRequest, Query};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;

use super::Findings;
use crate::cli::Failure;
use crate::volume::VolumeLink;

/// Inodes asked for at once.
const PAGE: u32 = 512;

/// Reads every chunk of every file; the versions they name.
pub(super) async fn check_files(
    link: &VolumeLink,
    map: &ClusterMap,
    findings: &mut Findings,
) -> Result<BTreeSet<VersionId>, Failure> {
    let mut walk = Walk { link, map, chunk_bytes: chunk_bytes(link).await?, named: BTreeSet::new(), findings };
    let mut after = None;
    loop {
        let page = link.inodes(after, PAGE).await.map_err(Failure::new)?;
        let Some(last) = page.last() else { break };
        after = Some(last.attr.ino);
        for inode in &page {
            walk.inode(inode).await?;
        }
    }
    Ok(walk.named)
}

async fn chunk_bytes(link: &VolumeLink) -> Result<u64, Failure> {
    match link.ask(MetaRequest::Volume).await.map_err(Failure::new)? {
        MetaReply::Volume(volume) => Ok(u64::from(volume.chunk_bytes)),
        _ => Err(Failure::new("the metadata service does not tell its volume")),
    }
}

struct Walk<'a> {
    link: &'a VolumeLink,
    map: &'a ClusterMap,
    chunk_bytes: u64,
    named: BTreeSet<VersionId>,
    findings: &'a mut Findings,
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
        let (link, map) = (self.link, self.map);
        self.findings.chunks += 1;
        let id = VersionId { chunk: chunk.chunk, version: chunk.version };
        self.named.insert(id);
        let servers = map.replicas(chunk.chunk.partition());
        if servers.is_empty() {
            self.report(ino, index, chunk, "no storage server is assigned to it").await?;
        }
        for id_of_server in servers {
            let Some(server) = map.server(*id_of_server) else {
                self.report(ino, index, chunk, &format!("storage server {id_of_server} is not known")).await?;
                continue;
            };
            let answer = link.ask_store(server, map.epoch, ChunkRequest::Verify(id)).await.map_err(Failure::new)?;
            let ChunkReply::Refused(status) = answer else { continue };
            // A running cluster goes on writing: the file may have moved on since its page was read.
            if !self.moved_on(ino, index, chunk).await? {
                let what = if status == Status::NoVersion { "missing".to_owned() } else { status.to_string() };
                self.report(ino, index, chunk, &format!("{what} on {}", server.label)).await?;
            }
        }
        Ok(())
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
