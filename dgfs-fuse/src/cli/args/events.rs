//! The words of `dgfs events`.
//!
//! Never asks anybody; a word that is wrong is refused here.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::args::join::span;

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only those of the last TIME: 90s, 30m, 1h, 2d
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) since: Option<Duration>,
    /// Go on with those that happen
    #[arg(long)]
    pub(crate) follow: bool,
    /// Only of this kind, or of those that begin so: server, server-down, alert
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub(crate) kind: Option<String>,
    /// The newest N only; with --since: all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: Option<u32>,
    /// One JSON object a line, for programs
    #[arg(long)]
    pub(crate) json: bool,
    /// The cluster's client.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// A kind, or the first word of kinds.
fn kind(word: &str) -> Result<String, String> {
    if dgfs_proto::meta::EventKind::ALL.into_iter().any(|kind| is_of(kind.name(), word)) {
        return Ok(word.to_owned());
    }
    let all = dgfs_proto::meta::EventKind::ALL.map(dgfs_proto::meta::EventKind::name).join(", ");
    Err(format!("no event is of this kind; there are {all}"))
}

/// Is an event of this kind one of those that `word` names?
pub(crate) fn is_of(kind: &str, word: &str) -> bool {
    kind.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::{is_of, kind};

    #[test]
    fn a_kind_is_named_whole_or_by_its_first_words() {
        assert!(is_of("server-down", "server") && is_of("server-down", "server-down"));
        assert!(!is_of("server-down", "serv") && !is_of("server-up", "server-down"));
        assert!(kind("alert").is_ok());
        assert!(kind("alerts").unwrap_err().contains("alert-raised"));
    }
}
