//! What a metadata service serves beside its metrics: the targets of Prometheus, and an inbox for its alerts.
//!
//! Never changes anything but the journal. Always bounded: one target for each process that is known, [`ALERTS_MAX`] alerts
//! of what is posted; whoever posts shows a token.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use serde::Deserialize;
use serde_json::{Value, json};

use dgfs_proto::limits::EVENT_TEXT_BYTES_MAX;
use dgfs_proto::meta::{Announce, EventKind, MemberStatus};
use dgfs_runtime::announce::{cut, host};
use dgfs_runtime::metrics::{Inbox, Page, Pages, Posted};

use crate::service::MetaService;

/// Alerts of one post that are taken; Alertmanager groups them, and says how many it left out.
const ALERTS_MAX: usize = 1_000;

/// `/sd`: every process of the cluster as [HTTP service discovery](https://prometheus.io/docs/prometheus/latest/http_sd/) has it.
pub(crate) fn pages(service: &Arc<MetaService>) -> Arc<Pages> {
    let (service, host) = (Arc::downgrade(service), host());
    Arc::new(move |path: &str, _: Option<&str>| match path {
        "/sd" => Some(service.upgrade().map_or_else(
            || Page::unavailable("the metadata service ends"),
            |service| Page::json(targets(&service.processes(), &host).to_string()),
        )),
        _ => None,
    })
}

/// One group for each address that can be reached from `host`, where this service runs: the loopback of another machine cannot.
fn targets(processes: &[MemberStatus], host: &str) -> Value {
    let mut seen = BTreeSet::new();
    let is_loopback = |address: &str| address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback());
    let is_reached = |who: &Announce| !who.metrics.is_empty() && (who.host == host || !is_loopback(&who.metrics));
    let groups = processes.iter().filter(|one| is_reached(&one.who) && seen.insert(&one.who.metrics));
    Value::Array(groups.map(group).collect())
}

fn group(one: &MemberStatus) -> Value {
    let who = &one.who;
    let mut labels = json!({
        "kind": who.kind.name(), "name": who.name, "host": who.host,
        "__meta_dgfs_kind": who.kind.name(), "__meta_dgfs_name": who.name, "__meta_dgfs_host": who.host,
        "__meta_dgfs_version": who.version, "__meta_dgfs_pid": who.pid.to_string(),
        "__meta_dgfs_silent_seconds": (one.silent_ms / 1000).to_string(),
    });
    if let (Some(server), Some(labels)) = (who.server, labels.as_object_mut()) {
        labels.insert("__meta_dgfs_server".to_owned(), server.to_string().into());
    }
    json!({ "targets": [who.metrics], "labels": labels })
}

/// `/alerts`: takes what Alertmanager's `webhook_configs` post. Without a token nothing is taken.
pub(crate) fn inbox(service: &Arc<MetaService>, token: Option<String>) -> Arc<Inbox> {
    let service = Arc::downgrade(service);
    Arc::new(move |posted: Posted| match posted.path.as_str() {
        "/alerts" => Some(take(&service, token.as_deref(), &posted)),
        _ => None,
    })
}

fn take(service: &Weak<MetaService>, token: Option<&str>, posted: &Posted) -> Page {
    let Some(token) = token else {
        return Page::absent(
            "alerts are not taken here: name a token file in meta.toml, [alerts] token_file = \"alerts.token\"",
        );
    };
    if !posted.token.as_deref().is_some_and(|shown| same(shown.as_bytes(), token.as_bytes())) {
        return Page::unauthorized("show the token of [alerts] token_file as `Authorization: Bearer TOKEN`");
    }
    let message: Message = match serde_json::from_slice(&posted.body) {
        Ok(message) => message,
        Err(error) => return Page::bad_request(&format!("this is not what Alertmanager's webhook posts: {error}")),
    };
    let noted = service.upgrade().is_some_and(|service| {
        message.alerts.iter().take(ALERTS_MAX).all(|alert| service.note(alert.kind(), alert.name(), &alert.sentence()))
    });
    // Alertmanager tries again, here and where else it was told to.
    if noted { Page::done() } else { Page::unavailable("a standby: the active metadata service takes alerts") }
}

/// In a time that does not tell how much of it is right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// A post of Alertmanager's webhook, as far as it is needed.
#[derive(Debug, Deserialize)]
struct Message {
    alerts: Vec<Alert>,
}

#[derive(Debug, Deserialize)]
struct Alert {
    status: Firing,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Firing {
    Firing,
    Resolved,
}

impl Alert {
    const fn kind(&self) -> EventKind {
        match self.status {
            Firing::Firing => EventKind::AlertRaised,
            Firing::Resolved => EventKind::AlertResolved,
        }
    }

    fn name(&self) -> &str {
        self.labels.get("alertname").map_or("(without a name)", String::as_str)
    }

    /// Severity, summary, and what it is about.
    fn sentence(&self) -> String {
        let severity = self.labels.get("severity").map_or("", String::as_str);
        let summary = self.annotations.get("summary").or_else(|| self.annotations.get("description"));
        let mut text = summary.map_or_else(String::new, |summary| one_line(summary));
        for (name, value) in self.labels.iter().filter(|(name, _)| *name != "alertname" && *name != "severity") {
            if text.len() > EVENT_TEXT_BYTES_MAX {
                break;
            }
            let part = if text.is_empty() { "" } else { " " };
            // A string takes everything.
            let _ = write!(text, "{part}{}={}", one_line(name), one_line(value));
        }
        cut(&if severity.is_empty() { text } else { format!("{}: {text}", one_line(severity)) }, EVENT_TEXT_BYTES_MAX)
    }
}

/// Without what would make more lines of a list, or move a terminal's cursor.
fn one_line(text: &str) -> String {
    text.chars().take(EVENT_TEXT_BYTES_MAX).map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use dgfs_proto::attr::Timestamp;
    use dgfs_proto::ids::ServerId;
    use dgfs_proto::meta::{Announce, EventKind, MemberStatus, ProcessKind};

    use super::{Message, same, targets};

    fn member(instance: u64, metrics: &str) -> MemberStatus {
        let who = Announce {
            instance,
            kind: ProcessKind::Stored,
            host: "nas".to_owned(),
            pid: 7,
            name: "stored-1".to_owned(),
            version: "0.1.0".to_owned(),
            metrics: metrics.to_owned(),
            started: Timestamp::from_ms(0),
            server: Some(ServerId(2)),
        };
        MemberStatus { who, silent_ms: 1_500 }
    }

    #[test]
    fn each_address_is_one_target_with_the_labels_of_its_process() {
        let all = targets(&[member(1, "127.0.0.1:1"), member(2, ""), member(3, "127.0.0.1:1")], "nas");
        let text = all.to_string();
        assert_eq!(all.as_array().unwrap().len(), 1, "{text}");
        for words in [
            r#""targets":["127.0.0.1:1"]"#,
            r#""kind":"stored""#,
            r#""name":"stored-1""#,
            r#""__meta_dgfs_kind":"stored""#,
            r#""__meta_dgfs_host":"nas""#,
            r#""__meta_dgfs_server":"2""#,
        ] {
            assert!(text.contains(words), "{words} is not in {text}");
        }
    }

    #[test]
    fn the_loopback_of_another_machine_is_no_target() {
        let all = [member(1, "127.0.0.1:1"), member(2, "[::1]:1"), member(3, "10.0.0.7:1"), member(4, "nas:1")];
        let text = targets(&all, "another").to_string();
        assert!(text.contains("10.0.0.7:1") && text.contains("nas:1"), "{text}");
        assert!(!text.contains("127.0.0.1") && !text.contains("::1"), "{text}");
        assert_eq!(targets(&all, "nas").as_array().unwrap().len(), 4);
    }

    #[test]
    fn what_alertmanager_posts_becomes_one_line_each() {
        let text = r#"{"version":"4","receiver":"dgfs","status":"firing","truncatedAlerts":0,"alerts":[
            {"status":"firing","labels":{"alertname":"DgfsDiskFull","severity":"page","server":"1"},
             "annotations":{"summary":"the disk\nis full"},"startsAt":"2026-01-01T00:00:00Z"},
            {"status":"resolved","labels":{"alertname":"DgfsDiskFull"}}]}"#;
        let message: Message = serde_json::from_str(text).unwrap();
        let told: Vec<_> = message.alerts.iter().map(|alert| (alert.kind(), alert.name(), alert.sentence())).collect();
        let raised = (EventKind::AlertRaised, "DgfsDiskFull", "page: the disk is full server=1".to_owned());
        assert_eq!(told, [raised, (EventKind::AlertResolved, "DgfsDiskFull", String::new())]);
        assert!(serde_json::from_str::<Message>(r#"{"alerts":[{"status":"sleeping"}]}"#).is_err());
    }

    #[test]
    fn a_long_alert_is_cut_and_tokens_are_compared_whole() {
        let labels: String = (0..500).map(|number| format!("\"l{number}\":\"{}\",", "v".repeat(90))).collect();
        let text = format!("{{\"alerts\":[{{\"status\":\"firing\",\"labels\":{{{labels}\"z\":\"\"}}}}]}}");
        let message: Message = serde_json::from_str(&text).unwrap();
        assert_eq!(message.alerts.first().unwrap().sentence().len(), 512);
        assert!(same(b"token", b"token") && !same(b"token", b"tokem") && !same(b"token", b"tok"));
    }
}
