//! Who may change the catalogue.
//!
//! Never says who may tag a file: that is the file's matter. A tag is its maker's; root and whoever mounted may change all.
//! Always: nobody lets files be found by a tag that is not his, but by tagging them. What a file is found by is its tags, what
//! those imply, and every tag above a name of these: that is called the reach of a tag here.

use std::collections::BTreeMap;

use dgfs_proto::graph::TagFacts;
use dgfs_proto::ids::TagId;
use dgfs_proto::meta::Actor;
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use crate::core::tx::{Step, Stop, Tx};

/// Tags in the reach of one: more are refused to whom it matters, before a change takes long.
const REACH_MAX: usize = 1024;

/// Tags and who owns them.
pub(super) type Owners = BTreeMap<TagId, u32>;

/// Refuses who may not change a tag.
pub(super) fn check_own(facts: &TagFacts, by: Actor) -> Result<(), Status> {
    if by.may_change(facts.owner) { Ok(()) } else { Err(Status::NotPermitted) }
}

/// Refuses who would give carriers to the tag of another: `gains` get those of what reached `had`.
pub(super) fn check_gains(gains: &Owners, had: &Owners, by: Actor) -> Result<(), Status> {
    let foreign = gains.iter().any(|(id, owner)| !had.contains_key(id) && !by.may_change(*owner));
    if foreign { Err(Status::NotPermitted) } else { Ok(()) }
}

/// Names above one. What stands above a tag is one itself, by the rules of names.
pub(super) fn names_above(name: &Tag) -> impl Iterator<Item = Tag> {
    name.parents().filter_map(|above| Tag::parse(above).ok())
}

impl Tx<'_> {
    /// Does it matter to them whose a tag is?
    pub(super) fn is_bound(by: Actor) -> bool {
        !(by.operator || by.uid == 0)
    }

    /// Tags above a name that exist.
    pub(super) fn above(&mut self, name: &Tag) -> Step<Vec<TagId>> {
        let above: Vec<Tag> = names_above(name).collect();
        self.want_names(&above)?;
        let mut found = Vec::with_capacity(above.len());
        for name in &above {
            found.extend(self.tag_named(name)?);
        }
        Ok(found)
    }

    /// By which tags carriers of these are found: these, what they imply, what is above their names, and so on.
    pub(super) fn reach(&mut self, of: Vec<TagId>) -> Step<Owners> {
        let (mut waiting, mut found) = (of, Owners::new());
        while let Some(id) = waiting.pop() {
            let Some((id, facts)) = self.living_tag(id)? else { continue };
            if found.insert(id, facts.owner).is_some() {
                continue;
            }
            if found.len() > REACH_MAX {
                return Err(Stop::Refused(Status::XattrTooBig));
            }
            for name in std::iter::once(&facts.name).chain(&facts.aliases) {
                waiting.extend(self.above(name)?);
            }
            waiting.extend(facts.implies);
        }
        Ok(found)
    }
}
