//! The catalogue of tags as nodes: tags, their other names, and the name spaces above them.
//!
//! Never knows what taggers say. Always: one node for each folded key; where several tags claim one (between two events),
//! the tag with the lowest number has it, and a name comes before another name.

use std::collections::{BTreeMap, BTreeSet};

use dgfs_proto::graph::TagFacts;
use dgfs_proto::ids::TagId;
use dgfs_proto::tag::{self, fold};

use super::model::Tag;
use super::write::KnownTag;
use crate::store::{Readers, StoreError};

/// The catalogue at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Catalogue {
    facts: BTreeMap<TagId, TagFacts>,
    /// By key.
    nodes: BTreeMap<String, Tag>,
}

impl Catalogue {
    pub(super) fn read(readers: &Readers) -> Result<Self, StoreError> {
        Ok(Self::of(readers.tags_after(0)?.into_iter().collect()))
    }

    fn of(facts: BTreeMap<TagId, TagFacts>) -> Self {
        let key_of = |id: &TagId| facts.get(id).map(|facts| facts.name.fold());
        let mut nodes = BTreeMap::new();
        for (id, facts) in &facts {
            let mut node = node_of(&facts.name);
            node.id = Some(id.get());
            node.implies = facts.implies.iter().filter_map(key_of).collect();
            node.alias_of = facts.merged_into.as_ref().and_then(key_of);
            nodes.entry(node.key.clone()).or_insert(node);
        }
        for facts in facts.values() {
            for alias in &facts.aliases {
                let node = Tag { alias_of: Some(facts.name.fold()), ..node_of(alias) };
                nodes.entry(node.key.clone()).or_insert(node);
            }
        }
        let names: Vec<tag::Tag> =
            facts.values().flat_map(|facts| std::iter::once(&facts.name).chain(&facts.aliases)).cloned().collect();
        for above in names.iter().flat_map(above) {
            nodes.entry(above.key.clone()).or_insert(above);
        }
        Self { facts, nodes }
    }

    /// What is known of a tag.
    pub(super) fn facts(&self, id: TagId) -> Option<&TagFacts> {
        self.facts.get(&id)
    }

    /// Its nodes, in the order of their keys.
    pub(super) fn into_nodes(self) -> impl Iterator<Item = Tag> {
        self.nodes.into_values()
    }

    /// Has it a node of this key?
    pub(super) fn has(&self, key: &str) -> bool {
        self.nodes.contains_key(key)
    }
}

/// A node that is only a name.
pub(super) fn node_of(tag: &tag::Tag) -> Tag {
    let mut parents: Vec<String> = tag.parents().map(fold).collect();
    parents.reverse();
    Tag { key: tag.fold(), id: None, name: tag.as_str().to_owned(), parents, implies: Vec::new(), alias_of: None }
}

/// Nodes of the name spaces above a tag.
pub(super) fn above(tag: &tag::Tag) -> Vec<Tag> {
    tag.parents().filter_map(|above| Some(node_of(&tag::Tag::parse(above).ok()?))).collect()
}

/// What the graph has of the catalogue.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    /// Keys by number.
    own: BTreeMap<u64, String>,
    /// Other names of tags.
    others: BTreeSet<String>,
    /// All of it, once it was written by this process.
    written: Option<Catalogue>,
}

/// What has to change in the graph.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Difference {
    pub(super) tags: Vec<Tag>,
    pub(super) gone: Vec<String>,
    /// Tags with another key than before, or none: who carries one is written again.
    pub(super) moved: Vec<TagId>,
}

impl Sent {
    pub(super) fn of_graph(tags: Vec<KnownTag>) -> Self {
        let mut sent = Self::default();
        for KnownTag { key, id } in tags {
            match id {
                Some(id) => drop(sent.own.insert(id, key)),
                None => drop(sent.others.insert(key)),
            }
        }
        sent
    }

    pub(super) fn of_catalogue(catalogue: Catalogue) -> Self {
        Self { own: own_keys(&catalogue), others: BTreeSet::new(), written: Some(catalogue) }
    }

    /// How many tags of the catalogue the graph has.
    pub(super) fn count(&self) -> u64 {
        match &self.written {
            Some(written) => written.facts.len() as u64,
            None => self.own.len() as u64,
        }
    }

    /// The catalogue that the graph has, if this process wrote it.
    pub(super) fn written(&self) -> Option<&Catalogue> {
        self.written.as_ref()
    }

    pub(super) fn difference(&self, now: &Catalogue) -> Difference {
        let before = self.written.as_ref();
        let known = |tag: &Tag| before.and_then(|before| before.nodes.get(&tag.key)) == Some(tag);
        let tags = now.nodes.values().filter(|tag| !known(tag)).cloned().collect();
        let keys: BTreeSet<&String> = self
            .own
            .values()
            .chain(&self.others)
            .chain(before.into_iter().flat_map(|before| before.nodes.keys()))
            .filter(|key| !now.has(key))
            .collect();
        let own = own_keys(now);
        let moved = self.own.iter().filter(|(id, key)| own.get(id) != Some(key));
        Difference {
            tags,
            gone: keys.into_iter().cloned().collect(),
            moved: moved.filter_map(|(id, _)| TagId::new(*id)).collect(),
        }
    }
}

fn own_keys(catalogue: &Catalogue) -> BTreeMap<u64, String> {
    catalogue.facts.iter().map(|(id, facts)| (id.get(), facts.name.fold())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dgfs_proto::graph::TagFacts;
    use dgfs_proto::ids::TagId;
    use dgfs_proto::tag::Tag;

    use super::{Catalogue, Sent};
    use crate::neo4j::write::KnownTag;

    fn catalogue(tags: &[(u64, &str, &[&str], &[u64])]) -> Catalogue {
        let facts = tags.iter().map(|(id, name, aliases, implies)| {
            let facts = TagFacts {
                name: Tag::parse(name).unwrap(),
                aliases: aliases.iter().map(|alias| Tag::parse(alias).unwrap()).collect(),
                implies: implies.iter().map(|id| TagId::new(*id).unwrap()).collect(),
                merged_into: None,
                owner: 0,
            };
            (TagId::new(*id).unwrap(), facts)
        });
        Catalogue::of(facts.collect::<BTreeMap<_, _>>())
    }

    #[test]
    fn names_other_names_and_name_spaces_are_nodes() {
        let nodes = catalogue(&[(1, "Place:CN:Hefei", &["home"], &[2]), (2, "China", &[], &[])]).nodes;
        assert_eq!(nodes.keys().collect::<Vec<_>>(), ["china", "home", "place", "place:cn", "place:cn:hefei"]);
        let hefei = &nodes["place:cn:hefei"];
        assert_eq!((hefei.id, hefei.implies.as_slice()), (Some(1), ["china".to_owned()].as_slice()));
        assert_eq!(hefei.parents, ["place:cn", "place"]);
        assert_eq!(nodes["home"].alias_of.as_deref(), Some("place:cn:hefei"));
    }

    #[test]
    fn a_renamed_and_a_deleted_tag_are_known_from_the_graph_alone() {
        let known = [(Some(1), "a"), (Some(2), "b"), (Some(3), "c"), (None, "x")];
        let known = known.map(|(id, key)| KnownTag { key: key.to_owned(), id }).to_vec();
        let sent = Sent::of_graph(known);
        let now = catalogue(&[(1, "b", &[], &[]), (2, "A", &[], &[])]);
        let difference = sent.difference(&now);
        assert_eq!(difference.gone, ["c", "x"]);
        assert_eq!(difference.moved.iter().map(|id| id.get()).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(difference.tags.len(), 2);
        let same = Sent::of_catalogue(now.clone()).difference(&now);
        assert_eq!(same, super::Difference::default());
    }
}
