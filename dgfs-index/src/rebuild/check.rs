//! Compares what the index keeps of each inode with the metadata.
//!
//! Never changes anything and never takes a change under way for a difference: an inode that differs is asked for again once
//! the index has applied what had happened by then.

use std::collections::BTreeMap;
use std::sync::Arc;

use dgfs_proto::graph::GraphNode;
use dgfs_proto::ids::Ino;
use dgfs_proto::tag::fold;

use crate::index::Index;
use crate::meta_link::{MetaLink, Silence};
use crate::rebuild::PAGE;
use crate::store::StoreError;

/// Differences told; what is behind is counted only.
const LINES_MAX: usize = 1000;
/// An inode that changes all the time is asked for so often.
const TRIES: usize = 5;

/// A line for each difference, and a last one that says what was compared.
pub(crate) async fn check(index: &Arc<Index>, meta: &MetaLink) -> Result<String, String> {
    let mut lines = Vec::new();
    let (mut compared, mut different) = (0u64, 0u64);
    let mut after: Option<Ino> = None;
    loop {
        let page = meta.nodes(after, PAGE).await.map_err(away)?;
        let last = page.last().map(|node| node.facts.ino);
        if last.is_some() && last <= after {
            return Err("the metadata service repeats a page of inodes".to_owned());
        }
        compared += page.len() as u64;
        for ino in suspects(index, after, last, &page).map_err(|error| error.to_string())? {
            if let Some(line) = examine(index, meta, ino).await? {
                different += 1;
                if lines.len() < LINES_MAX {
                    lines.push(line);
                }
            }
        }
        match last {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    lines.push(format!("{compared} inodes compared at seq {}, {different} differ", index.applied().seq));
    Ok(lines.join("\n") + "\n")
}

fn away(_: Silence) -> String {
    "the metadata service is not reachable".to_owned()
}

/// Inodes of a page, or of the index where the page has a gap, that differ at first sight.
fn suspects(index: &Index, after: Option<Ino>, last: Option<Ino>, page: &[GraphNode]) -> Result<Vec<Ino>, StoreError> {
    let mut theirs: BTreeMap<Ino, &GraphNode> = page.iter().map(|node| (node.facts.ino, node)).collect();
    let readers = index.readers();
    let mut suspects = Vec::new();
    for ino in readers.inos_between(after, last)? {
        let Some(node) = theirs.remove(&ino) else {
            suspects.push(ino);
            continue;
        };
        let own = readers.vertex(ino)?.map(|vertex| vertex.node);
        let node = without_ends_that_are_gone(index, node.clone())?;
        if own.is_none_or(|own| difference(own, node).is_some()) {
            suspects.push(ino);
        }
    }
    suspects.extend(theirs.into_keys());
    Ok(suspects)
}

/// What differs in an inode, once all that had happened is applied.
async fn examine(index: &Arc<Index>, meta: &MetaLink, ino: Ino) -> Result<Option<String>, String> {
    let mut found = None;
    for _ in 0..TRIES {
        let before = Ino::new(ino.get() - 1);
        let theirs = meta.nodes(before, 1).await.map_err(away)?;
        let theirs = theirs.into_iter().next().filter(|node| node.facts.ino == ino);
        let head = meta.head().await.map_err(away)?;
        index.wait_for(head).await;
        let own = index.readers().vertex(ino).map_err(|error| error.to_string())?.map(|vertex| vertex.node);
        found = match (own, theirs) {
            (None, None) => None,
            (None, Some(_)) => Some(format!("inode {ino}: the index does not have it")),
            (Some(_), None) => Some(format!("inode {ino}: the index has it, the metadata do not")),
            (Some(own), Some(theirs)) => {
                let theirs = without_ends_that_are_gone(index, theirs).map_err(|error| error.to_string())?;
                difference(own, theirs).map(|what| format!("inode {ino}: {what}"))
            }
        };
        if found.is_none() {
            break;
        }
    }
    Ok(found)
}

/// The metadata keep relations to inodes that are freed; an inode that the index lacks wrongly is a difference of its own.
fn without_ends_that_are_gone(index: &Index, mut node: GraphNode) -> Result<GraphNode, StoreError> {
    let mut related = Vec::new();
    for (relation, to) in node.related {
        if index.readers().knows(to)? {
            related.push((relation, to));
        }
    }
    node.related = related;
    Ok(node)
}

fn tidy(node: &mut GraphNode) {
    node.names.sort();
    node.xattrs.sort();
    node.tags.sort_unstable();
    node.vetoes.sort_by_key(|veto| fold(veto.as_str()));
    node.related.sort_unstable();
}

/// The first thing in which two states differ.
fn difference(mut own: GraphNode, mut theirs: GraphNode) -> Option<String> {
    tidy(&mut own);
    tidy(&mut theirs);
    if own.facts != theirs.facts {
        return Some(format!("attributes are {:?} in the index, {:?} in the metadata", own.facts, theirs.facts));
    }
    if own.names != theirs.names {
        return Some(format!("names are {:?} in the index, {:?} in the metadata", own.names, theirs.names));
    }
    if own.tags != theirs.tags {
        return Some(format!("tags are {:?} in the index, {:?} in the metadata", own.tags, theirs.tags));
    }
    if own.xattrs != theirs.xattrs {
        return Some("extended attributes differ".to_owned());
    }
    if own.vetoes != theirs.vetoes {
        return Some("vetoes differ".to_owned());
    }
    (own.related != theirs.related).then(|| "relations differ".to_owned())
}
