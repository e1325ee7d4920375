//! Requests that are answered from the graph as it is now.
//!
//! Never waits: what has to wait, or changes something, is the service's.

use std::collections::HashMap;

use dgfs_proto::attr::FileKind;
use dgfs_proto::graph::answer::{DuplicateSet, Examined, FailedTagger, Mark};
use dgfs_proto::graph::request::Sought;
use dgfs_proto::graph::{GraphAnswer, GraphRequest, Viewer};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::{FACETS_MAX, GRAPH_PAGE_MAX, PLACES_MAX, SYMLINK_BYTES_MAX};
use dgfs_proto::name::Name;
use dgfs_proto::query::{Clause, Entry, Key, Query, Test};
use dgfs_proto::status::Status;
use dgfs_proto::tag::fold;
use dgfs_taggers::findings::one_line;

use crate::graph::columns::NO_CONTENT;
use crate::graph::tags::below;
use crate::query::classes::Class;
use crate::query::evaluate::{Asker, asked_tags};
use crate::query::facets::shows_all;
use crate::query::results::{ResultCache, may_be_shown};
use crate::query::view::View;
use crate::query::{Ask, Refusal};
use crate::store::Finding;

/// A question, and what it is answered from.
pub(crate) struct Question<'a> {
    pub(crate) ask: Ask<'a>,
    pub(crate) viewer: &'a Viewer,
    pub(crate) cache: &'a ResultCache,
    /// Taggers that are to look at every file, with their versions.
    pub(crate) taggers: &'a [(String, u32)],
}

fn page(limit: u32) -> usize {
    limit.clamp(1, GRAPH_PAGE_MAX) as usize
}

fn facet_page(limit: u32) -> usize {
    limit.clamp(1, FACETS_MAX) as usize
}

impl<'a> Question<'a> {
    /// Answers it; `None` for what is not answered from the graph.
    pub(crate) fn answer(&self, request: &GraphRequest) -> Result<Option<GraphAnswer>, Refusal> {
        Ok(Some(match request {
            GraphRequest::Known { scope, clause } => self.known(*scope, clause)?,
            GraphRequest::Search { sought, after, limit } => self.search(sought, *after, page(*limit))?,
            GraphRequest::Entry { sought, name } => self.entry(sought, name)?,
            GraphRequest::Count(sought) => {
                GraphAnswer::Count(self.cache.results(&self.ask, sought, self.viewer)?.docs.len())
            }
            GraphRequest::Facets { sought, prefix, limit } => {
                let results = self.cache.results(&self.ask, sought, self.viewer)?;
                let asked = asked_tags(&sought.query);
                GraphAnswer::Facets(self.ask.facets(&results.docs, &fold(prefix), &asked, facet_page(*limit))?)
            }
            GraphRequest::Top { scope } => {
                let everything = self.cache.everything(&self.ask, *scope, self.viewer)?;
                GraphAnswer::Facets(self.ask.top(&everything.docs, shows_all(*scope), FACETS_MAX as usize)?)
            }
            GraphRequest::Values { scope, key, limit } => {
                let everything = self.cache.everything(&self.ask, *scope, self.viewer)?;
                GraphAnswer::Facets(self.ask.values(key, &everything.docs, facet_page(*limit))?)
            }
            GraphRequest::Dates { sought, within } => {
                let results = self.cache.results(&self.ask, sought, self.viewer)?;
                GraphAnswer::Facets(self.ask.dates(&results.docs, *within)?)
            }
            GraphRequest::Explain(sought) => GraphAnswer::Text(self.explain(sought)?),
            GraphRequest::Place { scope, ino } => GraphAnswer::Path(self.view(*scope).path(*ino)?),
            GraphRequest::Places { scope, inos } => self.places(*scope, inos)?,
            GraphRequest::Step { sought, name, clause } => match self.entry(sought, name) {
                Err(Refusal::Status(Status::NotFound)) => self.known(sought.scope, clause)?,
                answer => answer?,
            },
            GraphRequest::Marks(ino) => self.marks(*ino)?,
            GraphRequest::Related { ino, limit } => {
                GraphAnswer::Related(self.ask.relations(*ino, self.asker(Ino::ROOT), page(*limit))?)
            }
            GraphRequest::Duplicates { scope, limit } => self.duplicates(*scope, page(*limit))?,
            GraphRequest::Tags { after, limit } => self.tags(after, page(*limit))?,
            GraphRequest::Saved => {
                let saved = &self.ask.graph.saved;
                GraphAnswer::Saved(saved.iter().map(|(name, expression)| (name.clone(), expression.clone())).collect())
            }
            GraphRequest::Status
            | GraphRequest::Rebuild
            | GraphRequest::Check
            | GraphRequest::Watch { .. }
            | GraphRequest::Cypher(_)
            | GraphRequest::Tagger(_) => return Ok(None),
        }))
    }

    fn view(&self, scope: Ino) -> View<'a> {
        View::new(self.ask.graph, scope, self.viewer)
    }

    fn asker(&self, scope: Ino) -> Asker<'a> {
        Asker { scope, viewer: self.viewer }
    }

    fn search(&self, sought: &Sought, after: Option<Ino>, limit: usize) -> Result<GraphAnswer, Refusal> {
        let results = self.cache.results(&self.ask, sought, self.viewer)?;
        let (hits, end) = results.page(&self.ask, &self.view(sought.scope), after, limit)?;
        Ok(GraphAnswer::Hits { hits, end, changed: self.ask.graph.applied.at })
    }

    fn places(&self, scope: Ino, inos: &[Ino]) -> Result<GraphAnswer, Refusal> {
        if inos.len() > PLACES_MAX {
            return Err(Status::Malformed.into());
        }
        let view = self.view(scope);
        let fits =
            |names: &Vec<Name>| names.iter().map(|name| name.as_bytes().len() + 1).sum::<usize>() <= SYMLINK_BYTES_MAX;
        Ok(GraphAnswer::Places(inos.iter().map(|ino| view.path(*ino).ok().filter(fits)).collect()))
    }

    /// Tags are looked up as entries first, and few files are called as a tag is: then nothing need be evaluated.
    fn entry(&self, sought: &Sought, name: &Name) -> Result<GraphAnswer, Refusal> {
        if sought.query.check().is_ok() && !may_be_shown(&self.ask, name) {
            return Err(Status::NotFound.into());
        }
        let results = self.cache.results(&self.ask, sought, self.viewer)?;
        let hit = results.entry(&self.ask, &self.view(sought.scope), name)?;
        Ok(GraphAnswer::Hits { hits: vec![hit], end: true, changed: self.ask.graph.applied.at })
    }

    /// Is all that a clause names there? What follows from other people's files counts only where they can be reached.
    fn known(&self, scope: Ino, clause: &Clause) -> Result<GraphAnswer, Refusal> {
        if (Query { clauses: vec![clause.clone()] }).check().is_err() {
            return Err(Status::Malformed.into());
        }
        for atom in &clause.atoms {
            let known = match &atom.test {
                // Nobody carries what is not known: without it is a plain question, and stays one when the last carrier goes.
                Test::Tag(_) | Test::Has(_) | Test::Compare { .. } | Test::Range { .. } if atom.negated => true,
                Test::Tag(tag) => self.is_name(&tag.fold())?,
                Test::Has(key) | Test::Compare { key, .. } | Test::Range { key, .. } => self.is_key(key)?,
                Test::Related { of, .. } => self.ask.entry(of, self.asker(scope)).map(|_| true)?,
                Test::File(ino) => self.ask.entry(&Entry::Ino(*ino), self.asker(scope)).map(|_| true)?,
                Test::Saved(name) => self.ask.graph.saved.contains_key(name),
                Test::Text(_) | Test::Name(_) | Test::All | Test::Untagged | Test::Recent | Test::Date(_) => true,
            };
            if !known {
                return Err(Status::NotFound.into());
            }
        }
        Ok(GraphAnswer::Done)
    }

    fn is_name(&self, name: &str) -> Result<bool, Refusal> {
        let tags = &self.ask.graph.tags;
        if !tags.exactly(name).is_empty() || tags.named(&below(name)).next().is_some() {
            return Ok(true);
        }
        let said = self.ask.carriers([name.to_owned()])?;
        Ok(!self.cache.everything(&self.ask, Ino::ROOT, self.viewer)?.docs.is_disjoint(&said))
    }

    fn is_key(&self, key: &Key) -> Result<bool, Refusal> {
        let Key::Other(other) = key else { return Ok(true) };
        if Class::of_key(key).is_some() {
            return Ok(true);
        }
        let prefix = format!("{}=", other.as_str());
        if self.ask.graph.tags.named(&prefix).next().is_some() {
            return Ok(true);
        }
        let everything = self.cache.everything(&self.ask, Ino::ROOT, self.viewer)?;
        for (_, word) in self.ask.graph.words.with_prefix(&prefix) {
            if self.ask.said(word)?.is_some_and(|docs| !everything.docs.is_disjoint(&docs)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn explain(&self, sought: &Sought) -> Result<String, Refusal> {
        let clock = self.ask.deadline.clock;
        let began = clock.monotonic();
        let results = self.cache.results(&self.ask, sought, self.viewer)?;
        let took = clock.monotonic().saturating_sub(began);
        let mut text = format!("query: {}\n", dgfs_proto::query::show::show_expr(&sought.query));
        // Steps are taken before it is looked at what is within reach: their counts, and with them their order, tell of
        // everybody's files.
        let sees_all = self.viewer.uid == 0;
        if sees_all {
            let steps = (1..).zip(&results.plan);
            text.extend(steps.map(|(number, step)| format!("{number}. {}{}\n", step.text, step.counts)));
        }
        text.push_str(&format!("below directory {} and within reach: {}\n", sought.scope, results.docs.len()));
        let graph = self.ask.graph;
        if sees_all {
            text.push_str(&format!("{} inodes, {} tags\n", graph.columns.live().len(), graph.tags.len()));
        }
        text.push_str(&format!("index at seq {}\ntook {} us\n", graph.applied.seq, took.as_micros()));
        Ok(text)
    }

    fn marks(&self, ino: Ino) -> Result<GraphAnswer, Refusal> {
        let doc = self.ask.entry(&Entry::Ino(ino), self.asker(Ino::ROOT))?;
        if !self.ask.may_read(doc) {
            return Err(Status::AccessDenied.into());
        }
        let examination = self.ask.readers.examination(ino)?;
        let facts = self.ask.graph.columns.facts(doc);
        let mut marks = Vec::new();
        for finding in &examination.findings {
            let said = finding.marks.iter().filter(|(name, _)| !examination.vetoes.contains(&fold(name)));
            marks.extend(said.map(|(name, permille)| Mark {
                name: name.clone(),
                tagger: finding.tagger.clone(),
                version: finding.version,
                permille: (*permille).min(1000),
            }));
        }
        let has = |(tagger, version): &(String, u32)| {
            examination.findings.iter().any(|finding| finding.tagger == *tagger && finding.version == *version)
        };
        let failed = |finding: &Finding| {
            let reason = one_line(finding.failed.as_deref()?);
            Some(FailedTagger { tagger: finding.tagger.clone(), reason })
        };
        let failed: Vec<FailedTagger> = examination.findings.iter().filter_map(failed).collect();
        let examined = if facts.kind != FileKind::File || facts.unindexed {
            Examined::Never
        } else if !self.taggers.iter().all(has) || self.is_changed(ino, &examination)? {
            Examined::Pending
        } else if failed.is_empty() {
            Examined::Done
        } else {
            Examined::Failed(failed)
        };
        Ok(GraphAnswer::Marks { marks, examined })
    }

    /// Were its data changed since they were read?
    fn is_changed(&self, ino: Ino, examination: &crate::store::Examination) -> Result<bool, Refusal> {
        let Some(read) = examination.read else { return Ok(!self.taggers.is_empty()) };
        Ok(self.ask.readers.data_version(ino)?.is_some_and(|now| now != read.data_version))
    }

    fn duplicates(&self, scope: Ino, limit: usize) -> Result<GraphAnswer, Refusal> {
        let everything = self.cache.everything(&self.ask, scope, self.viewer)?;
        let mut by_content: HashMap<u32, Vec<Ino>> = HashMap::new();
        let columns = &self.ask.graph.columns;
        let mut steps = 0;
        for doc in &everything.docs {
            self.ask.deadline.check_sometimes(&mut steps)?;
            let facts = self.ask.facts(doc);
            if facts.content != NO_CONTENT
                && facts.kind == FileKind::File
                && let Some(ino) = columns.ino(doc)
            {
                by_content.entry(facts.content).or_default().push(ino);
            }
        }
        let size_of = |inos: &[Ino]| {
            let doc = inos.first().and_then(|ino| columns.doc(*ino));
            doc.map_or(0, |doc| columns.facts(doc).size)
        };
        let several = by_content.into_values().filter(|inos| inos.len() > 1);
        let mut sets: Vec<DuplicateSet> = several
            .map(|mut inos| {
                inos.sort_unstable();
                DuplicateSet { size: size_of(&inos), inos }
            })
            .collect();
        let wasted = |set: &DuplicateSet| set.size.saturating_mul(set.inos.len() as u64 - 1);
        sets.sort_by(|one, other| wasted(other).cmp(&wasted(one)).then_with(|| one.inos.cmp(&other.inos)));
        sets.truncate(limit);
        Ok(GraphAnswer::Duplicates(within_message(sets)))
    }

    fn tags(&self, after: &str, limit: usize) -> Result<GraphAnswer, Refusal> {
        let everything = self.cache.everything(&self.ask, Ino::ROOT, self.viewer)?;
        let graph = self.ask.graph;
        let mut list: Vec<_> = graph.tags.iter().filter(|(_, entry)| entry.fold.as_str() > after).collect();
        list.sort_by(|one, other| (&one.1.fold, one.1.id).cmp(&(&other.1.fold, other.1.id)));
        list.truncate(limit);
        let mut catalogue = Vec::with_capacity(list.len());
        for (_, entry) in list {
            self.ask.deadline.check()?;
            let carriers = self.ask.carriers([entry.fold.clone()])?;
            let count = everything.docs.intersection_len(&carriers);
            // A tag whose carriers are all out of reach is as unknown as they are.
            if count > 0 || entry.docs.is_empty() {
                catalogue.push((entry.id, entry.facts.clone(), count));
            }
        }
        Ok(GraphAnswer::Catalogue(catalogue))
    }
}

/// Inodes in one answer of duplicates: nine bytes each, far below what a message takes.
const DUPLICATES_MAX: usize = 50_000;

fn within_message(sets: Vec<DuplicateSet>) -> Vec<DuplicateSet> {
    let mut room = DUPLICATES_MAX;
    let mut kept = Vec::new();
    for mut set in sets {
        set.inos.truncate(room);
        room -= set.inos.len();
        if set.inos.len() < 2 {
            break;
        }
        kept.push(set);
    }
    kept
}
