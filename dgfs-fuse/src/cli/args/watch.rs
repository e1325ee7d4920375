//! The words of `dgfs logs`, `stats`, `top` and `profile`.
//!
//! Never asks anybody: what is wrong with a word is said before anything is done.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use dgfs_proto::watch::LogLevel;
use dgfs_runtime::telemetry::parse_request;

/// Who is asked: a mount, or the daemons of a cluster.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Asked {
    /// A path on a mount: it alone is asked
    #[arg(conflicts_with = "config")]
    pub(crate) path: Option<PathBuf>,
    /// The cluster's client.toml: its daemons are asked
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// Only of this server: its address, label or number, or a part (meta, stored, index)
    #[arg(long, value_name = "SERVER", conflicts_with = "path")]
    pub(crate) server: Option<String>,
    /// Only of this request: the digits behind `request=` in a log
    #[arg(long, value_name = "ID", value_parser = request)]
    pub(crate) request: Option<u64>,
    /// Only so old at most, such as 30s, 10m, 2h or 1d
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) since: Option<Duration>,
    /// Only what matters so much: error, warn, info, debug or trace
    #[arg(long, default_value = "trace", value_name = "LEVEL")]
    pub(crate) level: LogLevel,
    /// Go on with what is logged from now on, until ^C
    #[arg(long)]
    pub(crate) follow: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// For programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// How often it is asked, such as 1s or 500ms
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Show one interval and end; so it does where the output is no terminal
    #[arg(long)]
    pub(crate) once: bool,
    /// One JSON object for each interval
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ProfileArgs {
    /// A path on a mount
    pub(crate) path: PathBuf,
    /// How long it is watched
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// What is added up
    #[arg(long, default_value = "process", value_name = "BY")]
    pub(crate) by: ProfileBy,
    /// For programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a profile adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProfileBy {
    /// Requests of one process
    Process,
    /// Requests about one file; those about names count for their directory
    Path,
    /// Requests of one kind
    Op,
}

impl ProfileBy {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Path => "path",
            Self::Op => "op",
        }
    }
}

fn request(text: &str) -> Result<u64, String> {
    parse_request(text).ok_or_else(|| "a request is 1 to 16 hexadecimal digits".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number with ms, s, m, h or d, such as 10m".to_owned();
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

/// Shorter would measure the asking, longer would look hung.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    let fits = (Duration::from_millis(100)..=Duration::from_secs(20)).contains(&interval);
    if fits { Ok(interval) } else { Err("an interval is 100ms to 20s".to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, interval};

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "10", "m", "1w", "-1s", "99999999999999999999d", "18446744073709551615d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(interval("50ms").is_err() && interval("1m").is_err() && interval("2s").is_ok());
    }
}
