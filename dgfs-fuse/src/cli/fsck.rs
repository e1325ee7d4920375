//! `dgfs fsck`: every chunk the metadata names must be there, whole.
//!
//! Never repairs: what can be mended is mended when the volume opens (recovery). Exit codes as fsck(8): 0 clean,
//! 1 the opening gave something up or mended it, 4 errors left, 8 the check could not be done.

use std::collections::BTreeSet;

use serde_json::json;

use dgfs_proto::chunk::{ChunkRef, ChunkReply, ChunkRequest, VersionId};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::LIST_MAX;
use dgfs_proto::map::ClusterMap;
use dgfs_proto::meta::{Caller, InodeChunks};
use dgfs_proto::status::Status;
use dgfs_runtime::lifecycle::build_runtime;
use dgfs_runtime::telemetry::{self, LogConfig};

use crate::cli::args::FsckArgs;
use crate::cli::daemon::link_to;
use crate::cli::{Failure, paths};
use crate::embedded::Embedded;
use crate::volume::VolumeLink;

/// Inodes asked for at once.
const PAGE: u32 = 512;
/// Findings kept in words; the rest is only counted.
const WORDS_MAX: usize = 1000;

/// What a check found.
#[derive(Debug, Default)]
struct Findings {
    inodes: u64,
    chunks: u64,
    errors: u64,
    words: Vec<String>,
    /// Versions on storage servers that no file names: garbage on its way, or writes not committed yet.
    unnamed: u64,
    /// What recovery gave up at the last start.
    given_up: Vec<String>,
}

/// Runs the command; the exit code.
pub(crate) fn run(args: &FsckArgs) -> Result<u8, Failure> {
    let log = LogConfig { level: "warn".to_owned(), ..LogConfig::default() };
    telemetry::init(&log, paths::log_level().as_deref()).map_err(Failure::new)?;
    let runtime = build_runtime("dgfs", 2).map_err(Failure::new)?;
    let findings = runtime.block_on(async {
        if let Some(config) = &args.config {
            return check(&link_to(config)?).await;
        }
        let directory = args.data_dir.clone().map_or_else(paths::default_data_dir, Ok)?;
        if !directory.join("meta").exists() {
            return Err(Failure::new(format!("{} holds no volume", directory.display())));
        }
        let owner = Caller { uid: 0, gid: 0 };
        let volume = Embedded::open(&directory, "being checked", &paths::host(), owner).await.map_err(Failure::new)?;
        let found = check(&volume.link).await;
        volume.close().await.map_err(Failure::new)?;
        found
    })?;
    if args.json {
        println!("{}", findings.to_json());
    } else {
        print!("{}", findings.to_text());
    }
    Ok(findings.code())
}

impl Findings {
    fn code(&self) -> u8 {
        match (self.errors, self.given_up.is_empty()) {
            (0, true) => 0,
            (0, false) => 1,
            _ => 4,
        }
    }

    fn error(&mut self, words: String) {
        self.errors += 1;
        if self.words.len() < WORDS_MAX {
            self.words.push(words);
        }
    }

    fn to_json(&self) -> serde_json::Value {
        json!({ "inodes": self.inodes, "chunks": self.chunks, "errors": self.errors, "findings": self.words,
                "unnamed_versions": self.unnamed, "given_up_at_start": self.given_up, "clean": self.code() == 0 })
    }

    fn to_text(&self) -> String {
        let mut lines: Vec<String> = self.words.clone();
        lines.extend(self.given_up.iter().map(|lost| format!("given up when the volume was opened: {lost}")));
        lines.push(format!(
            "{} inodes, {} chunks, {} errors; {} versions that no file names (collected by themselves)",
            self.inodes, self.chunks, self.errors, self.unnamed
        ));
        lines.join("\n") + "\n"
    }
}

async fn check(link: &VolumeLink) -> Result<Findings, Failure> {
    let map = link.map().await.map_err(Failure::new)?;
    let mut findings = Findings::default();
    let mut named = BTreeSet::new();
    let mut after = None;
    loop {
        let page = link.inodes(after, PAGE).await.map_err(Failure::new)?;
        let Some(last) = page.last() else { break };
        after = Some(last.attr.ino);
        for inode in &page {
            check_inode(link, &map, inode, &mut named, &mut findings).await?;
        }
    }
    for server in &map.servers {
        if let Ok(ChunkReply::Status(status)) = link.ask_store(server, map.epoch, ChunkRequest::Status).await {
            findings.given_up.extend(status.lost);
        }
    }
    findings.unnamed = count_unnamed(link, &map, &named).await?;
    Ok(findings)
}

async fn check_inode(
    link: &VolumeLink,
    map: &ClusterMap,
    inode: &InodeChunks,
    named: &mut BTreeSet<VersionId>,
    findings: &mut Findings,
) -> Result<(), Failure> {
    findings.inodes += 1;
    for (index, chunk) in &inode.chunks {
        findings.chunks += 1;
        let id = VersionId { chunk: chunk.chunk, version: chunk.version };
        named.insert(id);
        let servers = map.replicas(chunk.chunk.partition());
        if servers.is_empty() {
            findings.error(format!("inode {} chunk {index}: no storage server is assigned to it", inode.attr.ino));
        }
        for server in servers.iter().filter_map(|id| map.server(*id)) {
            let answer = link.ask_store(server, map.epoch, ChunkRequest::Verify(id)).await.map_err(Failure::new)?;
            let ChunkReply::Refused(status) = answer else { continue };
            // A running cluster goes on writing: the file may have moved on since its page was read.
            if !moved_on(link, inode.attr.ino, *index, chunk).await? {
                let what = if status == Status::NoVersion { "missing".to_owned() } else { status.to_string() };
                let (ino, label) = (inode.attr.ino, &server.label);
                findings.error(format!(
                    "inode {ino} chunk {index} ({} version {}) on {label}: {what}",
                    id.chunk, id.version
                ));
            }
        }
    }
    Ok(())
}

async fn moved_on(link: &VolumeLink, ino: Ino, index: u64, chunk: &ChunkRef) -> Result<bool, Failure> {
    let page = link.inodes(Ino::new(ino.get() - 1), 1).await.map_err(Failure::new)?;
    let now = page.iter().find(|inode| inode.attr.ino == ino);
    let now = now.and_then(|inode| inode.chunks.iter().find(|(at, _)| *at == index));
    Ok(now.is_none_or(|(_, now)| now.version != chunk.version))
}

async fn count_unnamed(link: &VolumeLink, map: &ClusterMap, named: &BTreeSet<VersionId>) -> Result<u64, Failure> {
    let limit = u32::try_from(LIST_MAX).unwrap_or(u32::MAX);
    let mut unnamed = 0;
    for server in &map.servers {
        let mut after = None;
        loop {
            let answer = link.ask_store(server, map.epoch, ChunkRequest::List { after, limit }).await;
            let page = match answer.map_err(Failure::new)? {
                ChunkReply::Held(page) => page,
                _ => return Err(Failure::new(format!("{} does not list its versions", server.label))),
            };
            unnamed += page.iter().filter(|held| !named.contains(&held.id)).count() as u64;
            match page.last() {
                Some(last) if page.len() == LIST_MAX => after = Some(last.id),
                Some(_) | None => break,
            }
        }
    }
    Ok(unnamed)
}

#[cfg(test)]
mod tests {
    use super::Findings;

    #[test]
    fn exit_codes_are_those_of_fsck() {
        let mut findings = Findings::default();
        assert_eq!(findings.code(), 0);
        findings.given_up.push("segment 3".to_owned());
        assert_eq!(findings.code(), 1);
        findings.error("inode 5 chunk 0: missing".to_owned());
        assert_eq!(findings.code(), 4);
        assert!(findings.to_text().contains("inode 5 chunk 0: missing"));
        assert_eq!(findings.to_json()["clean"], false);
    }
}
