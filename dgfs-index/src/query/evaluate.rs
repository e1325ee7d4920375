//! From a query to the set of inodes that fit.
//!
//! Never shows anything and never asks who looks. Always: clauses are taken in the order of what they are expected to
//! leave, so that the rarest one anchors the rest, and those that must look at each inode come last and look only at what
//! is left.

use std::borrow::Cow;
use std::collections::HashMap;

use roaring::RoaringBitmap;

use dgfs_proto::attr::FileKind;
use dgfs_proto::graph::Viewer;
use dgfs_proto::ids::Ino;
use dgfs_proto::query::expr::parse_expr;
use dgfs_proto::query::{Atom, Clause, Compare, Context, Glob, Query, Test};
use dgfs_proto::status::Status;
use dgfs_proto::tag::fold;

use crate::graph::columns::{Doc, Facts};
use crate::graph::text::match_expression;
use crate::query::{Ask, Refusal};

/// Saved queries inside of one another.
const SAVED_DEPTH_MAX: usize = 8;
/// `@recent`: changed within so many nanoseconds (a week).
const RECENT_NS: i64 = 7 * 86_400 * 1_000_000_000;

/// How well inodes fit: 0 to 1,000, of those for which it is known.
pub(crate) type Scores = HashMap<Doc, u16>;

/// What fits, whoever looks.
pub(crate) struct Found {
    pub(crate) docs: RoaringBitmap,
    /// From relations; empty where the query asks for none.
    pub(crate) scores: Scores,
    /// How it was found: clauses in the order taken.
    pub(crate) plan: Vec<PlanStep>,
}

/// One clause of a plan.
pub(crate) struct PlanStep {
    /// The clause as people write it.
    pub(crate) text: String,
    /// What was expected and what was left, of everybody's files.
    pub(crate) counts: String,
}

/// What is found out on the way.
#[derive(Default)]
struct Findings {
    scores: Scores,
    /// Saved queries that were evaluated: each once, however often the others name it.
    saved: HashMap<String, RoaringBitmap>,
}

/// A test, ready to be put to inodes.
pub(crate) enum Ready<'a> {
    /// These fit (some may not be live).
    Docs(Cow<'a, RoaringBitmap>),
    /// Looks at each.
    Scan(Box<dyn Fn(Doc) -> bool + 'a>),
}

impl Ready<'_> {
    pub(crate) fn none() -> Self {
        Self::Docs(Cow::Owned(RoaringBitmap::new()))
    }
}

struct ReadyClause<'a> {
    /// Whether it is negated, and what is tested.
    atoms: Vec<(bool, Ready<'a>)>,
    text: String,
    estimate: u64,
    scans: bool,
}

/// Who asks, and from where: relations name other inodes by what the asker can reach.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) scope: Ino,
    pub(crate) viewer: &'a Viewer,
}

impl<'a> Ask<'a> {
    /// Evaluates a query.
    pub(crate) fn find(&self, query: &Query, asker: Asker<'a>) -> Result<Found, Refusal> {
        if query.check().is_err() {
            return Err(Status::Malformed.into());
        }
        let mut findings = Findings::default();
        let mut plan = Vec::new();
        let docs = self.find_within(query, asker, 0, &mut findings, &mut plan)?;
        Ok(Found { docs, scores: findings.scores, plan })
    }

    fn find_within(
        &self,
        query: &Query,
        asker: Asker<'a>,
        depth: usize,
        findings: &mut Findings,
        plan: &mut Vec<PlanStep>,
    ) -> Result<RoaringBitmap, Refusal> {
        let mut clauses = Vec::with_capacity(query.clauses.len());
        for clause in &query.clauses {
            clauses.push(self.prepare_clause(clause, asker, depth, findings)?);
        }
        clauses.sort_by_key(|clause| (clause.scans, clause.estimate));
        let only_negated = query.clauses.iter().flat_map(|clause| &clause.atoms).all(|atom| atom.negated);
        let mut docs = if only_negated {
            // What a question says nothing positive about is meant of files.
            plan.push(PlanStep { text: "files".to_owned(), counts: format!(": {}", self.files().len()) });
            Cow::Owned(self.files())
        } else {
            Cow::Borrowed(self.graph.columns.live())
        };
        for clause in &clauses {
            let left = self.take_clause(clause, &docs)?;
            let scanned = if clause.scans { " (each is looked at)" } else { "" };
            let counts = format!(": expected {}{scanned}, left {}", clause.estimate, left.len());
            plan.push(PlanStep { text: clause.text.clone(), counts });
            docs = Cow::Owned(left);
            if docs.is_empty() {
                break;
            }
        }
        Ok(docs.into_owned())
    }

    /// All that is no directory.
    pub(crate) fn files(&self) -> RoaringBitmap {
        self.graph.columns.live() - self.graph.columns.directories()
    }

    fn prepare_clause(
        &self,
        clause: &Clause,
        asker: Asker<'a>,
        depth: usize,
        findings: &mut Findings,
    ) -> Result<ReadyClause<'a>, Refusal> {
        let live = self.graph.columns.live().len();
        let mut ready = ReadyClause { atoms: Vec::new(), text: clause_text(clause), estimate: 0, scans: false };
        for Atom { negated, test } in &clause.atoms {
            self.deadline.check()?;
            let test = self.prepare_test(test, asker, depth, findings)?;
            let estimate = match &test {
                Ready::Docs(docs) if *negated => live.saturating_sub(docs.len()),
                Ready::Docs(docs) => docs.len(),
                Ready::Scan(_) => {
                    ready.scans = true;
                    live
                }
            };
            ready.estimate = ready.estimate.saturating_add(estimate).min(live);
            ready.atoms.push((*negated, test));
        }
        Ok(ready)
    }

    fn take_clause(&self, clause: &ReadyClause<'_>, among: &RoaringBitmap) -> Result<RoaringBitmap, Refusal> {
        let mut taken: Option<RoaringBitmap> = None;
        for (negated, test) in &clause.atoms {
            let fit = match (test, negated) {
                (Ready::Docs(docs), false) => among & docs.as_ref(),
                (Ready::Docs(docs), true) => among - docs.as_ref(),
                (Ready::Scan(fits), negated) => self.scan(among, |doc| fits(doc) != *negated)?,
            };
            taken = Some(match taken {
                Some(taken) => taken | fit,
                None => fit,
            });
        }
        Ok(taken.unwrap_or_default())
    }

    fn scan(&self, among: &RoaringBitmap, fits: impl Fn(Doc) -> bool) -> Result<RoaringBitmap, Refusal> {
        let mut taken = RoaringBitmap::new();
        let mut steps = 0;
        for doc in among {
            self.deadline.check_sometimes(&mut steps)?;
            if fits(doc) {
                // Documents come in order.
                let _ = taken.try_push(doc);
            }
        }
        Ok(taken)
    }

    fn prepare_test(
        &self,
        test: &Test,
        asker: Asker<'a>,
        depth: usize,
        findings: &mut Findings,
    ) -> Result<Ready<'a>, Refusal> {
        Ok(match test {
            Test::Tag(tag) => self.prepare_names(tag.fold())?,
            Test::Has(key) => self.prepare_has(key)?,
            Test::Compare { key, op, value } => self.prepare_comparison(key, *op, value)?,
            Test::Range { key, low, high } => self.prepare_range(key, low.as_ref(), high.as_ref())?,
            Test::Text(words) => self.prepare_text(words)?,
            Test::Name(glob) => self.prepare_name(glob),
            Test::Related { of, relation } => {
                let related = self.related_to(of, *relation, asker)?;
                let docs = related.keys().copied().collect();
                for (doc, permille) in related {
                    let known = findings.scores.entry(doc).or_default();
                    *known = permille.max(*known);
                }
                Ready::Docs(Cow::Owned(docs))
            }
            Test::All => Ready::Docs(Cow::Owned(self.files())),
            Test::Untagged => {
                let graph = self.graph;
                Ready::Scan(Box::new(move |doc| {
                    graph.tags_of(doc).is_empty() && graph.columns.facts(doc).kind != FileKind::Directory
                }))
            }
            Test::Recent => {
                let since = self.now_ns.saturating_sub(RECENT_NS);
                self.scan_facts(move |facts| facts.kind != FileKind::Directory && facts.mtime_ns >= since)
            }
            Test::Saved(name) => Ready::Docs(Cow::Owned(self.saved(name, asker, depth, findings)?)),
            Test::Date(date) => self.prepare_date(*date),
            Test::File(ino) => Ready::Docs(Cow::Owned(self.graph.columns.doc(*ino).into_iter().collect())),
        })
    }

    /// A test of what is kept of each inode.
    pub(crate) fn scan_facts(&self, fits: impl Fn(&Facts) -> bool + 'a) -> Ready<'a> {
        let ask = *self;
        Ready::Scan(Box::new(move |doc| fits(&ask.facts(doc))))
    }

    /// A tag or word, and what lies below it.
    fn prepare_names(&self, name: String) -> Result<Ready<'a>, Refusal> {
        let tags = self.graph.tags.exactly(&name);
        if let [tag] = *tags
            && self.graph.tags.is_plain(tag)
            && !self.graph.is_said(&name)
            && let Some(entry) = self.graph.tags.get(tag)
        {
            return Ok(Ready::Docs(Cow::Borrowed(&entry.docs)));
        }
        Ok(Ready::Docs(Cow::Owned(self.carriers([name])?)))
    }

    fn prepare_text(&self, words: &[String]) -> Result<Ready<'a>, Refusal> {
        let Some(expression) = match_expression(words) else { return Ok(Ready::none()) };
        let mut docs = RoaringBitmap::new();
        let mut steps = 0;
        let mut late = Ok(());
        self.readers.text(&expression, |ino| {
            docs.extend(self.graph.columns.doc(ino));
            late = self.deadline.check_sometimes(&mut steps);
            late.is_ok()
        })?;
        late?;
        Ok(Ready::Docs(self.readable(Cow::Owned(docs))?))
    }

    fn prepare_name(&self, glob: &Glob) -> Ready<'a> {
        let (graph, glob) = (self.graph, glob.clone());
        Ready::Scan(Box::new(move |doc| graph.columns.links(doc).any(|link| glob.matches(graph.name(link.name)))))
    }

    fn saved(
        &self,
        name: &str,
        asker: Asker<'a>,
        depth: usize,
        findings: &mut Findings,
    ) -> Result<RoaringBitmap, Refusal> {
        if let Some(known) = findings.saved.get(name) {
            return Ok(known.clone());
        }
        if depth >= SAVED_DEPTH_MAX {
            return Err(Refusal::Sentence(format!(
                "saved query \"{name}\" lies {SAVED_DEPTH_MAX} saved queries deep: does it name itself?"
            )));
        }
        let expression = self.graph.saved.get(name).ok_or(Status::NotFound)?;
        let query = parse_expr(expression, &Context::default())
            .map_err(|error| Refusal::Sentence(format!("saved query \"{name}\": {error}")))?;
        let found = self.find_within(&query, asker, depth + 1, findings, &mut Vec::new())?;
        findings.saved.insert(name.to_owned(), found.clone());
        Ok(found)
    }
}

/// A clause as people write it.
pub(crate) fn clause_text(clause: &Clause) -> String {
    dgfs_proto::query::show::show_expr(&Query { clauses: vec![clause.clone()] })
}

/// Folded names of the tags and values that a query asks for plainly.
pub(crate) fn asked_tags(query: &Query) -> Vec<String> {
    let plain = |clause: &Clause| match clause.atoms.as_slice() {
        [Atom { negated: false, test: Test::Tag(tag) }] => Some(fold(tag.as_str())),
        [Atom { negated: false, test: Test::Compare { key, op: Compare::Equal, value } }] => {
            Some(fold(&format!("{}={}", key.as_str(), value.to_text())))
        }
        _ => None,
    };
    query.clauses.iter().filter_map(plain).collect()
}
