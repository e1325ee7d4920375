//! What a daemon tells of itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use dgfs_proto::status::Status;
use dgfs_proto::watch::{LogLevel, LogQuery, WatchCall, WatchReply, WatchRequest};

use super::{WatchParts, WatchService, words};
use crate::channel::{Channel, LocalChannel, Role, WatchProtocol};
use crate::metrics::MetricSet;

#[derive(Serialize)]
struct Engine {
    url: String,
    password: String,
    password_file: String,
}

#[derive(Serialize)]
struct Config {
    listen: String,
    engine: Engine,
    memory_mib: u32,
}

#[test]
fn a_configuration_is_told_without_its_secrets() {
    let engine = Engine {
        url: "redis://user:hunter2@host:1/0".to_owned(),
        password: "hunter2".to_owned(),
        password_file: "/etc/p".to_owned(),
    };
    let told: BTreeMap<String, String> =
        words(&Config { listen: "[::]:1".to_owned(), engine, memory_mib: 5 }).into_iter().collect();
    let expected = [
        ("engine.password", "(not told)"),
        ("engine.password_file", "/etc/p"),
        ("engine.url", "redis://host:1/0"),
        ("listen", "[::]:1"),
        ("memory_mib", "5"),
    ];
    assert_eq!(told, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect());
}

async fn ask(request: WatchRequest) -> (WatchReply, Bytes) {
    let set = MetricSet::new();
    set.counter("dgfs_test_total", "Test").inc_by(3);
    let parts = WatchParts {
        part: "stored",
        version: "1",
        set,
        directory: Some("/proc".into()),
        certificate_until_s: 9,
        config: vec![("a".to_owned(), "b".to_owned())],
    };
    let channel: LocalChannel<WatchProtocol> = LocalChannel::new(WatchService::new(parts), Role::Client);
    let channel: Arc<dyn Channel<WatchProtocol>> = Arc::new(channel);
    channel.call(WatchCall { request_id: 1, request }, Bytes::new(), None).await.unwrap()
}

#[tokio::test]
async fn facts_are_those_of_this_process() {
    let (WatchReply::Facts(facts), _) = ask(WatchRequest::Facts).await else { panic!("no facts") };
    assert_eq!((facts.part.as_str(), facts.pid, facts.certificate_until_s), ("stored", std::process::id(), 9));
    assert!(facts.descriptors > 2 && facts.descriptors_max >= facts.descriptors, "{facts:?}");
    assert!(facts.resident_bytes > 1 << 20 && facts.now_us >= facts.started_us && !facts.host.is_empty(), "{facts:?}");
    assert_eq!(facts.directory.unwrap().path, "/proc");
}

#[tokio::test]
async fn numbers_come_in_the_body() {
    let (reply, body) = ask(WatchRequest::Metrics).await;
    assert_eq!(reply, WatchReply::Metrics);
    assert!(String::from_utf8(body.to_vec()).unwrap().contains("dgfs_test_total 3"));
}

#[tokio::test]
async fn a_page_without_a_bound_is_refused() {
    for limit in [0, 4097] {
        let query = LogQuery { after: 0, since_us: 0, request: None, level: LogLevel::Trace, limit };
        assert_eq!(ask(WatchRequest::Logs(query)).await.0, WatchReply::Refused(Status::Malformed), "{limit}");
    }
}
