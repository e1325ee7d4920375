//! How the jobs of taggers end, and how long they take.
//!
//! Never labels a series with more than [`NAMES_MAX`] names: further taggers are counted together, as [`OTHERS`].

use std::collections::BTreeSet;
use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec};

use dgfs_runtime::metrics::{MetricSet, counters_by, histograms_by};
use dgfs_taggers::pool::JobError;
use dgfs_taggers::protocol::{Answer, Ended, Failed};

use crate::tagging::CONTENT;

/// Taggers counted each for itself.
const NAMES_MAX: usize = 64;
/// The label of all others.
const OTHERS: &str = "other";
/// Seconds: a text takes some ms, a model seconds, the limits some tens of seconds.
const BOUNDS_S: [f64; 12] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0];

/// See the module.
pub(super) struct TaggerNumbers {
    names: BTreeSet<String>,
    jobs: IntCounterVec,
    seconds: HistogramVec,
}

impl TaggerNumbers {
    /// Counts for the taggers with these names.
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let jobs = counters_by(
            "dgfs_index_tagger_jobs_total",
            "Files that a tagger looked at, by how that ended",
            &["tagger", "result"],
        );
        let seconds = histograms_by(
            "dgfs_index_tagger_seconds",
            "Seconds that a tagger took for a file; `content`: all that are built in together",
            "tagger",
            &BOUNDS_S,
        );
        Self { names: names.take(NAMES_MAX).map(str::to_owned).collect(), jobs, seconds }
    }

    /// Shows them in `set`; once.
    pub(super) fn register(&self, set: &MetricSet) {
        set.adopt(&self.jobs);
        set.adopt(&self.seconds);
    }

    /// The taggers that are built in have looked at a file, together.
    pub(super) fn built_in(&self, outcome: &Result<Answer, JobError>, took: Duration) {
        self.took(CONTENT, took);
        match outcome {
            Ok(answer) => {
                answer.findings.iter().for_each(|found| self.ended(&found.name, None));
                answer.failures.iter().for_each(|failed| self.ended(&failed.name, Some(failed.ended)));
            }
            Err(error) => self.ended(CONTENT, Some(error.ended())),
        }
    }

    /// A registered tagger has looked at a file.
    pub(super) fn registered(&self, name: &str, failed: Option<&Failed>, took: Duration) {
        self.took(name, took);
        self.ended(name, failed.map(|failed| failed.ended));
    }

    fn took(&self, name: &str, took: Duration) {
        self.seconds.with_label_values(&[self.label(name)]).observe(took.as_secs_f64());
    }

    fn ended(&self, name: &str, failed: Option<Ended>) {
        let result = match failed {
            None => "done",
            Some(Ended::Failed) => "failed",
            Some(Ended::Crashed) => "crashed",
            Some(Ended::TimedOut) => "timeout",
            Some(Ended::Refused) => "refused",
        };
        self.jobs.with_label_values(&[self.label(name), result]).inc();
    }

    fn label<'a>(&self, name: &'a str) -> &'a str {
        if self.names.contains(name) { name } else { OTHERS }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dgfs_runtime::metrics::MetricSet;
    use dgfs_taggers::pool::JobError;

    use super::{NAMES_MAX, TaggerNumbers};

    #[test]
    fn series_are_bounded_and_a_crash_is_told_from_a_refusal() {
        let names: Vec<String> = (0..1000).map(|number| format!("tagger{number:04}")).collect();
        let numbers = TaggerNumbers::new(names.iter().map(String::as_str));
        let set = MetricSet::new();
        numbers.register(&set);
        names.iter().for_each(|name| numbers.registered(name, None, Duration::from_millis(5)));
        let died = Err(JobError::Died { how: "signal 11".to_owned() });
        numbers.built_in(&died, Duration::ZERO);
        let text = set.render().unwrap();
        let jobs = text.lines().filter(|line| line.starts_with("dgfs_index_tagger_jobs_total{")).count();
        assert_eq!(jobs, NAMES_MAX + 2, "{text}");
        assert!(text.contains("dgfs_index_tagger_jobs_total{result=\"crashed\",tagger=\"other\"} 1"), "{text}");
        assert!(text.contains("dgfs_index_tagger_jobs_total{result=\"done\",tagger=\"other\"} 936"), "{text}");
    }
}
