//! Questions: what is found, counted, explained.
//!
//! Never changes anything. An answer of hits is at most [`FIND_MAX`] lines and about [`FIND_BYTES_MAX`] bytes long; its last line
//! says where to go on.

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};

use dgfs_proto::graph::answer::{Examined, Hit};
use dgfs_proto::graph::request::Sought;
use dgfs_proto::graph::{GraphAnswer, GraphReply, GraphRequest};
use dgfs_proto::ids::{Ino, Seq};
use dgfs_proto::limits::{FACETS_MAX, GRAPH_PAGE_MAX};
use dgfs_proto::query::{Atom, Clause, Test};
use dgfs_proto::status::Status;

use super::request::{Count, Explain, Facets, Find, Marks, Related, Tags, Watch};
use super::{AskError, Asking, Lines, shown};
use crate::tags::attributes::progress;
use crate::tags::link::Refusal;

/// Hits in one answer.
const FIND_MAX: u32 = 10_000;
/// Bytes of their lines; the last one may pass it. Most paths are short, and one may be 300 KiB long.
const FIND_BYTES_MAX: usize = 4 << 20;
/// Paths asked for at once.
const PLACES_AT_ONCE: usize = 16;

impl Asking<'_> {
    pub(super) async fn ask(&self, request: GraphRequest) -> Result<GraphReply, AskError> {
        let query = match &request {
            GraphRequest::Search { sought, .. }
            | GraphRequest::Count(sought)
            | GraphRequest::Facets { sought, .. }
            | GraphRequest::Explain(sought)
            | GraphRequest::Watch { sought: Some(sought), .. } => Some(sought.query.clone()),
            _ => None,
        };
        match (self.view.core.ask_graph(self.view.viewer, request).await, query) {
            (Err(Refusal::Status(Status::NotFound)), Some(query)) => {
                Err(self.not_known(&query).await.unwrap_or_else(|| Refusal::Status(Status::NotFound).into()))
            }
            (answer, _) => Ok(answer?),
        }
    }

    fn sought(&self, expression: &str, utc_offset_secs: i32) -> Result<Sought, AskError> {
        Ok(Sought { scope: self.scope, query: self.query(expression, utc_offset_secs)? })
    }

    pub(super) async fn find(&self, find: Find) -> Lines {
        let sought = self.sought(&find.find, find.utc_offset_secs)?;
        let _turn = self.view.core.unread.turn(self.view.viewer.uid).await;
        let wanted = find.limit.unwrap_or(FIND_MAX).min(FIND_MAX) as usize;
        let (mut lines, mut after, mut bytes) = (Vec::new(), find.after.and_then(Ino::new), 0);
        loop {
            let left = u32::try_from(wanted - lines.len()).unwrap_or(0).min(GRAPH_PAGE_MAX);
            let search = GraphRequest::Search { sought: sought.clone(), after, limit: left };
            let reply = self.ask(search).await?;
            let GraphAnswer::Hits { hits, end, changed } = reply.answer else { return Err(malformed()) };
            let last = hits.last().map(|hit| hit.ino);
            let leads_on = last > after;
            let shown = |hit| Box::pin(self.shown_hit(hit)) as BoxFuture<'_, Option<Value>>;
            let page: Vec<BoxFuture<'_, Option<Value>>> = hits.iter().map(shown).collect();
            let mut page = stream::iter(page).buffered(PLACES_AT_ONCE);
            for hit in &hits {
                if bytes >= FIND_BYTES_MAX {
                    break;
                }
                let line = page.next().await.flatten();
                bytes += line.as_ref().map_or(0, |line| line.to_string().len());
                lines.extend(line);
                after = Some(hit.ino);
            }
            let is_whole = after >= last;
            if !is_whole || end || !leads_on || lines.len() >= wanted {
                let end = is_whole && (end || !leads_on);
                let unknown = if lines.is_empty() && find.after.is_none() {
                    self.unknown_in(&sought.query).await.iter().filter_map(name_of).collect()
                } else {
                    Vec::new()
                };
                let mut last = json!({ "end": end, "after": after, "seq": reply.seq, "changed": shown::time(changed) });
                if let Some(last) = last.as_object_mut().filter(|_| !unknown.is_empty()) {
                    last.insert("unknown".to_owned(), json!(unknown));
                }
                lines.push(last);
                return Ok(lines);
            }
        }
    }

    /// A hit with its path; none if it went away meanwhile.
    async fn shown_hit(&self, hit: &Hit) -> Option<Value> {
        let mut line = shown::hit(hit);
        shown::insert_path(&mut line, &self.view.place(self.scope, hit.ino).await.ok()?);
        Some(line)
    }

    /// An inode as a line, with its path where it has one that may be seen.
    async fn shown_inode(&self, ino: Ino) -> Value {
        let mut line = json!({ "ino": ino, "id": shown::id(ino) });
        if let Ok(names) = self.view.place(self.scope, ino).await {
            shown::insert_path(&mut line, &names);
        }
        line
    }

    pub(super) async fn count(&self, count: &Count) -> Lines {
        let reply = self.ask(GraphRequest::Count(self.sought(&count.count, count.utc_offset_secs)?)).await?;
        let GraphAnswer::Count(count) = reply.answer else { return Err(malformed()) };
        Ok(vec![json!({ "count": count, "seq": reply.seq })])
    }

    pub(super) async fn facets(&self, facets: Facets) -> Lines {
        let sought = self.sought(&facets.facets, facets.utc_offset_secs)?;
        let limit = facets.limit.unwrap_or(FACETS_MAX).min(FACETS_MAX);
        let reply = self.ask(GraphRequest::Facets { sought, prefix: facets.prefix, limit }).await?;
        let GraphAnswer::Facets(facets) = reply.answer else { return Err(malformed()) };
        Ok(facets.iter().map(shown::facet).collect())
    }

    pub(super) async fn explain(&self, explain: &Explain) -> Lines {
        let reply = self.ask(GraphRequest::Explain(self.sought(&explain.explain, explain.utc_offset_secs)?)).await?;
        let GraphAnswer::Text(text) = reply.answer else { return Err(malformed()) };
        Ok(vec![json!({ "explain": text, "seq": reply.seq })])
    }

    pub(super) async fn tags(&self, tags: Tags) -> Lines {
        let limit = tags.limit.unwrap_or(GRAPH_PAGE_MAX).min(GRAPH_PAGE_MAX);
        let reply = self.ask(GraphRequest::Tags { after: tags.tags.unwrap_or_default(), limit }).await?;
        let GraphAnswer::Catalogue(tags) = reply.answer else { return Err(malformed()) };
        let end = tags.len() < limit as usize;
        let after = tags.last().map(|(_, facts, _)| facts.name.fold());
        let mut lines: Vec<Value> = tags.iter().map(|(id, facts, count)| shown::tag(*id, facts, *count)).collect();
        lines.push(json!({ "end": end, "after": after, "seq": reply.seq }));
        Ok(lines)
    }

    pub(super) async fn saved(&self) -> Lines {
        let saved = self.view.all_saved().await?;
        Ok(saved.into_iter().map(|(name, expression)| json!({ "name": name, "expression": expression })).collect())
    }

    pub(super) async fn related(&self, related: Related) -> Lines {
        let ino = self.inode(&related.related).await?;
        let limit = related.limit.unwrap_or(GRAPH_PAGE_MAX).min(GRAPH_PAGE_MAX);
        let GraphAnswer::Related(found) = self.ask(GraphRequest::Related { ino, limit }).await?.answer else {
            return Err(malformed());
        };
        let mut lines = Vec::new();
        for one in &found {
            let mut line = shown::relation(one);
            if let (Some(line), Some(more)) = (line.as_object_mut(), self.shown_inode(one.ino).await.as_object_mut()) {
                line.append(more);
                line.insert("confidence".to_owned(), json!(shown::confidence(one.permille)));
            }
            lines.push(line);
        }
        Ok(lines)
    }

    pub(super) async fn duplicates(&self, limit: Option<u32>) -> Lines {
        let limit = limit.unwrap_or(GRAPH_PAGE_MAX).min(GRAPH_PAGE_MAX);
        let asked = self.ask(GraphRequest::Duplicates { scope: self.scope, limit }).await?;
        let GraphAnswer::Duplicates(sets) = asked.answer else { return Err(malformed()) };
        let mut lines = Vec::new();
        for set in sets {
            let mut files = Vec::new();
            for ino in set.inos.into_iter().take(GRAPH_PAGE_MAX as usize) {
                files.push(self.shown_inode(ino).await);
            }
            lines.push(json!({ "size": set.size, "files": files }));
        }
        Ok(lines)
    }

    pub(super) async fn marks(&self, marks: Marks) -> Lines {
        let ino = self.inode(&marks.marks).await?;
        let reply = self.ask(GraphRequest::Marks(ino)).await?;
        let GraphAnswer::Marks { marks, examined } = reply.answer else { return Err(malformed()) };
        let mut lines: Vec<Value> = marks.iter().map(shown::mark).collect();
        let mut last = json!({ "index": progress(&examined), "seq": reply.seq });
        if let (Examined::Failed(failed), Some(last)) = (&examined, last.as_object_mut()) {
            let failed = failed.iter().map(|one| json!({ "tagger": one.tagger, "reason": one.reason }));
            let _ = last.insert("failed".to_owned(), failed.collect());
        }
        lines.push(last);
        Ok(lines)
    }

    pub(super) async fn status(&self) -> Lines {
        match self.ask(GraphRequest::Status).await?.answer {
            GraphAnswer::Status(status) => Ok(vec![shown::status(&status)]),
            _ => Err(malformed()),
        }
    }

    /// Answered once the index has applied everything that was answered before.
    pub(super) async fn wait(&self) -> Lines {
        // What was written here and not sent yet has happened, too. What cannot be sent is another one's to hear of.
        if let Err(status) = self.view.core.flush_all_open(&self.view.core.op()).await {
            tracing::debug!(%status, "not everything that was written could be sent before an index is waited for");
        }
        let clause = Clause::from(Atom::from(Test::All));
        let reply = self.ask(GraphRequest::Known { scope: self.scope, clause }).await?;
        Ok(vec![json!({ "seq": reply.seq })])
    }

    /// Events, or after some seconds none: then the same is asked again behind the seq that was answered.
    pub(super) async fn watch(&self, watch: Watch) -> Lines {
        let sought = match &watch.watch {
            Some(expression) => Some(self.sought(expression, watch.utc_offset_secs)?),
            None => None,
        };
        let request = GraphRequest::Watch { after: watch.after.map(Seq), sought };
        let reply = match self.view.core.ask_graph(self.view.viewer, request).await {
            Err(refusal) if refusal.status() == Status::Unavailable && watch.after.is_some() => {
                return Ok(vec![json!({ "seq": watch.after })]);
            }
            answer => answer?,
        };
        let GraphAnswer::Told(told) = reply.answer else { return Err(malformed()) };
        let mut lines: Vec<Value> = told.iter().flat_map(shown::told).collect();
        lines.push(json!({ "seq": reply.seq }));
        Ok(lines)
    }
}

/// The tag or key that a test names.
fn name_of(test: &Test) -> Option<String> {
    match test {
        Test::Tag(tag) => Some(tag.as_str().to_owned()),
        Test::Has(key) | Test::Compare { key, .. } | Test::Range { key, .. } => Some(key.as_str().to_owned()),
        _ => None,
    }
}

pub(super) fn malformed() -> AskError {
    AskError::new(Status::Malformed, "the index answered something else than was asked: its version is another one")
}
