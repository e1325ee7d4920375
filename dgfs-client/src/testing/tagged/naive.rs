//! Answers of the index by looking at everything, one file after the other.

use std::collections::BTreeMap;

use dgfs_proto::attr::{FileKind, Timestamp};
use dgfs_proto::graph::answer::{Examined, Facet, Hit, IndexStatus, Mark, RelatedTo};
use dgfs_proto::graph::request::Sought;
use dgfs_proto::graph::{GraphAnswer, GraphRequest, HandRelation, TagFacts, Viewer};
use dgfs_proto::ids::{Ino, Seq, TagId};
use dgfs_proto::name::Name;
use dgfs_proto::permission::{Guard, Wanted};
use dgfs_proto::query::entry::{ino_id, parse_id};
use dgfs_proto::query::path::is_view_name;
use dgfs_proto::query::{Clause, Compare, Context, DatePrefix, Entry, Key, Query, Relation, Test, expr};
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use super::{Thing, Volume};

const CHANGED: Timestamp = Timestamp { secs: 77, nanos: 0 };

impl Volume {
    pub(super) fn answer(&self, viewer: &Viewer, request: GraphRequest) -> GraphAnswer {
        self.ask(viewer, request).unwrap_or_else(GraphAnswer::Refused)
    }

    fn ask(&self, viewer: &Viewer, request: GraphRequest) -> Result<GraphAnswer, Status> {
        match request {
            GraphRequest::Known { scope, clause } => {
                let known = clause.atoms.iter().all(|atom| atom.negated || self.knows(scope, &atom.test));
                if known { Ok(GraphAnswer::Done) } else { Err(Status::NotFound) }
            }
            GraphRequest::Search { sought, after, limit } => {
                let mut tests = sought.query.clauses.iter().flat_map(|clause| &clause.atoms).map(|atom| &atom.test);
                if tests.any(|test| matches!(test, Test::Saved(_)) && !self.knows(sought.scope, test)) {
                    return Err(Status::NotFound);
                }
                let mut hits = self.hits(viewer, &sought);
                hits.retain(|hit| Some(hit.ino) > after);
                let end = hits.len() <= limit as usize;
                hits.truncate(limit as usize);
                Ok(GraphAnswer::Hits { hits, end, changed: CHANGED })
            }
            GraphRequest::Entry { sought, name } => {
                let hits = self.hits(viewer, &sought);
                let found = hits.into_iter().find(|hit| hit.name == name || self.is_id_name(hit.ino, &name));
                let hits = vec![found.ok_or(Status::NotFound)?];
                Ok(GraphAnswer::Hits { hits, end: true, changed: CHANGED })
            }
            GraphRequest::Count(sought) => Ok(GraphAnswer::Count(self.hits(viewer, &sought).len() as u64)),
            GraphRequest::Facets { sought, prefix, limit } => {
                let mut facets = self.facets(viewer, &sought);
                facets.retain(|facet| facet.name.starts_with(&prefix));
                facets.truncate(limit as usize);
                Ok(GraphAnswer::Facets(facets))
            }
            GraphRequest::Top { scope } => Ok(GraphAnswer::Facets(self.top(viewer, scope))),
            GraphRequest::Values { scope, key, .. } => Ok(GraphAnswer::Facets(self.values(viewer, scope, &key))),
            GraphRequest::Explain(sought) => Ok(GraphAnswer::Text(format!("looks at everything for {}", sought.query))),
            GraphRequest::Step { sought, name, clause } => {
                let scope = sought.scope;
                match self.ask(viewer, GraphRequest::Entry { sought, name }) {
                    Err(Status::NotFound) => self.ask(viewer, GraphRequest::Known { scope, clause }),
                    answer => answer,
                }
            }
            GraphRequest::Places { scope, inos } => {
                let place = |ino: &Ino| self.path(scope, *ino).filter(|_| self.is_visible(viewer, *ino));
                Ok(GraphAnswer::Places(inos.iter().map(place).collect()))
            }
            GraphRequest::Place { scope, ino } => {
                let path = self.path(scope, ino).filter(|_| self.is_visible(viewer, ino)).ok_or(Status::NotFound)?;
                Ok(GraphAnswer::Path(path))
            }
            GraphRequest::Dates { sought, within } => Ok(GraphAnswer::Facets(self.dates(viewer, &sought, within))),
            GraphRequest::Marks(ino) => Ok(self.marks(self.things.get(&ino).ok_or(Status::NotFound)?)),
            GraphRequest::Related { ino, .. } => Ok(GraphAnswer::Related(self.related(ino))),
            GraphRequest::Tags { after, limit } => Ok(GraphAnswer::Catalogue(self.tags(&after, limit))),
            GraphRequest::Saved => Ok(GraphAnswer::Saved(self.saved.clone().into_iter().collect())),
            GraphRequest::Status => {
                let seq = Seq(self.seq);
                Ok(GraphAnswer::Status(IndexStatus { seq, head: seq, ..IndexStatus::default() }))
            }
            GraphRequest::Rebuild => Ok(GraphAnswer::Done),
            GraphRequest::Check => Ok(GraphAnswer::Text("inode 5: no name\n9 inodes compared, 1 differs\n".to_owned())),
            GraphRequest::Duplicates { .. } => Ok(GraphAnswer::Duplicates(Vec::new())),
            GraphRequest::Watch { .. } => Ok(GraphAnswer::Told(Vec::new())),
            GraphRequest::Cypher(_) => Ok(GraphAnswer::Denied("Cypher needs Neo4j".to_owned())),
            GraphRequest::Tagger(_) => Ok(GraphAnswer::Text("{\"tagger\":\"type\"}\n".to_owned())),
        }
    }

    fn values(&self, viewer: &Viewer, scope: Ino, key: &Key) -> Vec<Facet> {
        let mut facets = self.facets(viewer, &Sought { scope, query: Query::default() });
        if *key == Key::Size {
            facets.push(Facet { name: "size=1K..1M".to_owned(), count: 1 });
        }
        let begin = format!("{}=", key.as_str());
        facets.retain(|facet| facet.name.starts_with(&begin));
        facets
    }

    fn dates(&self, viewer: &Viewer, sought: &Sought, within: Option<DatePrefix>) -> Vec<Facet> {
        // Everything was changed in the first second of 1970.
        let name = match within.map(|date| (date.year(), date.month())) {
            None => "1970",
            Some((1970, None | Some(1))) => "01",
            Some(_) => return Vec::new(),
        };
        let count = self.hits(viewer, sought).len() as u64;
        (count > 0).then(|| Facet { name: name.to_owned(), count }).into_iter().collect()
    }

    fn knows(&self, scope: Ino, test: &Test) -> bool {
        let all = || self.things.values().flat_map(|thing| self.carried(thing));
        match test {
            Test::Tag(tag) => {
                let meant = self.meant(tag);
                let same = |known: &Tag| known.is_within(&meant);
                self.catalogue.iter().any(same) || all().any(|known| same(&known))
            }
            Test::Has(Key::Other(key)) | Test::Compare { key: Key::Other(key), .. } => {
                let said = self.things.values().flat_map(|thing| &thing.said).filter_map(|said| said.split_once('='));
                all().any(|tag| tag.key_value().is_some_and(|(known, _)| known == key.as_str()))
                    || said.map(|(known, _)| known).any(|known| known == key.as_str())
            }
            Test::Related { of, .. } => self.of(scope, of).is_some(),
            Test::Saved(name) => self.saved.contains_key(name),
            Test::File(ino) => self.things.contains_key(ino),
            _ => true,
        }
    }

    fn of(&self, scope: Ino, of: &Entry) -> Option<Ino> {
        match of {
            Entry::Name(name) => self.child(scope, name),
            Entry::Ino(ino) => self.things.contains_key(ino).then_some(*ino),
        }
    }

    fn meant(&self, tag: &Tag) -> Tag {
        let alias = self.aliases.iter().find(|(alias, _)| alias.fold() == tag.fold());
        alias.map_or_else(|| tag.clone(), |(_, meant)| meant.clone())
    }

    /// Tags by hand, by taggers, and by implication.
    fn carried(&self, thing: &Thing) -> Vec<Tag> {
        let said = thing.said.iter().filter_map(|said| Tag::parse(said).ok());
        let mut carried: Vec<Tag> =
            thing.tags.iter().cloned().chain(said.filter(|said| !thing.vetoes.contains(said))).collect();
        let implied = self.implied.iter().filter(|(first, _)| carried.iter().any(|tag| tag.is_within(first)));
        let implied: Vec<Tag> = implied.map(|(_, implied)| implied.clone()).collect();
        carried.extend(implied);
        carried
    }

    fn fits(&self, scope: Ino, thing: &Thing, clause: &Clause) -> bool {
        clause.atoms.iter().any(|atom| self.passes(scope, thing, &atom.test) != atom.negated)
    }

    fn passes(&self, scope: Ino, thing: &Thing, test: &Test) -> bool {
        let carried = self.carried(thing);
        let value = |key: &str| {
            let values = carried.iter().filter_map(Tag::key_value).filter(|(known, _)| *known == key);
            let said = thing.said.iter().filter_map(|said| said.split_once('=')).filter(|(known, _)| *known == key);
            values.chain(said).map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
        };
        let name = thing.names.first().map(|(_, name)| name.to_string()).unwrap_or_default();
        match test {
            Test::Tag(tag) => carried.iter().any(|carried| carried.is_within(&self.meant(tag))),
            Test::Has(Key::Size) => true,
            Test::Has(key) => !value(key.as_str()).is_empty(),
            Test::Compare { key: Key::Ext, value, .. } => {
                name.rsplit_once('.').is_some_and(|(_, ext)| ext == value.to_text())
            }
            Test::Compare { key, op: Compare::Equal, value: wanted } => value(key.as_str()).contains(&wanted.to_text()),
            Test::Date(date) => (date.year(), date.month().unwrap_or(1), date.day().unwrap_or(1)) == (1970, 1, 1),
            Test::Range { key: Key::Size, .. } => thing.attr.size >= 1024,
            Test::All | Test::Recent => true,
            Test::Untagged => thing.tags.is_empty(),
            Test::File(ino) => thing.attr.ino == *ino,
            Test::Saved(saved) => {
                let query = self.saved.get(saved).and_then(|saved| expr::parse_expr(saved, &Context::default()).ok());
                query.is_some_and(|query| query.clauses.iter().all(|clause| self.fits(scope, thing, clause)))
            }
            Test::Related { of, relation } => self.of(scope, of).is_some_and(|of| {
                let related = self.related(of);
                related.iter().any(|one| one.ino == thing.attr.ino && one.relation == relation.as_str())
            }),
            _ => false,
        }
    }

    pub(super) fn path(&self, scope: Ino, ino: Ino) -> Option<Vec<Name>> {
        let (mut names, mut at) = (Vec::new(), ino);
        while at != scope {
            let (parent, name) = self.things.get(&at)?.names.first()?;
            names.push(name.clone());
            at = *parent;
        }
        names.reverse();
        Some(names)
    }

    fn is_visible(&self, viewer: &Viewer, ino: Ino) -> bool {
        let (mut at, mut wanted) = (ino, Wanted::SEARCH.and(Wanted::READ));
        while at != Ino::ROOT {
            let Some((parent, _)) = self.things.get(&at).and_then(|thing| thing.names.first()) else { return false };
            let Some(above) = self.things.get(parent) else { return false };
            let attr = &above.attr;
            let guard = Guard { mode: attr.mode, uid: attr.uid, gid: attr.gid, acl: above.acl.as_deref() };
            if !guard.permits(viewer, wanted) {
                return false;
            }
            (at, wanted) = (*parent, Wanted::SEARCH);
        }
        true
    }

    /// What fits, with unique names.
    fn hits(&self, viewer: &Viewer, sought: &Sought) -> Vec<Hit> {
        let fitting = self.things.values().filter(|thing| {
            let ino = thing.attr.ino;
            let below = ino != sought.scope && self.path(sought.scope, ino).is_some();
            let clauses = &sought.query.clauses;
            below && self.is_visible(viewer, ino) && clauses.iter().all(|clause| self.fits(sought.scope, thing, clause))
        });
        let mut taken = Vec::new();
        let hit = |thing: &Thing| {
            let (ino, kind) = (thing.attr.ino, thing.attr.kind);
            let mut name = thing.names.first().map(|(_, name)| name.clone()).unwrap();
            if taken.contains(&name) || is_view_name(name.as_bytes()) {
                name = id_name(ino, &name);
            }
            taken.push(name.clone());
            Hit { ino, kind, name, permille: 1000 }
        };
        fitting.map(hit).collect()
    }

    fn is_id_name(&self, ino: Ino, name: &Name) -> bool {
        let id = name.to_string().split_once('~').map(|(_, id)| id.split('.').next().unwrap_or_default().to_owned());
        let base = self.things.get(&ino).and_then(|thing| thing.names.first());
        id.and_then(|id| parse_id(&id)) == Some(ino) && base.is_some_and(|(_, base)| id_name(ino, base) == *name)
    }

    fn facets(&self, viewer: &Viewer, sought: &Sought) -> Vec<Facet> {
        let mut counts = BTreeMap::<String, u64>::new();
        for hit in self.hits(viewer, sought) {
            let thing = &self.things[&hit.ino];
            for tag in self.carried(thing) {
                *counts.entry(tag.as_str().to_owned()).or_default() += 1;
            }
            // Nobody could set these.
            for said in thing.said.iter().filter(|said| Tag::parse(said).is_err()) {
                *counts.entry(said.clone()).or_default() += 1;
            }
        }
        let mut facets: Vec<Facet> = counts.into_iter().map(|(name, count)| Facet { name, count }).collect();
        facets.sort_by_key(|facet| std::cmp::Reverse(facet.count));
        facets
    }

    fn top(&self, viewer: &Viewer, scope: Ino) -> Vec<Facet> {
        let used = self.facets(viewer, &Sought { scope, query: Query::default() });
        let names = used.into_iter().map(|facet| facet.name).chain(self.catalogue.iter().map(ToString::to_string));
        let first = |name: String| match name.split_once('=') {
            Some((key, _)) => format!("{key}="),
            None => name.split(':').next().unwrap_or_default().to_owned(),
        };
        let mut names: Vec<String> = names.map(first).collect();
        names.sort();
        names.dedup();
        names.into_iter().map(|name| Facet { name, count: 1 }).collect()
    }

    fn marks(&self, thing: &Thing) -> GraphAnswer {
        let said = thing.said.iter().filter(|said| !thing.vetoes.iter().any(|veto| veto.as_str() == said.as_str()));
        let mark = |name: &String| Mark { name: name.clone(), tagger: "type".to_owned(), version: 1, permille: 900 };
        let examined = if thing.attr.kind == FileKind::File { Examined::Done } else { Examined::Never };
        GraphAnswer::Marks { marks: said.map(mark).collect(), examined }
    }

    fn related(&self, ino: Ino) -> Vec<RelatedTo> {
        let mut related = Vec::new();
        let mut add = |relation: Relation, ino: Ino, source: &str| {
            let (relation, source) = (relation.as_str().to_owned(), source.to_owned());
            related.push(RelatedTo { relation, ino, permille: 1000, source });
        };
        for thing in self.things.values() {
            for (relation, to) in &thing.related {
                let from = thing.attr.ino;
                let (forth, back) = match relation {
                    HandRelation::LinksTo => (Relation::LinksTo, Relation::LinkedFrom),
                    HandRelation::DerivedFrom => (Relation::Sources, Relation::Derived),
                    HandRelation::VersionOf => (Relation::Versions, Relation::Versions),
                    HandRelation::RelatedTo => (Relation::Related, Relation::Related),
                };
                if from == ino {
                    add(forth, *to, "user");
                }
                if *to == ino {
                    add(back, from, "user");
                }
            }
            let sized = |ino: Ino| self.things.get(&ino).map(|thing| thing.attr.size).filter(|size| *size > 0);
            if thing.attr.ino != ino && sized(ino).is_some() && sized(ino) == sized(thing.attr.ino) {
                add(Relation::SameContent, thing.attr.ino, "hash");
            }
        }
        related
    }

    fn tags(&self, after: &str, limit: u32) -> Vec<(TagId, TagFacts, u64)> {
        let facts = |(at, tag): (usize, &Tag)| {
            let of = |(alias, meant): &(Tag, Tag)| (meant == tag).then(|| alias.clone());
            let owner = self.owners.get(&tag.fold()).copied().unwrap_or(0);
            let aliases = self.aliases.iter().filter_map(of).collect();
            let facts = TagFacts { name: tag.clone(), aliases, implies: Vec::new(), merged_into: None, owner };
            let carriers = self.things.values().filter(|thing| thing.tags.contains(tag)).count();
            (TagId::new(at as u64 + 1).unwrap(), facts, carriers as u64)
        };
        let mut tags: Vec<_> = self.catalogue.iter().enumerate().map(facts).collect();
        tags.sort_by_key(|(_, facts, _)| facts.name.fold());
        tags.retain(|(_, facts, _)| facts.name.fold().as_str() > after);
        tags.truncate(limit as usize);
        tags
    }
}

fn id_name(ino: Ino, name: &Name) -> Name {
    let text = name.to_string();
    let (stem, ext) =
        text.rsplit_once('.').map_or((text.as_str(), String::new()), |(stem, ext)| (stem, format!(".{ext}")));
    Name::new(format!("{stem}~{}{ext}", ino_id(ino)).as_bytes()).unwrap()
}
