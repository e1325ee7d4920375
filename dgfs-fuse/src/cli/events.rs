//! `dgfs events`: what happened to a cluster, as its metadata service keeps it.
//!
//! Never asks anybody but the active metadata service. Always: in order, each once; while nobody is active, `--follow`
//! waits for the next one and goes on where it was.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use dgfs_proto::limits::{EVENTS_KEPT, EVENTS_PAGE_MAX};
use dgfs_proto::meta::{ClusterEvent, MetaReply, MetaRequest, WatchReply, WatchRequest};
use dgfs_runtime::clock::{Clock, utc_seconds_text};
use dgfs_runtime::lifecycle::build_runtime;

use crate::cli::Failure;
use crate::cli::args::events::{EventsArgs, is_of};
use crate::cli::daemon::link_to;
use crate::volume::VolumeLink;

/// Shown unless told otherwise.
const LIMIT_DEFAULT: usize = 100;
/// Pause before the cluster is asked again that did not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs the command.
pub(crate) fn run(args: &EventsArgs) -> Result<(), Failure> {
    let config = args.config.as_deref().ok_or_else(|| Failure::new("name the cluster: --config DIR/client.toml"))?;
    let runtime = build_runtime("dgfs", 1).map_err(Failure::new)?;
    runtime.block_on(show(args, config))
}

async fn show(args: &EventsArgs, config: &Path) -> Result<(), Failure> {
    let link = link_to(config)?;
    let since_ms = args.since.map(|span| {
        let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Clock::real().wall_ms().saturating_sub(span_ms)
    });
    let (events, mut after) = read(&link, args, since_ms).await?;
    events.iter().for_each(|event| print(event, args.json));
    if !args.follow {
        return Ok(());
    }
    // Until the reader or a signal ends it.
    loop {
        match page(&link, after, true).await {
            Ok((events, head)) => {
                for event in events.iter().filter(|event| is_wanted(event, args, None)) {
                    print(event, args.json);
                }
                // A head that went back is another journal: a volume that was made anew.
                after = events.last().map_or(after.min(head), |event| event.number);
            }
            Err(error) => {
                tracing::debug!(%error, "nobody tells what happens; asking again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// The newest ones that are wanted, and the number of the last one there is.
async fn read(
    link: &VolumeLink,
    args: &EventsArgs,
    since_ms: Option<u64>,
) -> Result<(VecDeque<ClusterEvent>, u64), Failure> {
    let limit = match (args.limit, since_ms) {
        (Some(limit), _) => limit as usize,
        (None, Some(_)) => EVENTS_KEPT as usize,
        (None, None) => LIMIT_DEFAULT,
    };
    let mut kept = VecDeque::new();
    let mut after = 0;
    loop {
        let (events, head) = page(link, after, false).await.map_err(Failure::new)?;
        after = events.last().map_or(head, |event| event.number);
        for event in events.into_iter().filter(|event| is_wanted(event, args, since_ms)) {
            kept.push_back(event);
            if kept.len() > limit {
                kept.pop_front();
            }
        }
        if after >= head {
            return Ok((kept, after));
        }
    }
}

/// Those since `since_ms`, oldest first, as JSON.
pub(crate) async fn since(link: &VolumeLink, since_ms: u64) -> Result<Vec<Value>, Failure> {
    let args = EventsArgs { since: None, follow: false, kind: None, limit: None, json: true, config: None };
    let (events, _) = read(link, &args, Some(since_ms)).await?;
    Ok(events.iter().map(value).collect())
}

async fn page(link: &VolumeLink, after: u64, wait: bool) -> Result<(Vec<ClusterEvent>, u64), String> {
    let request = WatchRequest::Events { after, limit: EVENTS_PAGE_MAX, wait };
    match link.ask(MetaRequest::Watch(request)).await? {
        MetaReply::Watch(WatchReply::Events { events, head, .. }) => Ok((events, head)),
        _ => Err("the metadata service answered something else".to_owned()),
    }
}

fn is_wanted(event: &ClusterEvent, args: &EventsArgs, since_ms: Option<u64>) -> bool {
    let is_recent = since_ms.is_none_or(|since| event.at.as_ms() >= since);
    is_recent && args.kind.as_deref().is_none_or(|word| is_of(event.kind.name(), word))
}

fn print(event: &ClusterEvent, json: bool) {
    if json {
        println!("{}", value(event));
    } else {
        println!("{}", line(event));
    }
}

fn value(event: &ClusterEvent) -> Value {
    json!({
        "number": event.number, "at_ms": event.at.as_ms(), "at": utc_seconds_text(event.at.secs), "kind": event.kind.name(),
        "subject": event.subject, "text": event.text,
    })
}

fn line(event: &ClusterEvent) -> String {
    let subject = if event.subject.is_empty() { "-" } else { &event.subject };
    format!("{}  {:<18}  {subject}: {}", utc_seconds_text(event.at.secs), event.kind.name(), event.text)
}

#[cfg(test)]
mod tests {
    use dgfs_proto::attr::Timestamp;
    use dgfs_proto::meta::{ClusterEvent, EventKind};

    use super::{is_wanted, line, value};
    use crate::cli::args::events::EventsArgs;

    fn event() -> ClusterEvent {
        ClusterEvent {
            number: 7,
            at: Timestamp::from_ms(1_700_000_000_123),
            kind: EventKind::ServerDown,
            subject: "1 stored-1".to_owned(),
            text: "it was silent".to_owned(),
        }
    }

    #[test]
    fn a_line_says_when_what_to_whom() {
        let text = line(&event());
        assert!(text.starts_with("2023-11-14T22:13:20"), "{text}");
        assert!(text.ends_with("server-down         1 stored-1: it was silent"), "{text}");
        assert_eq!(value(&event())["at_ms"], 1_700_000_000_123_u64);
    }

    #[test]
    fn old_ones_and_other_kinds_are_left_out() {
        let args = |kind: Option<&str>| EventsArgs {
            since: None,
            follow: false,
            kind: kind.map(str::to_owned),
            limit: None,
            json: false,
            config: None,
        };
        assert!(is_wanted(&event(), &args(Some("server")), Some(1_700_000_000_123)));
        assert!(!is_wanted(&event(), &args(Some("server")), Some(1_700_000_000_124)));
        assert!(!is_wanted(&event(), &args(Some("server-up")), None));
        assert!(is_wanted(&event(), &args(None), None));
    }
}
