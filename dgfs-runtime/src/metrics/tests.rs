//! Promises of the metrics server, over loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{CONNECTIONS_MAX, LATENCY_BOUNDS_S, MetricSet, MetricsServer, POSTED_BYTES_MAX, Page, Posted, no_pages};

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

async fn server(metrics: &MetricSet, ready: &Arc<AtomicBool>) -> MetricsServer {
    let ready = Arc::clone(ready);
    let readiness = Arc::new(move || if ready.load(Ordering::SeqCst) { Ok(()) } else { Err("no disk".to_owned()) });
    MetricsServer::start((Ipv4Addr::LOCALHOST, 0).into(), metrics.clone(), readiness, no_pages()).await.unwrap()
}

#[tokio::test]
async fn metrics_are_shown_as_text() {
    let metrics = MetricSet::new();
    metrics.counter("dgfs_test_calls_total", "Calls.").inc_by(3);
    metrics
        .histograms("dgfs_test_seconds", "Time.", &["operation"], &LATENCY_BOUNDS_S)
        .with_label_values(&["x"])
        .observe(0.1);
    let server = server(&metrics, &Arc::new(AtomicBool::new(true))).await;
    let text = get(server.address(), "/metrics").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.contains("dgfs_test_calls_total 3"), "{text}");
    assert!(text.contains("dgfs_test_seconds_count{operation=\"x\"} 1"), "{text}");
}

#[tokio::test]
async fn readiness_follows_the_callback_and_health_does_not() {
    let ready = Arc::new(AtomicBool::new(false));
    let server = server(&MetricSet::new(), &ready).await;
    let text = get(server.address(), "/readyz").await;
    assert!(text.starts_with("HTTP/1.1 503") && text.ends_with("no disk\n"), "{text}");
    assert!(get(server.address(), "/healthz").await.starts_with("HTTP/1.1 200"));
    ready.store(true, Ordering::SeqCst);
    assert!(get(server.address(), "/readyz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_unknown_page_and_another_method_are_refused() {
    let server = server(&MetricSet::new(), &Arc::new(AtomicBool::new(true))).await;
    assert!(get(server.address(), "/etc").await.starts_with("HTTP/1.1 404"));
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 405"), "{text}");
}

#[tokio::test]
async fn a_daemon_adds_pages_that_hide_none_of_the_others() {
    let pages = |path: &str, query: Option<&str>| match (path, query) {
        ("/sizes", Some("by=name")) => Some(Page::json("[1]".to_owned())),
        ("/sizes", _) => Some(Page::bad_request("ask for by=name")),
        ("/healthz", _) => Some(Page::unavailable("never asked")),
        _ => None,
    };
    let ready = Arc::new(|| Ok(()));
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let server = MetricsServer::start(address, MetricSet::new(), ready, Arc::new(pages)).await.unwrap();
    let text = get(server.address(), "/sizes?by=name").await;
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("[1]"), "{text}");
    assert!(text.contains("content-type: application/json\r\n"), "{text}");
    let text = get(server.address(), "/sizes").await;
    assert!(text.starts_with("HTTP/1.1 400") && text.ends_with("ask for by=name\n"), "{text}");
    assert!(get(server.address(), "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(server.address(), "/others").await.starts_with("HTTP/1.1 404"));
}

async fn post(address: SocketAddr, (path, token): (&str, &str), body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A body that is refused early is not read to its end.
    let _ = stream.write_all(body).await;
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn what_is_posted_is_taken_where_somebody_takes_it_and_only_so_much() {
    let inbox = |posted: Posted| match (posted.path.as_str(), posted.token.as_deref()) {
        ("/in", Some("secret")) => Some(Page::json(posted.body.len().to_string())),
        ("/in", _) => Some(Page::unauthorized("show the token")),
        _ => None,
    };
    let (address, boxes) = ((Ipv4Addr::LOCALHOST, 0).into(), (no_pages(), Arc::new(inbox) as Arc<_>));
    let server = MetricsServer::start_with_inbox(address, MetricSet::new(), Arc::new(|| Ok(())), boxes).await.unwrap();
    let text = post(server.address(), ("/in", "secret"), b"12345").await;
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with('5'), "{text}");
    assert!(post(server.address(), ("/in", "guess"), b"1").await.starts_with("HTTP/1.1 401"));
    assert!(post(server.address(), ("/else", "secret"), b"1").await.starts_with("HTTP/1.1 405"));
    let text = post(server.address(), ("/in", "secret"), &vec![0; POSTED_BYTES_MAX + 1]).await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 413"), "{text}");
    assert!(post(server.address(), ("/in", "secret"), &vec![0; POSTED_BYTES_MAX]).await.ends_with("1048576"));
}

#[tokio::test]
async fn a_page_that_panics_is_answered_and_takes_no_place() {
    let pages = |_: &str, _: Option<&str>| panic!("a bug");
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let server = MetricsServer::start(address, MetricSet::new(), Arc::new(|| Ok(())), Arc::new(pages)).await.unwrap();
    for _ in 0..=CONNECTIONS_MAX {
        assert!(get(server.address(), "/sizes").await.starts_with("HTTP/1.1 500"));
    }
}

#[tokio::test]
async fn more_connections_than_places_are_all_answered_in_the_end() {
    let server = server(&MetricSet::new(), &Arc::new(AtomicBool::new(true))).await;
    let requests = (0..CONNECTIONS_MAX * 4).map(|_| get(server.address(), "/healthz"));
    for text in futures_util::future::join_all(requests).await {
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
}

#[test]
#[should_panic(expected = "metric dgfs_test_total cannot be registered")]
fn a_name_taken_twice_is_a_bug() {
    let metrics = MetricSet::new();
    let _first = metrics.counter("dgfs_test_total", "Calls.");
    let _second = metrics.counter("dgfs_test_total", "Calls.");
}
