//! `dgfs fsck`: every chunk the metadata name must be there, whole; with `--repair`, no others.
//!
//! Never changes a file: one that lacks data is listed by its path and keeps what is left of it. Exit codes as e2fsck(8):
//! 0 clean, 1 mended, 4 errors left, 8 the check could not be done, 16 wrong usage.

mod repair;
mod salvage;
mod walk;

use serde_json::json;

use dgfs_proto::chunk::{ChunkReply, ChunkRequest};
use dgfs_proto::meta::Caller;
use dgfs_runtime::lifecycle::build_runtime;
use dgfs_runtime::telemetry::{self, LogConfig};

use crate::cli::args::FsckArgs;
use crate::cli::daemon::link_to;
use crate::cli::{Failure, paths};
use crate::embedded::Embedded;
use crate::volume::VolumeLink;

/// Findings kept in words; the rest is only counted.
const WORDS_MAX: usize = 1000;

/// What a check found.
#[derive(Debug, Default)]
struct Findings {
    inodes: u64,
    chunks: u64,
    errors: u64,
    words: Vec<String>,
    /// Paths of files that lack data, each once.
    damaged: Vec<String>,
    /// Versions on storage servers that no file names: garbage on its way, or writes not committed yet.
    unnamed: u64,
    /// How many of those were removed.
    removed: u64,
    /// Copies or shards that are missing or damaged while enough others are good.
    degraded: u64,
    /// How many of those were replaced.
    repaired: u64,
    /// Storage servers that are down: what they hold was not looked at.
    down: Vec<String>,
    /// What recovery gave up at the last start.
    given_up: Vec<String>,
    /// Writes that a crash had interrupted; no damage by themselves.
    interrupted: Vec<String>,
    /// What it mended without loss.
    mended: Vec<String>,
}

/// Runs the command; the exit code.
pub(crate) fn run(args: &FsckArgs) -> Result<u8, Failure> {
    let log = LogConfig { level: "warn".to_owned(), ..LogConfig::default() };
    telemetry::init(&log, paths::log_level().as_deref()).map_err(Failure::new)?;
    if args.salvage {
        let directory = args.data_dir.clone().map_or_else(paths::default_data_dir, Ok)?;
        return salvage::run(&directory, args.json);
    }
    let runtime = build_runtime("dgfs", 2).map_err(Failure::new)?;
    let findings = runtime.block_on(async {
        if let Some(config) = &args.config {
            return check(&link_to(config)?, args.repair).await;
        }
        let directory = args.data_dir.clone().map_or_else(paths::default_data_dir, Ok)?;
        if !directory.join("meta").exists() && !directory.join("chunks").exists() {
            return Err(Failure::new(format!("{} holds no volume", directory.display())));
        }
        let owner = Caller { uid: 0, gid: 0 };
        let volume = Embedded::open(&directory, "being checked", &paths::host(), owner).await.map_err(Failure::new)?;
        let found = check(&volume.link, args.repair).await;
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

async fn check(link: &VolumeLink, repair: bool) -> Result<Findings, Failure> {
    let map = link.map().await.map_err(Failure::new)?;
    let mut findings = Findings::default();
    let down = map.servers.iter().filter(|server| !server.up);
    findings.down = down.map(|server| format!("{} ({})", server.id, server.label)).collect();
    let named = walk::check_files(link, &map, repair, &mut findings).await?;
    for server in map.servers.iter().filter(|server| server.up) {
        if let Ok(ChunkReply::Status(status)) = link.ask_store(server, map.epoch, ChunkRequest::Status).await {
            findings.given_up.extend(status.lost);
            findings.interrupted.extend(status.interrupted);
            findings.mended.extend(status.mended);
        }
    }
    repair::check_stores(link, &map, &named, repair, &mut findings).await?;
    Ok(findings)
}

impl Findings {
    fn code(&self) -> u8 {
        let mended = !self.given_up.is_empty() || !self.mended.is_empty() || self.removed > 0 || self.repaired > 0;
        match (self.errors + self.degraded.saturating_sub(self.repaired), mended) {
            (0, false) => 0,
            (0, true) => 1,
            _ => 4,
        }
    }

    fn error(&mut self, words: String) {
        self.errors += 1;
        if self.words.len() < WORDS_MAX {
            self.words.push(words);
        }
    }

    fn damaged(&mut self, path: &str) {
        if self.damaged.last().is_none_or(|last| last != path) && self.damaged.len() < WORDS_MAX {
            self.damaged.push(path.to_owned());
        }
    }

    fn to_json(&self) -> serde_json::Value {
        json!({ "inodes": self.inodes, "chunks": self.chunks, "errors": self.errors, "findings": self.words,
                "damaged_files": self.damaged, "unnamed_versions": self.unnamed, "removed_versions": self.removed,
                "servers_down": self.down, "degraded_copies": self.degraded, "repaired_copies": self.repaired,
                "given_up_at_start": self.given_up, "interrupted_at_start": self.interrupted,
                "mended_at_start": self.mended, "clean": self.code() == 0 })
    }

    fn to_text(&self) -> String {
        let mut lines: Vec<String> = self.words.clone();
        lines.extend(self.given_up.iter().map(|lost| format!("lost when the volume was opened: {lost}")));
        lines.extend(self.interrupted.iter().map(|write| format!("given up when the volume was opened: {write}")));
        lines.extend(self.mended.iter().map(|mended| format!("mended when the volume was opened: {mended}")));
        if !self.damaged.is_empty() {
            lines.push(
                "files that lack data are left as they are: lost ranges answer EIO; restore or remove them".to_owned(),
            );
        }
        if !self.down.is_empty() {
            lines.push(format!("storage servers that are down were not looked at: {}", self.down.join(", ")));
        }
        if self.degraded > 0 {
            let remedy = if self.repaired == self.degraded { "" } else { "; --repair replaces them from good ones" };
            lines.push(format!(
                "{} copies are missing or damaged while others are good, {} of them replaced{remedy}",
                self.degraded, self.repaired
            ));
        }
        let unnamed = match (self.unnamed, self.removed) {
            (_, 0) => format!("{} versions that no file names (collected by themselves)", self.unnamed),
            (all, removed) => format!("{all} versions that no file names, {removed} of them removed"),
        };
        lines.push(format!("{} inodes, {} chunks, {} errors; {unnamed}", self.inodes, self.chunks, self.errors));
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::Findings;

    #[test]
    fn exit_codes_are_those_of_fsck() {
        let mut findings = Findings { unnamed: 3, ..Findings::default() };
        assert_eq!(findings.code(), 0, "garbage on its way is no error");
        findings.removed = 3;
        assert_eq!(findings.code(), 1);
        findings.removed = 0;
        findings.given_up.push("segment 3".to_owned());
        assert_eq!(findings.code(), 1);
        findings.error("inode 5 chunk 0: missing".to_owned());
        findings.damaged("/a");
        findings.damaged("/a");
        assert_eq!(findings.code(), 4);
        assert!(findings.to_text().contains("inode 5 chunk 0: missing"));
        assert_eq!(findings.to_json()["clean"], false);
        assert_eq!(findings.to_json()["damaged_files"].as_array().unwrap().len(), 1);
    }
}
