//! Numbers for Prometheus, and the small HTTP server that shows them.
//!
//! Never measures anything itself. Always: at most [`CONNECTIONS_MAX`]
//! requests are answered at a time, and one that is slow is dropped.

pub mod computed;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing::debug;

use crate::metrics::computed::{Computed, Family, Samples};

/// Requests answered at a time; further connections wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 32;
/// A scrape takes milliseconds; whoever needs longer is stuck.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept (such as no free descriptor), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

/// The metrics of one process. Cheap to clone. A name is registered once; twice is a bug and panics at the start.
#[derive(Clone, Default)]
pub struct MetricSet {
    registry: Registry,
    refreshers: Arc<Mutex<Vec<Refresher>>>,
}

/// Brings metrics up to date with numbers that are kept elsewhere.
type Refresher = Box<dyn Fn() + Send + Sync>;

impl fmt::Debug for MetricSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricSet").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl MetricSet {
    /// No metrics yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A number that only grows.
    ///
    /// # Panics
    /// When the name is taken or malformed, as all functions here.
    #[must_use]
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(name, IntCounter::new(name, help))
    }

    /// Counters by label.
    #[must_use]
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(name, IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// A number that goes up and down.
    #[must_use]
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(name, IntGauge::new(name, help))
    }

    /// A number with a fraction that goes up and down.
    #[must_use]
    pub fn real(&self, name: &str, help: &str) -> Gauge {
        self.register(name, Gauge::new(name, help))
    }

    /// Gauges by label.
    #[must_use]
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(name, IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// How often values fell between `bounds` (seconds for times, bytes for sizes).
    #[must_use]
    pub fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        self.register(name, Histogram::with_opts(HistogramOpts::new(name, help).buckets(bounds.to_vec())))
    }

    /// Histograms by label.
    #[must_use]
    pub fn histograms(&self, name: &str, help: &str, labels: &[&str], bounds: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.register(name, HistogramVec::new(options, labels))
    }

    /// Metrics whose series `compute` says anew at each rendering; it must be quick, and bound them.
    pub fn computed(&self, families: &'static [Family], compute: impl Fn(&mut Samples) + Send + Sync + 'static) {
        let names = families.first().map_or("", |family| family.name);
        let _ = self.register(names, Computed::new(families, Arc::new(compute)));
    }

    /// Shows a metric that was made elsewhere, before there was a set.
    ///
    /// # Panics
    /// When its name is taken.
    pub fn adopt<C: Collector + Clone + 'static>(&self, metric: &C) {
        let name = metric.desc().first().map(|desc| desc.fq_name.clone()).unwrap_or_default();
        let _shown: C = self.register(&name, Ok(metric.clone()));
    }

    /// Runs `refresh` before each rendering: for numbers that are counted elsewhere. It must be quick.
    pub fn before_render(&self, refresh: impl Fn() + Send + Sync + 'static) {
        self.refreshers.lock().push(Box::new(refresh));
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// `InvalidData` when a metric has no help or no name.
    pub fn render(&self) -> io::Result<String> {
        for refresh in self.refreshers.lock().iter() {
            refresh();
        }
        TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(io::Error::other)
    }

    fn register<C: Collector + Clone + 'static>(&self, name: &str, metric: Result<C, prometheus::Error>) -> C {
        let registered = metric.and_then(|metric| self.registry.register(Box::new(metric.clone())).map(|()| metric));
        match registered {
            Ok(metric) => metric,
            Err(error) => panic!("metric {name} cannot be registered: {error}"),
        }
    }
}

/// Counters by label that are no one's yet; [`MetricSet::adopt`] shows them.
///
/// # Panics
/// When a name is malformed, as all functions here.
#[must_use]
pub fn counters_by(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    match IntCounterVec::new(Opts::new(name, help), labels) {
        Ok(counters) => counters,
        Err(error) => panic!("metric {name} cannot be made: {error}"),
    }
}

/// Histograms by one label that are no one's yet; [`MetricSet::adopt`] shows them. For numbers counted where no set is known.
///
/// # Panics
/// When a name is malformed, as all functions here.
#[must_use]
pub fn histograms_by(name: &str, help: &str, label: &str, bounds: &[f64]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
    match HistogramVec::new(options, &[label]) {
        Ok(histograms) => histograms,
        Err(error) => panic!("metric {name} cannot be made: {error}"),
    }
}

/// Shows in `counter` a number that is counted elsewhere; one that has become smaller was begun anew.
pub fn follow(counter: &IntCounter, value: u64) {
    if value < counter.get() {
        counter.reset();
    }
    counter.inc_by(value.saturating_sub(counter.get()));
}

/// Shows in `gauge` a number that is kept elsewhere.
pub fn show(gauge: &IntGauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// Bounds in seconds for the latency of a call: 50 µs to 30 s.
pub const LATENCY_BOUNDS_S: [f64; 12] =
    [0.000_05, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0];

/// Is the process ready to serve? The error is a sentence why not.
pub type Readiness = dyn Fn() -> Result<(), String> + Send + Sync;

/// Pages that a daemon shows beside the three that all have: from path (such as `/chunks`) and query (what follows
/// `?`, not decoded) to the page; `None` where it has no such page. It may take milliseconds (it runs where blocking is
/// allowed), and bounds the page's size itself.
pub type Pages = dyn Fn(&str, Option<&str>) -> Option<Page> + Send + Sync;

/// No further pages.
#[must_use]
pub fn no_pages() -> Arc<Pages> {
    Arc::new(|_path: &str, _query: Option<&str>| None)
}

/// Bytes of what is posted at most.
pub const POSTED_BYTES_MAX: usize = 1 << 20;

/// What somebody posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Where to, such as `/alerts`.
    pub path: String,
    /// What he showed as `Authorization: Bearer`.
    pub token: Option<String>,
    /// At most [`POSTED_BYTES_MAX`] bytes.
    pub body: Bytes,
}

/// Takes what is posted to a daemon; `None` where nothing is taken. As [`Pages`] otherwise.
pub type Inbox = dyn Fn(Posted) -> Option<Page> + Send + Sync;

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    status: StatusCode,
    kind: &'static str,
    body: String,
}

impl Page {
    /// A page of JSON.
    #[must_use]
    pub fn json(body: String) -> Self {
        Self { status: StatusCode::OK, kind: JSON, body }
    }

    /// What was asked cannot be answered (400): the sentence says what is wrong and what to ask instead.
    #[must_use]
    pub fn bad_request(sentence: &str) -> Self {
        Self::text(StatusCode::BAD_REQUEST, format!("{sentence}\n"))
    }

    /// Done; there is nothing to tell (200).
    #[must_use]
    pub fn done() -> Self {
        Self::text(StatusCode::OK, "ok\n".to_owned())
    }

    /// There is no such page here (404), and why.
    #[must_use]
    pub fn absent(sentence: &str) -> Self {
        Self::text(StatusCode::NOT_FOUND, format!("{sentence}\n"))
    }

    /// Who asks has not shown that he may (401).
    #[must_use]
    pub fn unauthorized(sentence: &str) -> Self {
        Self::text(StatusCode::UNAUTHORIZED, format!("{sentence}\n"))
    }

    /// It cannot be answered now (503), and why.
    #[must_use]
    pub fn unavailable(sentence: &str) -> Self {
        Self::text(StatusCode::SERVICE_UNAVAILABLE, format!("{sentence}\n"))
    }

    /// The number of its HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// What it says.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }

    fn text(status: StatusCode, body: String) -> Self {
        Self { status, kind: TEXT, body }
    }
}

/// Serves `/metrics`, `/healthz` (the process runs), `/readyz` (it can serve) and the daemon's own pages until it is
/// dropped.
#[derive(Debug)]
pub struct MetricsServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl MetricsServer {
    /// Listens at `address` (port 0: any free one).
    ///
    /// # Errors
    /// Those of listening: the address is taken, or not of this host.
    pub async fn start(
        address: SocketAddr,
        metrics: MetricSet,
        ready: Arc<Readiness>,
        pages: Arc<Pages>,
    ) -> io::Result<Self> {
        Self::start_with_inbox(address, metrics, ready, (pages, Arc::new(|_posted| None))).await
    }

    /// As [`Self::start`], and takes what is posted.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with_inbox(
        address: SocketAddr,
        metrics: MetricSet,
        ready: Arc<Readiness>,
        (pages, inbox): (Arc<Pages>, Arc<Inbox>),
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, Arc::new(Site { metrics, ready, pages, inbox })));
        Ok(Self { address, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Site {
    metrics: MetricSet,
    ready: Arc<Readiness>,
    pages: Arc<Pages>,
    inbox: Arc<Inbox>,
}

async fn accept(listener: TcpListener, site: Arc<Site>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // The semaphore is never closed, so the loop ends with its task only.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let site = Arc::clone(&site);
                tokio::spawn(async move {
                    if tokio::time::timeout(REQUEST_TIMEOUT, answer(stream, site)).await.is_err() {
                        debug!(%peer, "metrics request dropped: too slow");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                debug!(%error, "metrics connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, site: Arc<Site>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let site = Arc::clone(&site);
        async move {
            let page =
                if request.method() == Method::POST { site.take(request).await } else { site.page(&request).await };
            Ok::<_, Infallible>(response(page))
        }
    });
    // One request a connection: an idle one must not hold a place. An error is the peer's to notice.
    let _ = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await;
}

impl Site {
    async fn page(&self, request: &Request<Incoming>) -> Page {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Page::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        }
        match request.uri().path() {
            "/metrics" => match self.metrics.render() {
                Ok(text) => Page::text(StatusCode::OK, text),
                Err(error) => Page::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            "/healthz" => Page::text(StatusCode::OK, "running\n".to_owned()),
            "/readyz" => match (self.ready)() {
                Ok(()) => Page::text(StatusCode::OK, "ready\n".to_owned()),
                Err(reason) => Page::unavailable(&reason),
            },
            path => self.own(path.to_owned(), request.uri().query().map(str::to_owned)).await,
        }
    }

    /// Something is posted.
    async fn take(&self, request: Request<Incoming>) -> Page {
        let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = shown.and_then(|words| words.strip_prefix("Bearer ")).map(str::to_owned);
        let path = request.uri().path().to_owned();
        let body = match Limited::new(request.into_body(), POSTED_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let sentence = format!("at most {POSTED_BYTES_MAX} bytes are taken\n");
                return Page::text(StatusCode::PAYLOAD_TOO_LARGE, sentence);
            }
            Err(error) => return Page::bad_request(&format!("the body did not arrive: {error}")),
        };
        let inbox = Arc::clone(&self.inbox);
        match tokio::task::spawn_blocking(move || inbox(Posted { path, token, body })).await {
            Ok(Some(page)) => page,
            Ok(None) => {
                Page::text(StatusCode::METHOD_NOT_ALLOWED, "nothing is posted here: only GET and HEAD\n".to_owned())
            }
            Err(_panicked) => {
                Page::text(StatusCode::INTERNAL_SERVER_ERROR, "it could not be taken; see the log\n".to_owned())
            }
        }
    }

    /// A page of the daemon's own.
    async fn own(&self, path: String, query: Option<String>) -> Page {
        let pages = Arc::clone(&self.pages);
        match tokio::task::spawn_blocking(move || pages(&path, query.as_deref())).await {
            Ok(Some(page)) => page,
            Ok(None) => Page::text(
                StatusCode::NOT_FOUND,
                "no such page: there are /metrics, /healthz and /readyz, and those that the manual names for this daemon\n"
                    .to_owned(),
            ),
            Err(_panicked) => {
                Page::text(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made; see the log\n".to_owned())
            }
        }
    }
}

fn response(page: Page) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(page.body)));
    *response.status_mut() = page.status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(page.kind));
    response
}

#[cfg(test)]
mod tests;
