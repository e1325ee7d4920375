//! Pages of the truth for whoever builds the graph anew.
//!
//! Never holds up writers: rows are read as the engine has them, while they change. What a page missed, the change log tells.

use std::collections::BTreeSet;

use dgfs_proto::graph::{Catalogue, GraphNode, NodeFacts, is_kept_xattr};
use dgfs_proto::ids::{Ino, TagId};
use dgfs_proto::limits::{LIST_MAX, PAGE_BYTES_MAX, SAVED_QUERIES_MAX};
use dgfs_proto::meta::MetaReply;
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;

use crate::core::{Xattrs, kept};
use crate::engine::{RowKey, RowRange, Table};
use crate::rows::{InodeRow, Row, key};
use crate::service::active::{Active, Dead};

/// Inodes of one partition of the engine.
const INODES_PER_PARTITION: u64 = 64;
/// Partitions whose rows are loaded at once.
const PARTITIONS_AT_ONCE: usize = 16;

impl Active {
    /// Inodes behind `after`, with their names and what else the graph keeps of them.
    pub(crate) async fn graph(&self, after: Option<Ino>, limit: usize) -> Result<MetaReply, Dead> {
        let limit = limit.clamp(1, LIST_MAX);
        self.settle_pending().await?;
        let first = after.map_or(1, |ino| ino.get() + 1);
        let mut partition = first / INODES_PER_PARTITION;
        let (mut found, mut page_bytes) = (Vec::new(), 0);
        loop {
            let from = partition;
            let next = || self.engine.partitions(Table::Inode, from, PARTITIONS_AT_ONCE);
            let partitions = self.persistently("list inodes for the graph", next).await?;
            let Some(last) = partitions.last().copied() else { break };
            let rows = self.inode_rows(&partitions, first).await?;
            let Some(nodes) = self.nodes(rows).await? else { return Ok(MetaReply::Refused(Status::Corrupt)) };
            for node in nodes {
                page_bytes += weight(&node);
                found.push(node);
                if found.len() == limit || page_bytes > PAGE_BYTES_MAX {
                    return Ok(MetaReply::Graph(found));
                }
            }
            partition = last + 1;
        }
        Ok(MetaReply::Graph(found))
    }

    async fn inode_rows(&self, partitions: &[u64], first: u64) -> Result<Vec<(RowKey, Vec<u8>)>, Dead> {
        let mut rows = Vec::new();
        for partition in partitions {
            let limit = INODES_PER_PARTITION as usize;
            let range = RowRange { table: Table::Inode, partition: *partition, from: first, to: u64::MAX, limit };
            rows.extend(self.persistently("list inodes for the graph", || self.engine.list(range)).await?);
        }
        Ok(rows)
    }

    /// Names and extended attributes beside inodes; none when a row makes no sense.
    async fn nodes(&self, rows: Vec<(RowKey, Vec<u8>)>) -> Result<Option<Vec<GraphNode>>, Dead> {
        let mut inodes: Vec<InodeRow> = Vec::with_capacity(rows.len());
        for (key, bytes) in rows {
            match Row::decode(key, &bytes) {
                Ok(Row::Inode(row)) => inodes.push(row),
                Ok(_) | Err(_) => return Ok(None),
            }
        }
        // Of each inode its extended attributes, then the buckets of its names.
        let keys: Vec<RowKey> = inodes
            .iter()
            .flat_map(|row| {
                let names = row.links.iter().map(|link| key::dentry(link.parent, link.cookie >> 8));
                std::iter::once(key::xattr(row.attr.ino)).chain(names)
            })
            .collect();
        let loaded = self.persistently("load names for the graph", || self.engine.load(keys.clone())).await?;
        let mut beside = keys.into_iter().zip(loaded);
        let mut nodes = Vec::with_capacity(inodes.len());
        for row in inodes {
            let own: Vec<_> = beside.by_ref().take(1 + row.links.len()).collect();
            match node(&row, own) {
                Ok(node) => nodes.push(node),
                Err(_) => return Ok(None),
            }
        }
        self.leave_out_the_dead(&mut nodes).await?;
        Ok(Some(nodes))
    }

    /// Tags that were deleted, and relations to inodes that were, stay in the rows of those who had them. Whoever follows the
    /// log has forgotten them.
    async fn leave_out_the_dead(&self, nodes: &mut [GraphNode]) -> Result<(), Dead> {
        let tags = nodes.iter().flat_map(|node| node.tags.iter().map(|tag| key::tag(*tag)));
        let related = nodes.iter().flat_map(|node| node.related.iter().map(|(_, to)| key::inode(*to)));
        let keys: BTreeSet<RowKey> = tags.chain(related).collect();
        let keys: Vec<RowKey> = keys.into_iter().collect();
        let mut dead = BTreeSet::new();
        for part in keys.chunks(LIST_MAX) {
            let load = || self.engine.load(part.to_vec());
            let rows = self.persistently("load tags and relations for the graph", load).await?;
            dead.extend(part.iter().zip(rows).filter(|(_, row)| row.is_none()).map(|(key, _)| *key));
        }
        if dead.is_empty() {
            return Ok(());
        }
        for node in nodes {
            node.tags.retain(|tag| !dead.contains(&key::tag(*tag)));
            node.related.retain(|(_, to)| !dead.contains(&key::inode(*to)));
        }
        Ok(())
    }

    /// Tags behind `after`; with the first page, saved queries.
    pub(crate) async fn catalogue(&self, after: Option<TagId>, limit: usize) -> Result<MetaReply, Dead> {
        let limit = limit.clamp(1, LIST_MAX);
        self.settle_pending().await?;
        let from = after.map_or(0, |id| id.get() + 1);
        let range = RowRange { table: Table::Tag, partition: 0, from, to: u64::MAX, limit };
        let mut page = Catalogue::default();
        for (key, bytes) in self.persistently("list tags", || self.engine.list(range)).await? {
            match (TagId::new(key.sort), Row::decode(key, &bytes)) {
                (Some(id), Ok(Row::Tag(facts))) => page.tags.push((id, facts)),
                _ => return Ok(MetaReply::Refused(Status::Corrupt)),
            }
        }
        if after.is_none() {
            let range = RowRange { partition: 2, from: 0, limit: SAVED_QUERIES_MAX + 1, ..range };
            for (key, bytes) in self.persistently("list saved queries", || self.engine.list(range)).await? {
                match Row::decode(key, &bytes) {
                    Ok(Row::Saved(all)) => {
                        page.saved.extend(all.into_iter().map(|saved| (saved.name, saved.expression)))
                    }
                    Ok(_) | Err(_) => return Ok(MetaReply::Refused(Status::Corrupt)),
                }
            }
        }
        Ok(MetaReply::Catalogue(page))
    }

    /// What was changed before is in the engine.
    async fn settle_pending(&self) -> Result<(), Dead> {
        let ticket = self.core.lock().newest_ticket();
        self.commit_up_to(ticket).await.map(|_| ())
    }
}

/// An inode with what was found beside it: the row of its extended attributes, then that of each name.
fn node(row: &InodeRow, beside: Vec<(RowKey, Option<Vec<u8>>)>) -> Result<GraphNode, Status> {
    let ino = row.attr.ino;
    let (mut names, mut xattrs) = (Vec::with_capacity(row.links.len()), Xattrs::new());
    let mut links = row.links.iter();
    for (key, bytes) in beside {
        let row = bytes.map(|bytes| Row::decode(key, &bytes).map_err(|_| Status::Corrupt)).transpose()?;
        match (key.table, row) {
            (Table::Xattr, Some(Row::Xattrs(all))) => xattrs = all,
            (Table::Xattr, None) => {}
            (Table::Dentry, found) => {
                let Some(link) = links.next() else { return Err(Status::Corrupt) };
                let slot = (link.cookie & 0xff) as u8;
                let entries = if let Some(Row::Dentries(entries)) = found { entries } else { Vec::new() };
                // One that is gone was renamed or removed meanwhile.
                let entry = entries.into_iter().find(|entry| entry.slot == slot && entry.ino == ino);
                names.extend(entry.map(|entry: crate::rows::DentryRow| -> (Ino, Name) { (link.parent, entry.name) }));
            }
            _ => return Err(Status::Corrupt),
        }
    }
    let (tags, vetoes, related) = kept(&xattrs)?;
    let xattrs = xattrs.into_iter().filter(|(name, _)| is_kept_xattr(name)).collect();
    Ok(GraphNode { facts: NodeFacts::from(&row.attr), names, xattrs, tags, vetoes, related })
}

/// About how many bytes it takes in a message.
fn weight(node: &GraphNode) -> usize {
    let names: usize = node.names.iter().map(|(_, name)| name.as_bytes().len() + 10).sum();
    let xattrs: usize = node.xattrs.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
    let vetoes: usize = node.vetoes.iter().map(|tag| tag.as_str().len() + 2).sum();
    100 + names + xattrs + vetoes + (node.tags.len() + node.related.len()) * 10
}
