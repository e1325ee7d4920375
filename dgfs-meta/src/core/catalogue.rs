//! The catalogue of tags: which there are, and what they are called.
//!
//! Never says who carries one: that is kept with each inode, by number, so that a tag gets another name in one row. Always:
//! each name leads to one tag, and every name and alias of a living tag leads to it.

mod rights;
pub(crate) mod saved;

use std::collections::BTreeMap;

use dgfs_proto::graph::TagFacts;
use dgfs_proto::ids::{Seq, TagId};
use dgfs_proto::log::Change;
use dgfs_proto::meta::Actor;
use dgfs_proto::name::name_hash;
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use crate::core::catalogue::rights::{check_gains, check_own};
use crate::core::catalogue::saved::Renaming;
use crate::core::tx::{Need, Step, Stop, Tx};
use crate::engine::{RowRange, Table};
use crate::rows::{Row, key};

/// Tags that are led to another one when that is merged itself: each is a row of the change. One more is refused.
const MERGED_MAX: usize = 4096;
/// Tags in the catalogue: all of them are looked through when one gets another name or is merged.
const TAGS_MAX: usize = 1 << 20;
/// Tags of which is remembered when they were given to an inode last.
const REMEMBERED_MAX: usize = 64 << 10;

/// When tags were given to an inode last.
#[derive(Debug)]
pub(crate) struct TagUse {
    /// Of what is not in `last` nothing happened behind this.
    since: Seq,
    last: BTreeMap<TagId, Seq>,
}

impl TagUse {
    /// Nothing is known of what happened up to `seq`.
    pub(crate) fn since(seq: Seq) -> Self {
        Self { since: seq, last: BTreeMap::new() }
    }

    /// These were given to somebody by the event `seq`.
    pub(crate) fn note(&mut self, tags: &[TagId], seq: Seq) {
        if self.last.len() + tags.len() > REMEMBERED_MAX {
            *self = Self::since(seq);
        }
        self.last.extend(tags.iter().map(|tag| (*tag, seq)));
    }

    /// May an inode have been given it behind `seq`?
    fn is_later_than(&self, tag: TagId, seq: Seq) -> bool {
        self.last.get(&tag).copied().unwrap_or(self.since) > seq
    }
}

impl Tx<'_> {
    /// A tag by its number.
    pub(crate) fn tag(&mut self, id: TagId) -> Step<Option<TagFacts>> {
        match self.row(key::tag(id))?.as_deref() {
            Some(Row::Tag(facts)) => Ok(Some(facts.clone())),
            Some(_) => Err(Status::Corrupt.into()),
            None => Ok(None),
        }
    }

    /// What a number that an inode carries stands for now; none when the tag is gone.
    ///
    /// Merging leads all that was merged before straight to where it is now, so one step is enough; volumes from before that
    /// have chains. Only living tags are merged, into living ones: there are no circles, and every tag is passed once at most.
    pub(crate) fn living_tag(&mut self, id: TagId) -> Step<Option<(TagId, TagFacts)>> {
        let mut at = id;
        for _ in 0..TAGS_MAX {
            let Some(facts) = self.tag(at)? else { return Ok(None) };
            match facts.merged_into {
                Some(into) => at = into,
                None => return Ok(Some((at, facts))),
            }
        }
        Ok(None)
    }

    /// Ends the attempt unless it is known what all these names mean.
    pub(crate) fn want_names<'a>(&mut self, names: impl IntoIterator<Item = &'a Tag>) -> Step<()> {
        let key = |name: &Tag| key::tag_names(name_hash(self.volume, name.fold().as_bytes()));
        let keys: Vec<_> = names.into_iter().map(key).collect();
        self.want(&keys)
    }

    fn tag_names(&mut self, fold: &str) -> Step<(crate::engine::RowKey, Vec<(String, TagId)>)> {
        let key = key::tag_names(name_hash(self.volume, fold.as_bytes()));
        match self.row(key)?.as_deref() {
            Some(Row::TagNames(names)) => Ok((key, names.clone())),
            Some(_) => Err(Status::Corrupt.into()),
            None => Ok((key, Vec::new())),
        }
    }

    /// The tag of this name or alias.
    pub(crate) fn tag_named(&mut self, name: &Tag) -> Step<Option<TagId>> {
        let fold = name.fold();
        let (_, names) = self.tag_names(&fold)?;
        Ok(names.into_iter().find(|(known, _)| *known == fold).map(|(_, id)| id))
    }

    /// Lets a name lead to a tag, or to none.
    fn lead(&mut self, name: &Tag, to: Option<TagId>) -> Step<()> {
        let fold = name.fold();
        let (key, mut names) = self.tag_names(&fold)?;
        names.retain(|(known, _)| *known != fold);
        names.extend(to.map(|id| (fold, id)));
        if names.is_empty() {
            self.delete(key);
        } else {
            self.put(key, Row::TagNames(names));
        }
        Ok(())
    }

    fn put_tag(&mut self, id: TagId, facts: &TagFacts) {
        self.put(key::tag(id), Row::Tag(facts.clone()));
    }

    /// A new tag of this name, which no other has, of this user.
    pub(crate) fn make_tag(&mut self, name: &Tag, owner: u32) -> Step<(TagId, TagFacts)> {
        // Tags take their numbers from those of inodes: both are never used twice.
        let id = TagId::new(self.counters.next_ino).ok_or(Status::NoSpace)?;
        self.counters.next_ino += 1;
        let (name_of_it, merged_into) = (name.clone(), None);
        let facts = TagFacts { name: name_of_it, aliases: Vec::new(), implies: Vec::new(), merged_into, owner };
        self.cache.install(key::tag(id), None);
        self.put_tag(id, &facts);
        self.lead(name, Some(id))?;
        Ok((id, facts))
    }

    fn known(&mut self, name: &Tag) -> Step<(TagId, TagFacts)> {
        let id = self.tag_named(name)?.ok_or(Status::NotFound)?;
        self.living_tag(id)?.ok_or(Stop::Refused(Status::NotFound))
    }

    /// Every tag, those that were merged into another one, too.
    fn all_tags(&mut self) -> Step<Vec<(TagId, TagFacts)>> {
        let range = RowRange { table: Table::Tag, partition: 0, from: 0, to: u64::MAX, limit: TAGS_MAX };
        if !self.cache.is_complete_list(range.table, range.partition) && self.known_range(range).is_none() {
            return Err(Stop::Need(Need::Range(range)));
        }
        let mut ids: Vec<u64> = self.cache.listed(range.table, range.partition);
        let own = self.writes.keys().filter(|key| key.table == range.table && key.partition == range.partition);
        ids.extend(own.map(|key| key.sort));
        ids.sort_unstable();
        ids.dedup();
        let mut all = Vec::new();
        for id in ids.into_iter().filter_map(TagId::new) {
            all.extend(self.tag(id)?.map(|facts| (id, facts)));
        }
        Ok(all)
    }
}

/// Makes a tag that nobody carries yet.
pub(crate) fn make(tx: &mut Tx<'_>, name: &Tag, by: Actor) -> Step<()> {
    if tx.tag_named(name)?.is_some() {
        return Err(Status::Exists.into());
    }
    let (id, facts) = tx.make_tag(name, by.uid)?;
    tx.changes.push(Change::TagsChanged(vec![(id, Some(facts))]));
    Ok(())
}

/// Another name for a tag, and for all that is below it.
pub(crate) fn rename(tx: &mut Tx<'_>, from: &Tag, to: &Tag, by: Actor) -> Step<()> {
    let (id, own) = tx.known(from)?;
    // It may have been named by an alias: what is below it is below its own name.
    let moving = moving(tx, (id, &own.name), to)?;
    if Tx::is_bound(by) {
        check_moving(tx, &moving, by)?;
    }
    tx.want_names(moving.iter().flat_map(|(_, facts, name)| [&facts.name, name]))?;
    let mut changed = Vec::with_capacity(moving.len());
    for (other, mut facts, name) in moving {
        match tx.tag_named(&name)? {
            Some(holder) if holder != other => return Err(Status::Exists.into()),
            Some(_) | None => {}
        }
        tx.lead(&facts.name, None)?;
        tx.lead(&name, Some(other))?;
        facts.aliases.retain(|alias| alias.fold() != name.fold());
        facts.name = name;
        tx.put_tag(other, &facts);
        changed.push((other, Some(facts)));
    }
    tx.changes.push(Change::TagsChanged(changed));
    tx.rename_in_saved(&Renaming { from: &own.name, to, with_those_below: true })
}

/// A tag and those below it, each with the name that it is to have.
fn moving(tx: &mut Tx<'_>, (id, from): (TagId, &Tag), to: &Tag) -> Step<Vec<(TagId, TagFacts, Tag)>> {
    let (below, depth) = (format!("{}:", from.fold()), from.as_str().matches(':').count());
    // A value is not divided by its colons.
    let has_below = from.key_value().is_none();
    let mut moving = Vec::new();
    for (other, facts) in tx.all_tags()?.into_iter().filter(|(_, facts)| facts.merged_into.is_none()) {
        if other == id {
            moving.push((other, facts, to.clone()));
        } else if has_below && facts.name.fold().starts_with(&below) {
            // What follows the prefix is as it is spelled; folding may change its length.
            let rest = facts.name.as_str().splitn(depth + 2, ':').last().unwrap_or_default();
            let name = Tag::parse(&format!("{}:{rest}", to.as_str())).map_err(|_| Status::Invalid)?;
            moving.push((other, facts, name));
        }
    }
    Ok(moving)
}

/// Every tag that moves is theirs, and what gets carriers by the new names.
fn check_moving(tx: &mut Tx<'_>, moving: &[(TagId, TagFacts, Tag)], by: Actor) -> Step<()> {
    let above: Vec<Tag> = moving.iter().flat_map(|(_, _, name)| rights::names_above(name)).collect();
    tx.want_names(&above)?;
    for (id, facts, name) in moving {
        check_own(facts, by)?;
        let above = tx.above(name)?;
        let (gains, had) = (tx.reach(above)?, tx.reach(vec![*id])?);
        check_gains(&gains, &had, by)?;
    }
    Ok(())
}

/// Whoever carries `from` carries `into`, whose alias it is from now on.
pub(crate) fn merge(tx: &mut Tx<'_>, from: &Tag, into: &Tag, by: Actor) -> Step<()> {
    let (gone, mut old) = tx.known(from)?;
    let (stays, mut facts) = tx.known(into)?;
    if gone == stays {
        return Err(Status::Invalid.into());
    }
    if Tx::is_bound(by) {
        check_own(&old, by)?;
        check_own(&facts, by)?;
        let (theirs, ours) = (tx.reach(vec![gone])?, tx.reach(vec![stays])?);
        check_gains(&theirs, &ours, by)?;
        check_gains(&ours, &theirs, by)?;
    }
    let mut changed = lead_on(tx, gone, stays)?;
    let names: Vec<Tag> = std::iter::once(old.name.clone()).chain(old.aliases.drain(..)).collect();
    for name in &names {
        tx.lead(name, Some(stays))?;
    }
    facts.aliases.extend(names);
    let more: Vec<TagId> = old.implies.drain(..).filter(|implied| !facts.implies.contains(implied)).collect();
    facts.implies.extend(more);
    facts.implies.retain(|implied| *implied != stays && *implied != gone);
    check_words(&facts)?;
    old.merged_into = Some(stays);
    tx.put_tag(gone, &old);
    tx.put_tag(stays, &facts);
    tx.use_of_tags(&[stays]);
    let renaming = Renaming { from: &old.name.clone(), to: &facts.name.clone(), with_those_below: false };
    changed.extend([(gone, Some(old)), (stays, Some(facts))]);
    tx.changes.push(Change::TagsChanged(changed));
    tx.rename_in_saved(&renaming)
}

/// What was merged into `gone` before is merged into `stays`: no chain grows, so no file loses a tag at the end of one.
fn lead_on(tx: &mut Tx<'_>, gone: TagId, stays: TagId) -> Step<Vec<(TagId, Option<TagFacts>)>> {
    let led: Vec<_> = tx.all_tags()?.into_iter().filter(|(_, facts)| facts.merged_into == Some(gone)).collect();
    if led.len() > MERGED_MAX {
        return Err(Status::XattrTooBig.into());
    }
    let lead = |(id, mut facts): (TagId, TagFacts)| {
        facts.merged_into = Some(stays);
        tx.put_tag(id, &facts);
        (id, Some(facts))
    };
    Ok(led.into_iter().map(lead).collect())
}

/// A tag is gone, from every inode.
pub(crate) fn delete(tx: &mut Tx<'_>, name: &Tag, unused_at: Option<Seq>, by: Actor) -> Step<()> {
    let (id, facts) = tx.known(name)?;
    check_own(&facts, by)?;
    if unused_at.is_some_and(|seq| tx.tag_use.is_later_than(id, seq)) {
        return Err(Status::NotEmpty.into());
    }
    for name in std::iter::once(&facts.name).chain(&facts.aliases) {
        tx.lead(name, None)?;
    }
    tx.delete(key::tag(id));
    tx.changes.push(Change::TagsChanged(vec![(id, None)]));
    Ok(())
}

/// Another name for a tag.
pub(crate) fn alias(tx: &mut Tx<'_>, alias: &Tag, of: &Tag, by: Actor) -> Step<()> {
    if tx.tag_named(alias)?.is_some() {
        return Err(Status::Exists.into());
    }
    let (id, mut facts) = tx.known(of)?;
    if Tx::is_bound(by) {
        check_own(&facts, by)?;
        let above = tx.above(alias)?;
        let (gains, had) = (tx.reach(above)?, tx.reach(vec![id])?);
        check_gains(&gains, &had, by)?;
    }
    facts.aliases.push(alias.clone());
    check_words(&facts)?;
    tx.lead(alias, Some(id))?;
    tx.put_tag(id, &facts);
    tx.changes.push(Change::TagsChanged(vec![(id, Some(facts))]));
    Ok(())
}

/// A name is no name for a tag any more.
pub(crate) fn unalias(tx: &mut Tx<'_>, alias: &Tag, by: Actor) -> Step<()> {
    let (id, mut facts) = tx.known(alias)?;
    let before = facts.aliases.len();
    facts.aliases.retain(|known| known.fold() != alias.fold());
    if facts.aliases.len() == before {
        // Its own name: that is a tag, not an alias.
        return Err(Status::Invalid.into());
    }
    check_own(&facts, by)?;
    tx.lead(alias, None)?;
    tx.put_tag(id, &facts);
    tx.changes.push(Change::TagsChanged(vec![(id, Some(facts))]));
    Ok(())
}

/// Who carries the first carries the second, or not any more.
pub(crate) fn imply(tx: &mut Tx<'_>, (tag, implied): (&Tag, &Tag), on: bool, by: Actor) -> Step<()> {
    let (id, mut facts) = tx.known(tag)?;
    let (other, others) = tx.known(implied)?;
    if Tx::is_bound(by) {
        check_own(&facts, by)?;
        check_own(&others, by)?;
        let (gains, had) = (tx.reach(vec![other])?, tx.reach(vec![id])?);
        check_gains(&gains, &had, by)?;
    }
    let known = facts.implies.contains(&other);
    match (on, known) {
        (true, true) => return Err(Status::Exists.into()),
        (false, false) => return Err(Status::NotFound.into()),
        (true, false) if id == other => return Err(Status::Invalid.into()),
        (true, false) => facts.implies.push(other),
        (false, true) => facts.implies.retain(|implied| *implied != other),
    }
    check_words(&facts)?;
    tx.put_tag(id, &facts);
    tx.changes.push(Change::TagsChanged(vec![(id, Some(facts))]));
    Ok(())
}

fn check_words(facts: &TagFacts) -> Result<(), Status> {
    let most = facts.aliases.len().max(facts.implies.len());
    if most > dgfs_proto::limits::TAG_WORDS_MAX { Err(Status::XattrTooBig) } else { Ok(()) }
}
