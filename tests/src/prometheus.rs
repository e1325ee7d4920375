//! Prometheus, Alertmanager and InfluxDB in processes of their own, as Debian packages them.
//!
//! Never uses one that runs already. Always: each has a free port and a directory of its own, and ends with the test, also after a
//! panic.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::http::{encoded, free_port, get, get_json, post};
use crate::process::{log_file, spawn, tail, wait_until};
use crate::scratch::Scratch;

/// How long one of them may take to begin or to be asked until it says what is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// Lines of the log in the report of a failure.
const LOG_LINES: usize = 20;

/// A server program that is started, asked by HTTP and killed.
struct Program {
    child: Option<Child>,
    port: u16,
    log: PathBuf,
}

impl Program {
    fn start(program: &str, words: &[String], port: u16, ready: &str, log: PathBuf) -> Self {
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(log_file(&log)).stderr(log_file(&log));
        let child = spawn(command).unwrap_or_else(|error| panic!("start {program}: {error} (./run test installs it)"));
        let mut program = Self { child: Some(child), port, log };
        let address = program.address();
        wait_until(&format!("{} answers", program.log.display()), PATIENCE, || {
            let ended = program.child.as_mut().and_then(|child| child.try_wait().expect("ask the child"));
            assert!(ended.is_none(), "it ended: {}", tail(&program.log, LOG_LINES));
            get(&address, ready).is_ok_and(|(status, _)| status < 300)
        });
        program
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}:\n{}", self.log.display(), tail(&self.log, LOG_LINES));
        }
        self.end();
    }
}

/// One series of an answer.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value now.
    pub value: f64,
}

/// A Prometheus.
pub struct Prometheus {
    program: Program,
    words: Vec<String>,
    dir: PathBuf,
    // Last: removed after the program is gone.
    _scratch: Scratch,
}

impl Prometheus {
    /// Starts one with this configuration; paths in it are seen from `rules`' parent directory.
    #[must_use]
    pub fn start(config: &str) -> Self {
        let scratch = Scratch::new("prometheus");
        let file = scratch.join("prometheus.yml");
        std::fs::write(&file, config).expect("write the configuration");
        let dir = scratch.join("data");
        let port = free_port();
        let words = vec![
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", dir.display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--storage.remote.flush-deadline=1s".to_owned(),
        ];
        let program = Program::start("prometheus", &words, port, "/-/ready", scratch.join("prometheus.log"));
        Self { program, words, dir, _scratch: scratch }
    }

    /// `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        self.program.address()
    }

    /// Ends it, throws away everything it stored, and starts it again.
    pub fn restart_with_an_empty_disk(&mut self) {
        self.program.end();
        std::fs::remove_dir_all(&self.dir).expect("remove what Prometheus stored");
        let log = self.program.log.clone();
        self.program = Program::start("prometheus", &self.words, self.program.port, "/-/ready", log);
    }

    /// What a query says now.
    ///
    /// # Errors
    /// What Prometheus says of it.
    pub fn query(&self, expr: &str) -> Result<Vec<Sample>, String> {
        self.query_at(expr, None)
    }

    /// What a query said at a time, in seconds since 1970.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub fn query_at(&self, expr: &str, at: Option<f64>) -> Result<Vec<Sample>, String> {
        let at = at.map(|at| format!("&time={at}")).unwrap_or_default();
        let answer = get_json(&self.address(), &format!("/api/v1/query?query={}{at}", encoded(expr)))?;
        let result = answer["data"]["result"].as_array().ok_or_else(|| format!("{expr}: {answer}"))?;
        Ok(result.iter().filter_map(sample).collect())
    }

    /// The first value of a query, if there is one.
    #[must_use]
    pub fn value(&self, expr: &str) -> Option<f64> {
        self.query(expr).ok()?.first().map(|sample| sample.value)
    }

    /// Waits until a query has an answer; panics otherwise.
    #[track_caller]
    pub fn wait_for(&self, expr: &str) {
        wait_until(expr, PATIENCE, || self.query(expr).is_ok_and(|samples| !samples.is_empty()));
    }

    /// Names of alerts that fire.
    #[must_use]
    pub fn firing(&self) -> Vec<String> {
        let samples = self.query("ALERTS{alertstate=\"firing\"}").unwrap_or_default();
        samples.into_iter().filter_map(|sample| sample.labels.get("alertname").cloned()).collect()
    }

    /// All alerts that are pending or fire, with their labels and annotations.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn alerts(&self) -> Result<Vec<Value>, String> {
        let answer = get_json(&self.address(), "/api/v1/alerts")?;
        Ok(answer["data"]["alerts"].as_array().cloned().unwrap_or_default())
    }

    /// All rules that it loaded.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn rules(&self) -> Result<Vec<Value>, String> {
        let answer = get_json(&self.address(), "/api/v1/rules")?;
        let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
        Ok(groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect())
    }
}

/// An Alertmanager.
pub struct Alertmanager {
    program: Program,
    // Last: removed after the program is gone.
    _scratch: Scratch,
}

impl Alertmanager {
    /// Starts one with this configuration.
    #[must_use]
    pub fn start(config: &str) -> Self {
        let scratch = Scratch::new("alertmanager");
        let file = scratch.join("alertmanager.yml");
        std::fs::write(&file, config).expect("write the configuration");
        let port = free_port();
        let words = [
            format!("--config.file={}", file.display()),
            format!("--storage.path={}", scratch.join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            // Alone: it looks for no others.
            "--cluster.listen-address=".to_owned(),
        ];
        let log = scratch.join("alertmanager.log");
        Self { program: Program::start("prometheus-alertmanager", &words, port, "/-/ready", log), _scratch: scratch }
    }

    /// `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        self.program.address()
    }

    /// Names of alerts it was told of, without those that are inhibited or silenced.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn active(&self) -> Result<Vec<String>, String> {
        let alerts = get_json(&self.address(), "/api/v2/alerts?active=true&inhibited=false&silenced=false")?;
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().map(str::to_owned);
        Ok(alerts.as_array().map(|alerts| alerts.iter().filter_map(name).collect()).unwrap_or_default())
    }
}

/// An InfluxDB 1.x with a database `dgfs`.
pub struct Influx {
    program: Program,
    // Last: removed after the program is gone.
    _scratch: Scratch,
}

impl Influx {
    /// Starts one.
    #[must_use]
    pub fn start() -> Self {
        let scratch = Scratch::new("influx");
        let (port, rpc) = (free_port(), free_port());
        let file = scratch.join("influxdb.conf");
        std::fs::write(&file, influx_config(scratch.path(), port, rpc)).expect("write the configuration");
        let words = ["run".to_owned(), "-config".to_owned(), file.display().to_string()];
        let program = Program::start("influxd", &words, port, "/ping", scratch.join("influxdb.log"));
        let (status, body) = post(
            &program.address(),
            "/query",
            "application/x-www-form-urlencoded",
            &format!("q={}", encoded("CREATE DATABASE dgfs")),
        )
        .expect("make the database");
        assert_eq!(status, 200, "{body}");
        Self { program, _scratch: scratch }
    }

    /// `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        self.program.address()
    }

    /// The answer to a query in InfluxDB's own language.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn query(&self, query: &str) -> Result<Value, String> {
        get_json(&self.address(), &format!("/query?db=dgfs&q={}", encoded(query)))
    }
}

fn influx_config(dir: &Path, port: u16, rpc: u16) -> String {
    let dir = dir.display();
    format!(
        "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n[meta]\n  dir = \"{dir}/meta\"\n[data]\n  dir = \"{dir}/data\"\n  \
         wal-dir = \"{dir}/wal\"\n[http]\n  bind-address = \"127.0.0.1:{port}\"\n  log-enabled = false\n"
    )
}

fn sample(series: &Value) -> Option<Sample> {
    let labels = series["metric"].as_object()?.iter();
    let labels = labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    Some(Sample { labels, value: series["value"][1].as_str()?.parse().ok()? })
}
