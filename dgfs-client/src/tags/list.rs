//! What virtual directories list, page by page.
//!
//! Never lists a name that would not lead to what it is listed as, and nothing that only looking makes. A cookie is the inode
//! number of what was found, or the hash of a tag's name: a listing goes on behind it whatever came and went meanwhile. What the
//! kernel had no room for is kept with the handle for its next request.

use std::sync::Arc;

use parking_lot::Mutex;

use dgfs_proto::attr::FileKind;
use dgfs_proto::graph::{GraphAnswer, GraphRequest, Viewer};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::{FACETS_MAX, GRAPH_PAGE_MAX};
use dgfs_proto::name::name_hash;
use dgfs_proto::query::{Key, Relation};
use dgfs_proto::status::Status;

use crate::tags::kept::{Found, Question};
use crate::tags::lookup::{View, path_of, value_name};
use crate::tags::nodes::{Node, Nodes};
use crate::tags::path::{LISTED_AT_TOP, Meaning, REFINE, Special, Spot, component_of};

/// Hits asked for at once: about two kernel replies.
pub(crate) const PAGE: u32 = 256;
const _: () = assert!(PAGE <= GRAPH_PAGE_MAX);
/// Cookies below are for what is listed first; 1 and 2 are the dots.
const COOKIE_BODY: u64 = 256;
const COOKIE_FIRST: u64 = 3;

/// An entry of a virtual directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagEntry {
    /// The number that a look-up of it would give.
    pub ino: Ino,
    /// What it is.
    pub kind: FileKind,
    /// At most 255 bytes.
    pub name: Vec<u8>,
    /// Where a listing goes on behind it; above 2.
    pub cookie: u64,
    pub(crate) node: Node,
}

impl TagEntry {
    pub(crate) fn new(nodes: &Nodes, name: Vec<u8>, node: Node, cookie: u64) -> Self {
        let kind = match &node {
            Node::Directory(_) => FileKind::Directory,
            Node::Entry { .. } | Node::Refinement { .. } | Node::Saved { .. } => FileKind::Symlink,
            Node::File { .. } => FileKind::File,
        };
        Self { ino: nodes.number(&node), kind, name, cookie, node }
    }
}

/// An open virtual directory.
pub(crate) struct OpenListing {
    pub(crate) at: Arc<Spot>,
    pub(crate) ino: Ino,
    /// Who opened it.
    pub(crate) viewer: Viewer,
    page: Mutex<Page>,
}

/// Entries in the order of their cookies, all of those behind `after`.
#[derive(Default)]
struct Page {
    after: u64,
    entries: Vec<TagEntry>,
    /// Nothing is behind them.
    end: bool,
}

impl OpenListing {
    pub(crate) fn new(at: Arc<Spot>, ino: Ino, viewer: Viewer) -> Self {
        Self { at, ino, viewer, page: Mutex::default() }
    }

    fn kept(&self, cookie: u64) -> Option<Vec<TagEntry>> {
        let page = self.page.lock();
        // From the start everything is asked anew, as after rewinddir(3).
        if cookie < COOKIE_BODY || cookie < page.after {
            return None;
        }
        let rest: Vec<TagEntry> = page.entries.iter().filter(|entry| entry.cookie > cookie).cloned().collect();
        (!rest.is_empty() || page.end).then_some(rest)
    }
}

impl View<'_> {
    /// Entries behind `cookie`, 0 (or a dot's) at first; none: the end.
    pub(crate) async fn list(&self, open: &OpenListing, cookie: u64) -> Result<Vec<TagEntry>, Status> {
        if let Some(rest) = open.kept(cookie) {
            return Ok(rest);
        }
        let mut entries = if cookie < COOKIE_BODY { self.first(&open.at).await? } else { Vec::new() };
        entries.retain(|entry| entry.cookie > cookie);
        let after = cookie.max(COOKIE_BODY);
        let (body, end) = match &open.at.meaning {
            Meaning::Query => self.hits(&open.at, after - COOKIE_BODY).await?,
            Meaning::Top => (self.hashed(&open.at, after, self.top(&open.at).await?), true),
            Meaning::Values(key) => (self.hashed(&open.at, after, self.values(&open.at, key).await?), true),
            Meaning::Refine => (self.hashed(&open.at, after, self.refinements(&open.at).await?), true),
            Meaning::Saved => (self.hashed(&open.at, after, self.saved_nodes(&open.at).await?), true),
            Meaning::Dates => (self.hashed(&open.at, after, self.dates(&open.at).await?), true),
            Meaning::Relations(_) => (self.hashed(&open.at, after, relations(&open.at)), true),
            Meaning::Of | Meaning::Argument => (Vec::new(), true),
        };
        *open.page.lock() = Page { after, entries: body.clone(), end };
        entries.extend(body);
        Ok(entries)
    }

    /// What stands before everything else.
    async fn first(&self, at: &Arc<Spot>) -> Result<Vec<TagEntry>, Status> {
        let directory = |name: &str| Some((name.to_owned(), Node::Directory(Arc::new(at.child(name).ok()?))));
        let counts =
            || (Special::Counts.name().to_owned(), Node::File { at: Arc::clone(at), special: Special::Counts });
        let nodes: Vec<(String, Node)> = match at.meaning {
            Meaning::Top => LISTED_AT_TOP.iter().filter_map(|name| directory(name)).chain([counts()]).collect(),
            // The months of a year, or the days of a month: all of them have cookies here.
            Meaning::Query => directory(REFINE).into_iter().chain([counts()]).chain(self.dates(at).await?).collect(),
            Meaning::Values(_)
            | Meaning::Refine
            | Meaning::Of
            | Meaning::Relations(_)
            | Meaning::Saved
            | Meaning::Dates
            | Meaning::Argument => Vec::new(),
        };
        let entries = (COOKIE_FIRST..COOKIE_BODY).zip(nodes);
        Ok(entries.map(|(cookie, (name, node))| self.listed(name.into_bytes(), &node, cookie)).collect())
    }

    /// Years in `@date`, months in a year and days in a month, in which something lies.
    async fn dates(&self, at: &Arc<Spot>) -> Result<Vec<(String, Node)>, Status> {
        let Some(within) = at.dates() else { return Ok(Vec::new()) };
        let names = self.facets(GraphRequest::Dates { sought: at.sought(), within }).await?;
        let directory = |name: String| {
            let spot = at.child(&name).ok()?;
            Some((name, Node::Directory(Arc::new(spot))))
        };
        Ok(names.into_iter().filter_map(directory).collect())
    }

    fn listed(&self, name: Vec<u8>, node: &Node, cookie: u64) -> TagEntry {
        TagEntry::new(self.nodes, name, node.clone(), cookie)
    }

    /// A page of what fits, behind an inode's number.
    async fn hits(&self, at: &Arc<Spot>, after: u64) -> Result<(Vec<TagEntry>, bool), Status> {
        let moment = self.kept.now(self.core);
        let first = Question::page(self.viewer, at);
        let known = if after == 0 { self.kept.take(self.core, &first) } else { None };
        let (hits, end) = match known {
            Some(Found::Page(hits, end)) => (hits, end),
            Some(Found::Entry(_) | Found::Directory | Found::Path(_) | Found::Changed(_)) | None => {
                let search = GraphRequest::Search { sought: at.sought(), after: Ino::new(after), limit: PAGE };
                match self.core.ask_graph(self.viewer, search).await?.answer {
                    GraphAnswer::Hits { hits, end, changed } => {
                        self.kept.put(moment, Question::changed(self.viewer, at), Found::Changed(changed));
                        (hits, end)
                    }
                    _ => return Err(Status::Malformed),
                }
            }
        };
        for hit in &hits {
            let question = Question::name(self.viewer, at, hit.name.as_bytes());
            self.kept.put(moment, question, Found::Entry(hit.ino));
        }
        self.kept.list(after == 0, hits.iter().map(|hit| hit.ino));
        // A page that does not lead further would be asked for for ever.
        let end = end || hits.is_empty();
        let hits = hits.into_iter().filter(|hit| hit.ino.get() > after);
        let listed = hits.map(|hit| {
            let node = Node::Entry { at: Arc::clone(at), ino: hit.ino };
            self.listed(hit.name.as_bytes().to_vec(), &node, hit.ino.get().saturating_add(COOKIE_BODY))
        });
        Ok((listed.collect(), end))
    }

    /// Entries in the order of their names' hashes. Of two with one hash the second is left out: no cookie would tell them apart.
    fn hashed(&self, _: &Arc<Spot>, after: u64, nodes: Vec<(String, Node)>) -> Vec<TagEntry> {
        let volume = self.core.volume.uuid;
        let mut entries: Vec<TagEntry> = nodes
            .into_iter()
            .map(|(name, node)| {
                let cookie = COOKIE_BODY + name_hash(volume, name.as_bytes());
                self.listed(name.into_bytes(), &node, cookie)
            })
            .filter(|entry| entry.cookie > after)
            .collect();
        entries.sort_by_key(|entry| entry.cookie);
        entries.dedup_by_key(|entry| entry.cookie);
        entries
    }

    async fn facets(&self, request: GraphRequest) -> Result<Vec<String>, Status> {
        match self.core.ask_graph(self.viewer, request).await?.answer {
            GraphAnswer::Facets(facets) => {
                Ok(facets.into_iter().take(FACETS_MAX as usize).map(|facet| facet.name).collect())
            }
            _ => Err(Status::Malformed),
        }
    }

    /// Tags and keys in use.
    async fn top(&self, at: &Arc<Spot>) -> Result<Vec<(String, Node)>, Status> {
        let names = self.facets(GraphRequest::Top { scope: at.scope }).await?;
        let directory = |name: &String| {
            let component = component_of(name)?;
            let spot = at.child(&component).ok()?;
            Some((component, Node::Directory(Arc::new(spot))))
        };
        Ok(names.iter().filter_map(directory).collect())
    }

    /// Values of a key.
    async fn values(&self, at: &Arc<Spot>, key: &Key) -> Result<Vec<(String, Node)>, Status> {
        let request = GraphRequest::Values { scope: at.scope, key: key.clone(), limit: FACETS_MAX };
        let names = self.facets(request).await?;
        let directory = |facet: &String| {
            let name = value_name(facet, key)?;
            let spot = crate::tags::lookup::value_spot(at, &name)?;
            Some((name, Node::Directory(Arc::new(spot))))
        };
        Ok(names.iter().filter_map(directory).collect())
    }

    /// Tags that occur together with what fits.
    async fn refinements(&self, at: &Arc<Spot>) -> Result<Vec<(String, Node)>, Status> {
        let request = GraphRequest::Facets { sought: at.sought(), prefix: String::new(), limit: FACETS_MAX };
        let names = self.facets(request).await?;
        let link = |name: &String| {
            let component = component_of(name)?;
            Some((component.clone(), Node::Refinement { at: Arc::clone(at), component }))
        };
        Ok(names.iter().filter_map(link).collect())
    }

    /// Saved queries.
    async fn saved_nodes(&self, at: &Arc<Spot>) -> Result<Vec<(String, Node)>, Status> {
        let saved = self.all_saved().await?;
        let node = |(name, expression): (String, String)| {
            let component = saved_component(&name);
            let spot = at.child(&component).ok()?;
            let node = match path_of(&expression) {
                Some(_) => Node::Saved { at: Arc::clone(at), name },
                None => Node::Directory(Arc::new(spot)),
            };
            Some((component, node))
        };
        Ok(saved.into_iter().filter_map(node).collect())
    }
}

/// A saved query's name as a component: `%` would begin an escape there.
pub(crate) fn saved_component(name: &str) -> String {
    name.replace('%', "%25")
}

fn relations(at: &Arc<Spot>) -> Vec<(String, Node)> {
    let directory = |relation: Relation| {
        let spot = at.child(relation.as_str()).ok()?;
        Some((relation.as_str().to_owned(), Node::Directory(Arc::new(spot))))
    };
    Relation::ALL.into_iter().filter_map(directory).collect()
}
