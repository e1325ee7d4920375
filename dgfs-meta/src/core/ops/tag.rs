//! Tags, vetoes and relations by hand.
//!
//! Never keeps a tag's name with an inode: its number is kept, in the row of extended attributes, under a name that nobody can
//! set. `user.xdg.tags` is made of them when it is asked for.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use dgfs_proto::attr::AttrFlags;
use dgfs_proto::graph::{HandRelation, TagFacts};
use dgfs_proto::ids::{Ino, TagId};
use dgfs_proto::limits::{RELATIONS_MAX, TAGGED_MAX, TAGS_PER_FILE_MAX};
use dgfs_proto::log::Change;
use dgfs_proto::meta::{Actor, TagCommand, TagEdit};
use dgfs_proto::status::Status;
use dgfs_proto::tag::{Tag, parse_csv, to_csv};

use crate::core::catalogue;
use crate::core::tx::{Step, Stop, Tx};
use crate::rows::{InodeRow, Row, key};

/// What people know the tags of an inode as.
pub(crate) const SHOWN: &[u8] = b"user.xdg.tags";
/// Where they are kept: no name that can be set begins so.
const PREFIX: &[u8] = b"graph.";
const TAGS: &[u8] = b"graph.tags";
const VETOES: &[u8] = b"graph.vetoes";
const RELATED: &[u8] = b"graph.related";

pub(crate) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

fn decode<T: DeserializeOwned + Default>(all: &Xattrs, name: &[u8]) -> Result<T, Status> {
    all.get(name).map_or(Ok(T::default()), |bytes| postcard::from_bytes(bytes).map_err(|_| Status::Corrupt))
}

fn encode<T: Serialize>(all: &mut Xattrs, name: &[u8], value: &[T]) {
    if value.is_empty() {
        all.remove(name);
    } else {
        // Plain data, which postcard can always encode into a growing buffer.
        all.insert(name.to_vec(), postcard::to_allocvec(value).unwrap_or_default());
    }
}

/// What the graph keeps of an inode besides attributes: tags, vetoes, relations.
pub(crate) type Kept = (Vec<TagId>, Vec<Tag>, Vec<(HandRelation, Ino)>);

/// Reads it from the row of extended attributes.
pub(crate) fn kept(all: &Xattrs) -> Result<Kept, Status> {
    Ok((decode(all, TAGS)?, decode(all, VETOES)?, decode(all, RELATED)?))
}

/// Tags of an inode that are still there, by the number they have now.
fn carried(tx: &mut Tx<'_>, all: &Xattrs) -> Step<Vec<(TagId, TagFacts)>> {
    let mut found: Vec<(TagId, TagFacts)> = Vec::new();
    let ids = decode::<Vec<TagId>>(all, TAGS)?;
    let keys: Vec<_> = ids.iter().map(|id| key::tag(*id)).collect();
    tx.want(&keys)?;
    for id in ids {
        if let Some((id, facts)) = tx.living_tag(id)?
            && found.iter().all(|(known, _)| *known != id)
        {
            found.push((id, facts));
        }
    }
    Ok(found)
}

/// The value of `user.xdg.tags`; none where there are no tags.
pub(crate) fn shown(tx: &mut Tx<'_>, all: &Xattrs) -> Step<Option<Vec<u8>>> {
    if !all.contains_key(TAGS) {
        return Ok(all.get(SHOWN).cloned());
    }
    let tags: Vec<Tag> = carried(tx, all)?.into_iter().map(|(_, facts)| facts.name).collect();
    Ok(if tags.is_empty() { None } else { Some(to_csv(&tags)) })
}

/// Names as `listxattr` shows them.
pub(crate) fn listed(tx: &mut Tx<'_>, all: Xattrs) -> Step<Vec<Vec<u8>>> {
    let has_tags = shown(tx, &all)?.is_some();
    let mut names: Vec<Vec<u8>> =
        all.into_keys().filter(|name| !name.starts_with(PREFIX) && name.as_slice() != SHOWN).collect();
    if has_tags {
        names.push(SHOWN.to_vec());
    }
    Ok(names)
}

/// The tags that a value of `user.xdg.tags` names replace those of `all`.
pub(crate) fn replace(tx: &mut Tx<'_>, row: &InodeRow, all: &mut Xattrs, (value, uid): (&[u8], u32)) -> Step<()> {
    let wanted = parse_csv(value).map_err(|error| error.status())?;
    let (ids, made) = ids_of(tx, &wanted, uid)?;
    all.remove(SHOWN);
    encode(all, TAGS, &ids);
    tx.use_of_tags(&ids);
    tx.changes.push(Change::Tagged { made, tags: vec![(row.attr.ino, ids)], vetoes: Vec::new() });
    Ok(())
}

/// Numbers of tags, and those of them that were made.
type Numbered = (Vec<TagId>, Vec<(TagId, TagFacts)>);

/// Numbers of tags by name; those that do not exist are made, for this user.
fn ids_of(tx: &mut Tx<'_>, tags: &[Tag], uid: u32) -> Step<Numbered> {
    tx.want_names(tags)?;
    let (mut ids, mut made) = (Vec::with_capacity(tags.len()), Vec::new());
    for tag in tags {
        let id = match tx.tag_named(tag)? {
            Some(id) => id,
            None => {
                let (id, facts) = tx.make_tag(tag, uid)?;
                made.push((id, facts));
                id
            }
        };
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok((ids, made))
}

/// Tags and untags inodes.
pub(crate) fn edit(tx: &mut Tx<'_>, edit: &TagEdit) -> Step<()> {
    let longest = [&edit.add, &edit.remove, &edit.veto, &edit.unveto].into_iter().map(Vec::len).max();
    if edit.inos.len() > TAGGED_MAX {
        return Err(Status::Malformed.into());
    }
    if longest > Some(TAGS_PER_FILE_MAX) {
        return Err(Status::XattrTooBig.into());
    }
    let keys: Vec<_> = edit.inos.iter().flat_map(|ino| [key::inode(*ino), key::xattr(*ino)]).collect();
    tx.want(&keys)?;
    // All at once: each row that is asked for alone would begin the whole change again.
    tx.want_names(edit.add.iter().chain(&edit.remove))?;
    let (add, made) = ids_of(tx, &edit.add, edit.uid)?;
    let mut remove = Vec::with_capacity(edit.remove.len());
    for tag in &edit.remove {
        remove.extend(tx.tag_named(tag)?);
    }
    let (mut tags, mut vetoes) = (Vec::new(), Vec::new());
    for ino in &edit.inos {
        match edit_one(tx, *ino, edit, (&add, &remove)) {
            Ok(Some(edited)) => {
                tags.extend(edited.tags.map(|ids| (*ino, ids)));
                vetoes.extend(edited.vetoes.map(|vetoes| (*ino, vetoes)));
            }
            Ok(None) => {}
            Err(Stop::Refused(Status::Stale)) if edit.inos.len() > 1 => {}
            Err(stop) => return Err(stop),
        }
    }
    if !(made.is_empty() && tags.is_empty() && vetoes.is_empty()) {
        tx.use_of_tags(&add);
        tx.changes.push(Change::Tagged { made, tags, vetoes });
    }
    Ok(())
}

struct Edited {
    tags: Option<Vec<TagId>>,
    vetoes: Option<Vec<Tag>>,
}

fn edit_one(tx: &mut Tx<'_>, ino: Ino, edit: &TagEdit, (add, remove): (&[TagId], &[TagId])) -> Step<Option<Edited>> {
    let row = tx.live_inode(ino)?;
    let mut all = if row.attr.flags.has(AttrFlags::HAS_XATTR) { tx.xattrs(ino)? } else { Xattrs::new() };
    let before: Vec<TagId> = carried(tx, &all)?.into_iter().map(|(id, _)| id).collect();
    if edit.exclusive && !add.is_empty() && add.iter().all(|id| before.contains(id)) {
        return Err(Status::Exists.into());
    }
    let mut after: Vec<TagId> = before.iter().copied().filter(|id| !remove.contains(id)).collect();
    after.extend(add.iter().filter(|id| !before.contains(id) || remove.contains(id)));
    let vetoes_before: Vec<Tag> = decode(&all, VETOES)?;
    let folds = |tags: &[Tag]| tags.iter().map(Tag::fold).collect::<Vec<_>>();
    let (gone, known) = (folds(&edit.unveto), folds(&vetoes_before));
    let mut vetoes: Vec<Tag> = vetoes_before.iter().filter(|tag| !gone.contains(&tag.fold())).cloned().collect();
    vetoes.extend(edit.veto.iter().filter(|tag| !known.contains(&tag.fold())).cloned());
    if after.len() > TAGS_PER_FILE_MAX || vetoes.len() > TAGS_PER_FILE_MAX {
        return Err(Status::XattrTooBig.into());
    }
    let edited = Edited {
        tags: (after != before).then(|| after.clone()),
        vetoes: (vetoes != vetoes_before).then(|| vetoes.clone()),
    };
    if edited.tags.is_none() && edited.vetoes.is_none() {
        return Ok(None);
    }
    all.remove(SHOWN);
    encode(&mut all, TAGS, &after);
    encode(&mut all, VETOES, &vetoes);
    store(tx, row, all)?;
    Ok(Some(edited))
}

/// Stores a row of extended attributes and what its inode says of it.
pub(crate) fn store(tx: &mut Tx<'_>, mut row: InodeRow, all: Xattrs) -> Step<()> {
    let total: usize = all.iter().map(|(name, value)| name.len() + value.len()).sum();
    if total > dgfs_proto::limits::XATTR_TOTAL_BYTES_MAX {
        return Err(Status::NoSpace.into());
    }
    let ino = row.attr.ino;
    let had = row.attr.flags.has(AttrFlags::HAS_XATTR);
    row.attr.flags.set(AttrFlags::HAS_XATTR, !all.is_empty());
    row.attr.ctime = tx.now;
    if !all.is_empty() {
        tx.put(key::xattr(ino), Row::Xattrs(all));
    } else if had {
        tx.delete(key::xattr(ino));
    }
    tx.put_inode(row);
    Ok(())
}

/// Changes the catalogue.
pub(crate) fn command(tx: &mut Tx<'_>, command: &TagCommand, by: Actor) -> Step<()> {
    match command {
        TagCommand::Make(tag) => catalogue::make(tx, tag, by),
        TagCommand::Rename { from, to } => catalogue::rename(tx, from, to, by),
        TagCommand::Merge { from, into } => catalogue::merge(tx, from, into, by),
        TagCommand::Delete { tag, unused_at } => catalogue::delete(tx, tag, *unused_at, by),
        TagCommand::Alias { alias, tag: Some(tag) } => catalogue::alias(tx, alias, tag, by),
        TagCommand::Alias { alias, tag: None } => catalogue::unalias(tx, alias, by),
        TagCommand::Imply { tag, implied, on } => catalogue::imply(tx, (tag, implied), *on, by),
    }
}

/// Adds or takes back a relation that a person made.
pub(crate) fn relate(tx: &mut Tx<'_>, from: Ino, (relation, to): (HandRelation, Ino), on: bool) -> Step<()> {
    let row = tx.inode(from)?;
    if on {
        tx.inode(to)?;
        if from == to {
            return Err(Status::Invalid.into());
        }
    }
    let mut all = if row.attr.flags.has(AttrFlags::HAS_XATTR) { tx.xattrs(from)? } else { Xattrs::new() };
    let mut related: Vec<(HandRelation, Ino)> = decode(&all, RELATED)?;
    without_the_dead(tx, &mut related)?;
    match (on, related.contains(&(relation, to))) {
        (true, true) => return Err(Status::Exists.into()),
        (false, false) => return Err(Status::NotFound.into()),
        (true, false) if related.len() >= RELATIONS_MAX => return Err(Status::XattrTooBig.into()),
        (true, false) => related.push((relation, to)),
        (false, true) => related.retain(|known| *known != (relation, to)),
    }
    encode(&mut all, RELATED, &related);
    store(tx, row, all)?;
    tx.changes.push(Change::Related { ino: from, to: related });
    Ok(())
}

/// Leaves out relations to inodes that are gone: nobody took those back.
fn without_the_dead(tx: &mut Tx<'_>, related: &mut Vec<(HandRelation, Ino)>) -> Step<()> {
    let keys: Vec<_> = related.iter().map(|(_, to)| key::inode(*to)).collect();
    tx.want(&keys)?;
    let mut living = Vec::with_capacity(related.len());
    for (relation, to) in related.drain(..) {
        if tx.row(key::inode(to))?.is_some() {
            living.push((relation, to));
        }
    }
    *related = living;
    Ok(())
}
