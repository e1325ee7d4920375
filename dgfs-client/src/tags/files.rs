//! Files of answers: `@counts`, `@explain`, `@ask`.
//!
//! Never holds an answer longer than its handle lives. Always: `@counts` and `@explain` are what the graph said when they were
//! opened; what is written to `@ask` is carried out once, by the rights of who opened it, at the first read (or, where the handle
//! cannot read, at its close), and the whole answer is read before the next request is taken. Nobody else may write to the handle:
//! a program with more rights that was given it as its output would lend them to what is in it.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::Mutex;

use dgfs_proto::graph::{GraphAnswer, GraphRequest, Viewer};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::FACETS_MAX;
use dgfs_proto::status::Status;

use crate::tags::ask::Asking;
use crate::tags::lookup::View;
use crate::tags::path::{Special, Spot};
use crate::tags::unread::Holding;
use crate::vfs::OpenFlags;

/// Bytes of a request.
pub const ASK_BYTES_MAX: usize = 64 << 10;

/// Why an answer is not given.
const UNREAD: &str = "too many answers of this user were not read: read them to the end, or close their handles";

/// An open file of answers.
pub(crate) enum OpenAnswer {
    /// As it was when it was opened.
    Whole(Bytes),
    /// Takes requests.
    Ask(AskHandle),
}

/// An open `@ask`.
pub(crate) struct AskHandle {
    scope: Ino,
    opener: Viewer,
    readable: bool,
    /// It may change something: a mount that is read-only gives no such handle.
    writable: bool,
    /// Held while a request is carried out: reads of one handle come one after the other.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What was written.
    request: Vec<u8>,
    /// What was answered, and how much of it was read.
    answer: Option<(Bytes, usize)>,
    /// The room that the answer takes.
    held: Option<Holding>,
}

impl View<'_> {
    /// Opens a file of answers.
    pub(crate) async fn open_answer(
        &self,
        at: &Spot,
        special: Special,
        flags: OpenFlags,
    ) -> Result<OpenAnswer, Status> {
        if special == Special::Ask {
            let state = Mutex::default();
            return Ok(OpenAnswer::Ask(AskHandle {
                scope: at.scope,
                opener: self.viewer.clone(),
                readable: flags.read,
                writable: flags.write,
                state,
            }));
        }
        if flags.write {
            return Err(Status::NotPermitted);
        }
        Ok(OpenAnswer::Whole(self.answer_file(at, special).await?))
    }

    /// The content of `@counts` or `@explain`.
    pub(crate) async fn answer_file(&self, at: &Spot, special: Special) -> Result<Bytes, Status> {
        let text = match special {
            Special::Counts => self.counts(at).await?,
            Special::Explain => self.explain(at).await?,
            Special::Ask => return Err(Status::Invalid),
        };
        Ok(Bytes::from(text))
    }

    async fn counts(&self, at: &Spot) -> Result<String, Status> {
        let request = GraphRequest::Facets { sought: at.sought(), prefix: String::new(), limit: FACETS_MAX };
        let GraphAnswer::Facets(facets) = self.core.ask_graph(self.viewer, request).await?.answer else {
            return Err(Status::Malformed);
        };
        let mut text = String::new();
        for facet in facets {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}\t{}", facet.count, facet.name);
        }
        Ok(text)
    }

    async fn explain(&self, at: &Spot) -> Result<String, Status> {
        let reply = self.core.ask_graph(self.viewer, GraphRequest::Explain(at.sought())).await?;
        let GraphAnswer::Text(mut text) = reply.answer else { return Err(Status::Malformed) };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let _ = writeln!(text, "answered from the change log up to {}", reply.seq);
        Ok(text)
    }

    /// Reads on in an answer. `@ask` goes on where the last read ended, whatever the offset: its handle is a stream.
    pub(crate) async fn read_answer(&self, open: &OpenAnswer, offset: u64, size: u32) -> Result<Bytes, Status> {
        let part = |bytes: &Bytes, from: usize| {
            let from = from.min(bytes.len());
            bytes.slice(from..bytes.len().min(from.saturating_add(size as usize)))
        };
        match open {
            OpenAnswer::Whole(bytes) => Ok(part(bytes, usize::try_from(offset).unwrap_or(usize::MAX))),
            OpenAnswer::Ask(ask) => {
                let mut state = ask.state.lock().await;
                self.carry_out(ask, &mut state).await;
                let State { answer, held, .. } = &mut *state;
                let Some((bytes, read)) = answer else { return Ok(Bytes::new()) };
                let part = part(bytes, *read);
                *read += part.len();
                if *read >= bytes.len() {
                    // Everything was read: only that there is nothing more is remembered.
                    (*bytes, *read) = (Bytes::new(), 0);
                    *held = None;
                }
                Ok(part)
            }
        }
    }

    /// Takes (more of) a request.
    pub(crate) async fn write_request(&self, open: &OpenAnswer, bytes: &[u8]) -> Result<u32, Status> {
        let OpenAnswer::Ask(ask) = open else { return Err(Status::BadHandle) };
        if self.viewer.uid != ask.opener.uid {
            return Err(Status::NotPermitted);
        }
        let mut state = ask.state.lock().await;
        if state.answer.is_some() {
            *state = State::default();
        }
        if state.request.len() + bytes.len() > ASK_BYTES_MAX {
            *state = State::default();
            return Err(Status::FileTooBig);
        }
        state.request.extend_from_slice(bytes);
        u32::try_from(bytes.len()).map_err(|_| Status::FileTooBig)
    }

    /// A close: what nobody can read the answer of is carried out now, and its refusal told.
    pub(crate) async fn flush_answer(&self, open: &OpenAnswer) -> Result<(), Status> {
        let OpenAnswer::Ask(ask) = open else { return Ok(()) };
        if ask.readable {
            return Ok(());
        }
        let mut state = ask.state.lock().await;
        if state.answer.is_some() {
            return Ok(());
        }
        self.carry_out(ask, &mut state).await.map_or(Ok(()), Err)
    }

    /// Carries a request out, once; why it was refused.
    async fn carry_out(&self, ask: &AskHandle, state: &mut State) -> Option<Status> {
        if state.answer.is_some() || state.request.is_empty() {
            return None;
        }
        let view = View { viewer: &ask.opener, ..*self };
        let asking = Asking { view, scope: ask.scope, writable: ask.writable };
        let (mut text, mut refused) = asking.answer(&state.request).await;
        state.request = Vec::new();
        state.held = self.core.unread.hold(ask.opener.uid, text.len());
        if state.held.is_none() {
            text = format!("{}\n", json!({ "error": UNREAD }));
            refused = Some(Status::Busy);
        }
        state.answer = Some((Bytes::from(text), 0));
        refused
    }
}
