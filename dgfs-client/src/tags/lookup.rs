//! Names below `.tags`: what they lead to, and what `stat` shows of it.
//!
//! Never makes anything: looking leaves no trace. Where a name can be two things the rule is: what the directory lists comes
//! first (an entry that was found, a value that occurs), then what the grammar makes of it. So a listed name always leads to what
//! it was listed as.

use std::sync::Arc;

use dgfs_proto::attr::{Attr, AttrFlags, FileKind, Timestamp};
use dgfs_proto::graph::request::Sought;
use dgfs_proto::graph::{GraphAnswer, GraphRequest, Viewer};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::{COMPONENT_BYTES_MAX, PLACES_MAX, SYMLINK_BYTES_MAX};
use dgfs_proto::name::Name;
use dgfs_proto::query::path::component_text;
use dgfs_proto::query::{Atom, Clause, Context, Entry, Key, Relation, Test, expr, show};
use dgfs_proto::status::Status;
use dgfs_proto::tag::fold;

use crate::core::Core;
use crate::tags::kept::{Found, Kept, Question};
use crate::tags::list::PAGE;
use crate::tags::nodes::{Node, Nodes};
use crate::tags::path::{Meaning, Special, Spot, is_hidden, value_component};

/// Rights of what is virtual: who may do what is decided by what it is done to.
const MODE_DIRECTORY: u16 = 0o777;
const MODE_LINK: u16 = 0o777;
const MODE_ANSWER: u16 = 0o444;
const MODE_ASK: u16 = 0o666;

/// A request's view: the mount, and who asks.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) core: &'a Arc<Core>,
    pub(crate) nodes: &'a Nodes,
    pub(crate) kept: &'a Kept,
    pub(crate) viewer: &'a Viewer,
}

impl View<'_> {
    /// What `name` leads to from `parent`.
    pub(crate) async fn lookup(&self, parent: &Node, name: &Name) -> Result<Node, Status> {
        let Node::Directory(at) = parent else { return Err(Status::NotDirectory) };
        if self.core.is_tags_name(name) {
            return Err(Status::NotFound);
        }
        let text = component_text(name.as_bytes());
        if let Some(special) = at.special(&text) {
            return Ok(Node::File { at: Arc::clone(at), special });
        }
        match &at.meaning {
            Meaning::Query => self.step(at, name, &text).await,
            Meaning::Values(_) => match self.value(at, &text).await? {
                Some(spot) => Ok(Node::Directory(Arc::new(spot))),
                None => self.component(at, &text).await,
            },
            Meaning::Refine => self.refinement(at, &text).await,
            Meaning::Saved => self.saved(at, &text).await,
            Meaning::Top | Meaning::Of | Meaning::Relations(_) | Meaning::Dates | Meaning::Argument => {
                self.component(at, &text).await
            }
        }
    }

    /// What a name in a query's directory leads to: an entry, or what the grammar makes of it.
    async fn step(&self, at: &Arc<Spot>, name: &Name, text: &str) -> Result<Node, Status> {
        let question = Question::name(self.viewer, at, name.as_bytes());
        match self.kept.get(self.core, &question) {
            Some(Found::Entry(ino)) => return Ok(Node::Entry { at: Arc::clone(at), ino }),
            Some(Found::Directory) => return self.component(at, text).await,
            Some(Found::Path(_) | Found::Page(..) | Found::Changed(_)) | None => {}
        }
        let child = at.child(text).ok().filter(|_| !is_hidden(text));
        let clause = child.as_ref().and_then(|spot| spot.last_clause().cloned());
        let (Some(child), Some(clause)) = (child, clause) else {
            // The grammar has a reason of its own to refuse it, or asks something else.
            return match self.entry(at, name).await {
                Ok(ino) => Ok(Node::Entry { at: Arc::clone(at), ino }),
                Err(Status::NotFound) => self.component(at, text).await,
                Err(status) => Err(status),
            };
        };
        let moment = self.kept.now(self.core);
        let asked = GraphRequest::Step { sought: at.sought(), name: name.clone(), clause };
        let found = match self.core.ask_graph(self.viewer, asked).await?.answer {
            GraphAnswer::Hits { hits, changed, .. } => {
                self.kept.put(moment, Question::changed(self.viewer, at), Found::Changed(changed));
                hits.first().map(|hit| hit.ino)
            }
            GraphAnswer::Done => None,
            _ => return Err(Status::Malformed),
        };
        self.kept.put(moment, question, found.map_or(Found::Directory, Found::Entry));
        Ok(match found {
            Some(ino) => Node::Entry { at: Arc::clone(at), ino },
            None => Node::Directory(Arc::new(child)),
        })
    }

    /// The inode that is shown as `name` in a query's directory.
    pub(crate) async fn entry(&self, at: &Spot, name: &Name) -> Result<Ino, Status> {
        let asked = GraphRequest::Entry { sought: at.sought(), name: name.clone() };
        match self.core.ask_graph(self.viewer, asked).await?.answer {
            GraphAnswer::Hits { hits, .. } => hits.first().map(|hit| hit.ino).ok_or(Status::NotFound),
            _ => Err(Status::Malformed),
        }
    }

    /// What the grammar makes of a name, if all that it names is known.
    async fn component(&self, at: &Arc<Spot>, text: &str) -> Result<Node, Status> {
        if is_hidden(text) {
            return Err(Status::NotFound);
        }
        let spot = at.child(text).map_err(|error| error.status())?;
        let question = Question::name(self.viewer, at, text.as_bytes());
        if self.kept.get(self.core, &question) == Some(Found::Directory) {
            return Ok(Node::Directory(Arc::new(spot)));
        }
        let clause = match &spot.meaning {
            // Whether there is such an entry is asked with any relation.
            Meaning::Relations(of) => {
                let test = Test::Related { of: of.clone(), relation: Relation::Tags };
                Some(Clause::from(Atom::from(test)))
            }
            _ => spot.last_clause().cloned(),
        };
        if let Some(clause) = clause {
            let moment = self.kept.now(self.core);
            let _ = self.core.ask_graph(self.viewer, GraphRequest::Known { scope: at.scope, clause }).await?;
            self.kept.put(moment, question, Found::Directory);
        }
        Ok(Node::Directory(Arc::new(spot)))
    }

    /// The directory of a value that occurs.
    async fn value(&self, at: &Arc<Spot>, text: &str) -> Result<Option<Spot>, Status> {
        let Some(spot) = value_spot(at, text) else { return Ok(None) };
        Ok((self.count(spot.sought()).await? > 0).then_some(spot))
    }

    pub(crate) async fn count(&self, sought: Sought) -> Result<u64, Status> {
        match self.core.ask_graph(self.viewer, GraphRequest::Count(sought)).await?.answer {
            GraphAnswer::Count(count) => Ok(count),
            _ => Err(Status::Malformed),
        }
    }

    /// A tag that occurs together with what fits.
    async fn refinement(&self, at: &Arc<Spot>, text: &str) -> Result<Node, Status> {
        if is_hidden(text) {
            return Err(Status::NotFound);
        }
        let mut sought = at.sought();
        let narrower = Spot::root(at.scope).child(text).map_err(|error| error.status())?;
        sought.query.clauses.push(narrower.last_clause().cloned().ok_or(Status::NotFound)?);
        if self.count(sought).await? == 0 {
            return Err(Status::NotFound);
        }
        Ok(Node::Refinement { at: Arc::clone(at), component: text.to_owned() })
    }

    /// A saved query: a link to it where its expression has a path, else a directory.
    async fn saved(&self, at: &Arc<Spot>, text: &str) -> Result<Node, Status> {
        let spot = at.child(text).map_err(|error| error.status())?;
        let name = saved_name(&spot).ok_or(Status::NotFound)?;
        if path_of(&self.saved_expression(name).await?).is_some() {
            return Ok(Node::Saved { at: Arc::clone(at), name: name.to_owned() });
        }
        Ok(Node::Directory(Arc::new(spot)))
    }

    /// The expression of a saved query.
    pub(crate) async fn saved_expression(&self, name: &str) -> Result<String, Status> {
        let saved = self.all_saved().await?;
        saved.into_iter().find(|(known, _)| known == name).map(|(_, expression)| expression).ok_or(Status::NotFound)
    }

    /// All saved queries, by name.
    pub(crate) async fn all_saved(&self) -> Result<Vec<(String, String)>, Status> {
        match self.core.ask_graph(self.viewer, GraphRequest::Saved).await?.answer {
            GraphAnswer::Saved(saved) => Ok(saved),
            _ => Err(Status::Malformed),
        }
    }

    /// The inode that `@of/entry` names.
    pub(crate) async fn inode_of(&self, scope: Ino, of: &Entry) -> Result<Ino, Status> {
        match of {
            Entry::Ino(ino) => Ok(*ino),
            Entry::Name(name) => {
                let found = self.core.lookup(scope, name.clone()).await?;
                found.attr.map(|attr| attr.ino).ok_or(Status::NotFound)
            }
        }
    }

    /// Where a symlink leads.
    pub(crate) async fn target(&self, node: &Node) -> Result<Vec<u8>, Status> {
        let target = match node {
            Node::Entry { at, ino } => {
                let mut target = at.way_up().into_bytes();
                let names = self.placed(at.scope, *ino).await?;
                for (number, name) in names.iter().enumerate() {
                    if number > 0 {
                        target.push(b'/');
                    }
                    target.extend_from_slice(name.as_bytes());
                }
                target
            }
            Node::Refinement { at, component } => {
                match self.entry(at, &Name::new(component.as_bytes())?).await {
                    Err(Status::NotFound) => format!("../{component}").into_bytes(),
                    // A file has this name there; the same tag twice is another name for the tag.
                    Ok(_) => format!("../{component},{component}").into_bytes(),
                    Err(status) => return Err(status),
                }
            }
            Node::Saved { name, .. } => {
                let expression = self.saved_expression(name).await?;
                let path = path_of(&expression).ok_or(Status::Stale)?;
                format!("../{path}").into_bytes()
            }
            Node::Directory(_) | Node::File { .. } => return Err(Status::Invalid),
        };
        if target.len() > SYMLINK_BYTES_MAX { Err(Status::NameTooLong) } else { Ok(target) }
    }

    /// Names from `scope` down to an inode, as they were a moment ago: asked for together with those listed behind it.
    async fn placed(&self, scope: Ino, ino: Ino) -> Result<Vec<Name>, Status> {
        if let Some(Found::Path(names)) = self.kept.get(self.core, &Question::place(self.viewer, scope, ino)) {
            return Ok(names);
        }
        let Some(moment) = self.kept.now(self.core) else { return self.place(scope, ino).await };
        let inos = self.kept.listed_from(ino, PLACES_MAX);
        let asked = GraphRequest::Places { scope, inos: inos.clone() };
        let GraphAnswer::Places(places) = self.core.ask_graph(self.viewer, asked).await?.answer else {
            return Err(Status::Malformed);
        };
        let mut own = None;
        for (placed, names) in inos.into_iter().zip(places) {
            let Some(names) = names else { continue };
            if placed == ino {
                own = Some(names.clone());
            }
            self.kept.put(Some(moment), Question::place(self.viewer, scope, placed), Found::Path(names));
        }
        // Gone, or so deep that its path has no place among others.
        match own {
            Some(names) => Ok(names),
            None => self.place(scope, ino).await,
        }
    }

    /// Names from `scope` down to an inode.
    pub(crate) async fn place(&self, scope: Ino, ino: Ino) -> Result<Vec<Name>, Status> {
        match self.core.ask_graph(self.viewer, GraphRequest::Place { scope, ino }).await?.answer {
            GraphAnswer::Path(names) => Ok(names),
            _ => Err(Status::Malformed),
        }
    }

    /// Tells the kernel a node: counts the look-up.
    pub(crate) async fn tell(&self, node: &Node) -> Result<Attr, Status> {
        let mut attr = self.attr(node, Ino::ROOT).await?;
        attr.ino = self.nodes.looked_up(node)?;
        Ok(attr)
    }

    /// What a look-up tells: no lengths, and directories as old as the one that has the `.tags`. The kernel may not believe it and
    /// asks for attributes by themselves where a program wants them: [`Self::fresh_attr`].
    async fn attr(&self, node: &Node, ino: Ino) -> Result<Attr, Status> {
        let (at, kind, mode) = match node {
            Node::Directory(at) => (at, FileKind::Directory, MODE_DIRECTORY),
            Node::Entry { at, .. } | Node::Refinement { at, .. } | Node::Saved { at, .. } => {
                (at, FileKind::Symlink, MODE_LINK)
            }
            Node::File { at, special: Special::Ask } => (at, FileKind::File, MODE_ASK),
            Node::File { at, special: Special::Counts | Special::Explain } => (at, FileKind::File, MODE_ANSWER),
        };
        let scope = self.core.getattr(at.scope).await?.attr;
        Ok(Attr {
            ino,
            kind,
            mode,
            uid: scope.uid,
            gid: scope.gid,
            nlink: if kind == FileKind::Directory { 2 } else { 1 },
            size: 0,
            allocated: 0,
            rdev: 0,
            atime: scope.mtime,
            mtime: scope.mtime,
            ctime: scope.mtime,
            btime: scope.btime,
            data_version: 0,
            flags: AttrFlags::default(),
            parent: at.scope,
        })
    }

    /// As [`Self::attr`], with what only the graph knows: when the result changed, how long an answer is.
    pub(crate) async fn fresh_attr(&self, node: &Node, ino: Ino) -> Result<Attr, Status> {
        let mut attr = self.attr(node, ino).await?;
        match node {
            Node::Directory(at) => {
                if at.meaning == Meaning::Query {
                    let changed = self.changed(at).await?;
                    (attr.mtime, attr.ctime) = (changed, changed);
                }
            }
            Node::File { at, special: special @ (Special::Counts | Special::Explain) } => {
                attr.size = self.answer_file(at, *special).await?.len() as u64;
                // cp(1) takes a file of fewer blocks for one with holes.
                attr.allocated = attr.size;
            }
            Node::Entry { .. } | Node::Refinement { .. } | Node::Saved { .. } => {
                attr.size = self.target(node).await?.len() as u64;
            }
            Node::File { special: Special::Ask, .. } => {}
        }
        Ok(attr)
    }

    /// When what a query's directory lists changed last. It is asked for with the first page, which is kept once, for the listing
    /// that mostly follows.
    async fn changed(&self, at: &Spot) -> Result<Timestamp, Status> {
        let question = Question::changed(self.viewer, at);
        if let Some(Found::Changed(changed)) = self.kept.get(self.core, &question) {
            return Ok(changed);
        }
        let moment = self.kept.now(self.core);
        let search = GraphRequest::Search { sought: at.sought(), after: None, limit: PAGE };
        match self.core.ask_graph(self.viewer, search).await?.answer {
            GraphAnswer::Hits { hits, end, changed } => {
                self.kept.put(moment, Question::page(self.viewer, at), Found::Page(hits, end));
                self.kept.put(moment, question, Found::Changed(changed));
                Ok(changed)
            }
            _ => Err(Status::Malformed),
        }
    }
}

/// The saved query that a directory in `@saved` is.
pub(crate) fn saved_name(spot: &Spot) -> Option<&str> {
    match spot.last_clause()?.atoms.as_slice() {
        [Atom { negated: false, test: Test::Saved(name) }] => Some(name),
        _ => None,
    }
}

/// The directory of a value below its key's.
pub(crate) fn value_spot(at: &Spot, value: &str) -> Option<Spot> {
    let Meaning::Values(key) = &at.meaning else { return None };
    if is_hidden(value) || value.starts_with('@') {
        return None;
    }
    let spot = at.child(&format!("{}={value}", key_component(key.as_str())?)).ok()?;
    (spot.meaning == Meaning::Query).then_some(spot)
}

fn key_component(key: &str) -> Option<String> {
    Some(dgfs_proto::tag::Tag::parse(key).ok()?.to_component())
}

/// The path of an expression, if it has one.
pub(crate) fn path_of(expression: &str) -> Option<String> {
    let query = expr::parse_expr(expression, &Context::default()).ok()?;
    Some(show::show_path(&query)?.join("/"))
}

/// The name that a value is listed under.
pub(crate) fn value_name(facet: &str, key: &Key) -> Option<String> {
    let value = match facet.split_once('=') {
        Some((before, value)) if fold(before) == key.as_str() => value,
        Some(_) | None => facet,
    };
    // Sizes are listed by ranges, which the language reads as they are.
    let name = if *key == Key::Size { value.to_owned() } else { value_component(value) };
    Some(name).filter(|name| !name.is_empty() && name.len() <= COMPONENT_BYTES_MAX)
}
