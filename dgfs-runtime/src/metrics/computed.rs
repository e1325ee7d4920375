//! Metrics whose series are computed at each rendering: for numbers that are
//! kept elsewhere under labels that come and go.
//!
//! Never keeps a number. Always: a series that is not computed any more is
//! not shown any more; how many there are is whoever computes them to bound.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// Does a number only grow?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyKind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// The words of one metric.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What it says, for people.
    pub help: &'static str,
    /// How it moves.
    pub kind: FamilyKind,
    /// Its labels.
    pub labels: &'static [&'static str],
}

/// Takes the series of one rendering.
#[derive(Debug)]
pub struct Samples {
    families: &'static [Family],
    metrics: Vec<Vec<Metric>>,
}

impl Samples {
    /// Shows `value` as the series of the metric `name` whose labels have `labels`, in the order of [`Family::labels`].
    ///
    /// # Panics
    /// When no family has that name, or it has another number of labels: a bug.
    pub fn add(&mut self, name: &str, labels: &[&str], value: f64) {
        let place = self.families.iter().zip(&mut self.metrics).find(|(family, _)| family.name == name);
        let Some((family, metrics)) = place else { panic!("no computed metric is called {name}") };
        assert_eq!(family.labels.len(), labels.len(), "labels of {name}");
        let mut metric = Metric::default();
        metric.set_label(family.labels.iter().zip(labels).map(|(name, value)| label(name, value)).collect());
        match family.kind {
            FamilyKind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            FamilyKind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        metrics.push(metric);
    }
}

/// Computes the series of some families.
pub(super) type Compute = dyn Fn(&mut Samples) + Send + Sync;

/// What the registry asks.
#[derive(Clone)]
pub(super) struct Computed {
    pub(super) families: &'static [Family],
    pub(super) descriptions: Vec<Desc>,
    pub(super) compute: Arc<Compute>,
}

impl Computed {
    pub(super) fn new(families: &'static [Family], compute: Arc<Compute>) -> Result<Self, prometheus::Error> {
        let describe = |family: &Family| {
            let labels = family.labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(family.name.to_owned(), family.help.to_owned(), labels, HashMap::new())
        };
        let descriptions = families.iter().map(describe).collect::<Result<_, _>>()?;
        Ok(Self { families, descriptions, compute })
    }
}

impl Collector for Computed {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut samples = Samples { families: self.families, metrics: vec![Vec::new(); self.families.len()] };
        (self.compute)(&mut samples);
        let with_series = self.families.iter().zip(samples.metrics).filter(|(_, metrics)| !metrics.is_empty());
        with_series.map(|(family, metrics)| family_of(family, metrics)).collect()
    }
}

fn family_of(words: &Family, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(words.name.to_owned());
    family.set_help(words.help.to_owned());
    family.set_field_type(match words.kind {
        FamilyKind::Counter => MetricType::COUNTER,
        FamilyKind::Gauge => MetricType::GAUGE,
    });
    family.set_metric(metrics);
    family
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}
