//! From the chunks to the metadata: versions that no file names, counted and, when asked, removed.
//!
//! Never decides that a version is dead: meta does, asked again about each, and what it saw is made durable before anything
//! is dropped. Writes under way are therefore safe also on a running cluster.

use std::collections::BTreeSet;

use dgfs_proto::chunk::{ChunkReply, ChunkRequest, HeldVersion, VersionId};
use dgfs_proto::limits::LIST_MAX;
use dgfs_proto::map::{ClusterMap, ServerInfo};
use dgfs_proto::meta::{LiveQuery, MetaReply, MetaRequest, ServerRequest};

use super::Findings;
use crate::cli::Failure;
use crate::volume::VolumeLink;

/// Questions in one call.
const QUESTIONS_MAX: usize = 256;

/// Goes through what every storage server holds.
pub(super) async fn check_stores(
    link: &VolumeLink,
    map: &ClusterMap,
    named: &BTreeSet<VersionId>,
    repair: bool,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let limit = u32::try_from(LIST_MAX).unwrap_or(u32::MAX);
    for server in map.servers.iter().filter(|server| server.up) {
        let mut after = None;
        loop {
            let answer = link.ask_store(server, map.epoch, ChunkRequest::List { after, until: None, limit }).await;
            let page = match answer.map_err(Failure::new)? {
                ChunkReply::Held(page) => page,
                _ => return Err(Failure::new(format!("{} does not list its versions", server.label))),
            };
            let unnamed: Vec<HeldVersion> =
                page.iter().filter(|held| !named.contains(&whole(held.id))).copied().collect();
            findings.unnamed += unnamed.len() as u64;
            if repair {
                for some in unnamed.chunks(QUESTIONS_MAX) {
                    findings.removed += remove_dead(link, map, server, some).await?;
                }
            }
            match page.last() {
                Some(last) if page.len() == LIST_MAX => after = Some(last.id),
                Some(_) | None => break,
            }
        }
    }
    Ok(())
}

/// What metadata call a version of which this may be a shard.
fn whole(id: VersionId) -> VersionId {
    VersionId { chunk: id.chunk.whole(), version: id.version }
}

async fn remove_dead(
    link: &VolumeLink,
    map: &ClusterMap,
    server: &ServerInfo,
    held: &[HeldVersion],
) -> Result<u64, Failure> {
    let questions = held.iter().map(|held| LiveQuery { id: held.id, owner: held.owner, index: held.index }).collect();
    let asked = link.ask(MetaRequest::Server(ServerRequest::CheckLive(questions))).await.map_err(Failure::new)?;
    let live = match asked {
        MetaReply::Live(live) if live.len() == held.len() => live,
        _ => return Err(Failure::new("the metadata service does not say which versions are in use")),
    };
    let dead: Vec<VersionId> = held.iter().zip(live).filter(|(_, live)| !live).map(|(held, _)| held.id).collect();
    if dead.is_empty() {
        return Ok(0);
    }
    // After a power cut metadata must not go back to a version that is dropped here.
    let _synced = link.ask(MetaRequest::Sync).await.map_err(Failure::new)?;
    let count = dead.len() as u64;
    match link.ask_store(server, map.epoch, ChunkRequest::Drop(dead)).await.map_err(Failure::new)? {
        ChunkReply::Done => Ok(count),
        ChunkReply::Refused(status) => Err(Failure::new(format!("{} does not drop versions: {status}", server.label))),
        _ => Err(Failure::new(format!("{} answered something else", server.label))),
    }
}
