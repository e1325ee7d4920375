//! `/chunks` beside `/metrics`: the busiest chunks of this server as JSON.
//!
//! Never tells a path: who may see the metrics may see ids and counts only. Always: at most [`USES_MAX`] chunks.

use std::str::FromStr;
use std::sync::{Arc, Weak};

use dgfs_proto::chunk::UseOrder;
use dgfs_proto::limits::USES_MAX;
use dgfs_runtime::metrics::{Page, Pages};
use serde_json::json;

use crate::store::Store;

const PATH: &str = "/chunks";
/// Chunks told unless asked for more.
const LIMIT_DEFAULT: usize = 20;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    by: UseOrder,
    limit: usize,
}

/// The daemon's own pages, for as long as the store lives.
pub(crate) fn pages(store: &Arc<Store>) -> Arc<Pages> {
    let store = Arc::downgrade(store);
    Arc::new(move |path: &str, query: Option<&str>| (path == PATH).then(|| page(&store, query)))
}

fn page(store: &Weak<Store>, query: Option<&str>) -> Page {
    let question = match parse(query.unwrap_or_default()) {
        Ok(question) => question,
        Err(sentence) => return Page::bad_request(&sentence),
    };
    let Some(store) = store.upgrade() else { return Page::unavailable("the store is closed") };
    match store.top_uses(question.by, question.limit) {
        Ok(chunks) => {
            let answer = json!({ "server": store.server(), "by": question.by.to_string(), "chunks": chunks });
            Page::json(answer.to_string())
        }
        Err(status) => Page::unavailable(&format!("the chunks could not be told: {status}; see the log")),
    }
}

fn parse(query: &str) -> Result<Question, String> {
    let mut question = Question { by: UseOrder::Bytes, limit: LIMIT_DEFAULT };
    for part in query.split('&').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("by", word)) => question.by = UseOrder::from_str(word).map_err(|error| error.to_string())?,
            Some(("limit", word)) => {
                let limit = word.parse().ok().filter(|limit| (1..=USES_MAX).contains(limit));
                question.limit = limit.ok_or_else(|| format!("limit is a number from 1 to {USES_MAX}"))?;
            }
            Some(_) | None => {
                return Err(format!(
                    "ask for {PATH}?by=ORDER&limit=NUMBER; there is no other parameter, and each has a value"
                ));
            }
        }
    }
    Ok(question)
}

#[cfg(test)]
mod tests {
    use dgfs_proto::chunk::UseOrder;

    use super::{Question, parse};

    #[test]
    fn a_question_has_an_order_and_a_limit_and_both_have_defaults() {
        assert_eq!(parse(""), Ok(Question { by: UseOrder::Bytes, limit: 20 }));
        assert_eq!(parse("by=errors&limit=7"), Ok(Question { by: UseOrder::Errors, limit: 7 }));
        assert_eq!(parse("limit=1000&by=recent"), Ok(Question { by: UseOrder::Recent, limit: 1000 }));
    }

    #[test]
    fn what_cannot_be_answered_is_refused_with_what_can() {
        for (query, words) in [
            ("by=name", "reads, writes, bytes, errors or recent"),
            ("limit=0", "from 1 to 1000"),
            ("limit=1001", "from 1 to 1000"),
            ("limit=-1", "from 1 to 1000"),
            ("limit=99999999999999999999999", "from 1 to 1000"),
            ("server=1", "/chunks?by=ORDER&limit=NUMBER"),
            ("by", "/chunks?by=ORDER&limit=NUMBER"),
        ] {
            let sentence = parse(query).unwrap_err();
            assert!(sentence.contains(words), "{query}: {sentence}");
        }
    }
}
