//! Extended attributes that the graph answers: `user.dgfs.*`.
//!
//! Never lists them, so that no copy carries them along, and never lets them be set. `user.xdg.tags` is none of them: that one is
//! metadata.

use serde_json::{Value, json};

use dgfs_proto::graph::answer::Examined;
use dgfs_proto::graph::{GraphAnswer, GraphReply, GraphRequest};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::{GRAPH_PAGE_MAX, XATTR_VALUE_BYTES_MAX};
use dgfs_proto::query::Entry;
use dgfs_proto::status::Status;

use crate::tags::ask::shown::{confidence, mark, relation};
use crate::tags::lookup::View;

/// What all of them begin with.
pub const PREFIX: &[u8] = b"user.dgfs.";

impl View<'_> {
    /// The value of `user.dgfs.*`.
    pub(crate) async fn attribute(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, Status> {
        let value = match name.strip_prefix(PREFIX).unwrap_or_default() {
            b"id" => Entry::Ino(ino).to_component().into_bytes(),
            b"tags.auto" => {
                let GraphAnswer::Marks { marks, .. } = self.marks(ino).await?.answer else {
                    return Err(Status::Malformed);
                };
                Value::Array(marks.iter().map(mark).collect()).to_string().into_bytes()
            }
            b"index" => {
                let GraphAnswer::Marks { examined, .. } = self.marks(ino).await?.answer else {
                    return Err(Status::Malformed);
                };
                progress(&examined).into_bytes()
            }
            b"seq" => self.marks(ino).await?.seq.to_string().into_bytes(),
            b"relations" => {
                let request = GraphRequest::Related { ino, limit: GRAPH_PAGE_MAX };
                let GraphAnswer::Related(related) = self.core.ask_graph(self.viewer, request).await?.answer else {
                    return Err(Status::Malformed);
                };
                let shown = related.iter().map(|one| {
                    let mut shown = relation(one);
                    if let Some(object) = shown.as_object_mut() {
                        object.insert("confidence".to_owned(), json!(confidence(one.permille)));
                    }
                    shown
                });
                Value::Array(shown.collect()).to_string().into_bytes()
            }
            _ => return Err(Status::NoXattr),
        };
        // Linux takes no more; `@ask` has no such limit.
        if value.len() > XATTR_VALUE_BYTES_MAX { Err(Status::XattrTooBig) } else { Ok(value) }
    }

    async fn marks(&self, ino: Ino) -> Result<GraphReply, Status> {
        Ok(self.core.ask_graph(self.viewer, GraphRequest::Marks(ino)).await?)
    }
}

/// How far the taggers are: `never`, `pending`, `done`, `failed:NAME,NAME`.
pub(crate) fn progress(examined: &Examined) -> String {
    match examined {
        Examined::Never => "never".to_owned(),
        Examined::Pending => "pending".to_owned(),
        Examined::Done => "done".to_owned(),
        Examined::Failed(failed) => {
            let names: Vec<&str> = failed.iter().map(|failed| failed.tagger.as_str()).collect();
            format!("failed:{}", names.join(","))
        }
    }
}
