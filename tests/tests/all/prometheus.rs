//! What we give to Prometheus, Alertmanager and Grafana is valid, complete and about metrics that exist.
//!
//! Never trusts a file because it parses: rules are loaded by Prometheus itself and tested by promtool, dashboards are asked of a
//! Prometheus that scrapes a real cluster.

pub mod dashboards;
mod healthy;
mod live;
mod page;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use dgfs_tests::monitored::{root, source};
use dgfs_tests::process::{Outcome, run};
use dgfs_tests::program::dgfs;
use dgfs_tests::prometheus::Prometheus;
use dgfs_tests::scratch::Scratch;
use serde_json::Value;

/// How long a check by a program may take.
const CHECK: Duration = Duration::from_secs(300);
/// Metrics that rules and panels ask for and no process has yet.
const PENDING: &str = "tests/tests/all/prometheus/pending.txt";

#[test]
fn the_configuration_is_valid() {
    let file = root().join("prometheus/prometheus.yml").display().to_string();
    let _ = run("promtool", &["check", "config", &file], CHECK).expect_success("promtool check config");
    let file = root().join("prometheus/alertmanager.yml").display().to_string();
    let _ = run("amtool", &["check-config", &file], CHECK).expect_success("amtool check-config");
}

#[test]
fn every_rule_does_what_its_tests_say() {
    let _ = promtool_test(&rule_tests()).expect_success("promtool test rules");
}

#[test]
fn a_rule_that_does_not_fire_fails_its_test() {
    let scratch = Scratch::new("rules");
    let rules = root().join("prometheus/rules/alerts.yml");
    let wrong = source("prometheus/tests/network.yml")
        .replace("../rules/alerts.yml", &rules.display().to_string())
        .replace("value: 1", "value: 2");
    let file = scratch.join("network.yml");
    std::fs::write(&file, wrong).unwrap();
    let outcome = promtool_test(&[file]);
    assert!(!outcome.status.success(), "promtool accepts a wrong expectation");
}

#[test]
fn every_alert_has_tests_a_section_and_a_sentence_that_says_what_to_do() {
    let tests: String = rule_tests().iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let runbook = source("docs/RUNBOOK.md");
    let mut lacking = Vec::new();
    for alert in alerts() {
        let name = alert["name"].as_str().unwrap();
        let mut demand = |is_so: bool, what: &str| {
            if !is_so {
                lacking.push(format!("{name}: {what}"));
            }
        };
        demand(tests.contains(&format!("name: {name} fires")), "a test that it fires");
        demand(tests.contains(&format!("name: {name} is silent")), "a test that it is silent");
        demand(runbook.lines().any(|line| line == format!("## {name}")), "a section in docs/RUNBOOK.md");
        demand(runbook.contains(&format!("(#{})", name.to_lowercase())), "a row in the table of docs/RUNBOOK.md");
        let note = |key: &str| alert["annotations"][key].as_str().unwrap_or_default().to_owned();
        demand(!note("summary").is_empty(), "a summary");
        demand(note("description").contains('`'), "a description with a command");
        demand(note("runbook_url") == format!("docs/RUNBOOK.md#{}", name.to_lowercase()), "its runbook_url");
        let dashboard = note("dashboard").strip_prefix("/d/dgfs-").map(dashboards::file);
        demand(dashboard.is_some_and(|file| file.is_file()), "a dashboard that exists");
        let severity = alert["labels"]["severity"].as_str().unwrap_or_default();
        demand(["critical", "warning", "info"].contains(&severity), "a severity");
    }
    assert_eq!(lacking, Vec::<String>::new(), "alerts lack something");
}

#[test]
fn the_runbook_tells_of_alerts_that_exist_and_of_panels_that_exist() {
    let alerts: BTreeSet<String> = alerts().iter().map(|alert| alert["name"].as_str().unwrap().to_owned()).collect();
    let runbook = source("docs/RUNBOOK.md");
    let panels = dashboards::titles();
    let mut wrong = Vec::new();
    let mut section = "";
    for line in runbook.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            section = name;
            if !alerts.contains(name) {
                wrong.push(format!("{name}: no such alert"));
            }
        }
        let Some(look) = line.strip_prefix("*Look at:* ") else { continue };
        // `*Dashboard*, panel *Title*; commands`, or `panels *One* and *Two*`.
        let words: Vec<&str> = look.split(';').next().unwrap_or_default().split('*').skip(1).step_by(2).collect();
        let Some((dashboard, named)) = words.split_first() else { continue };
        for title in named {
            if !panels.contains(&((*dashboard).to_owned(), (*title).to_owned())) {
                wrong.push(format!("{section}: no panel {title:?} on {dashboard:?}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_command_that_is_advised_exists() {
    let mut advised = BTreeSet::new();
    for file in ["docs/RUNBOOK.md", "docs/MONITORING.md", "prometheus/rules/alerts.yml", "grafana/panels.py"] {
        let text = source(file);
        let words = text.split("`dgfs ").skip(1).filter_map(|rest| rest.split(['`', ' ', '\n']).next());
        advised.extend(words.map(str::to_owned));
    }
    assert!(advised.len() > 5, "{advised:?}");
    for word in advised {
        let help = run(dgfs(), &[word.as_str(), "--help"], CHECK);
        assert!(help.status.success(), "dgfs {word}: {}", help.errors);
    }
}

#[test]
fn every_metric_that_is_asked_for_exists() {
    let page = page::names();
    let pending = pending();
    let mut asked = dashboards::metrics();
    for rule in rules() {
        asked.extend(metrics_of(rule["query"].as_str().unwrap_or_default()));
    }
    let unknown: Vec<_> = asked.iter().filter(|name| !page.contains(*name) && !pending.contains(*name)).collect();
    assert_eq!(unknown, Vec::<&String>::new(), "no such metric in docs/METRICS.md");
    if std::env::var("DGFS_BLESS").is_ok_and(|value| value == "1") {
        // What exists now is waited for no longer; nothing is ever added here.
        let text = std::fs::read_to_string(root().join(PENDING)).unwrap();
        let left: Vec<_> = text.lines().filter(|line| line.starts_with('#') || !page.contains(*line)).collect();
        std::fs::write(root().join(PENDING), left.join("\n") + "\n").unwrap();
    }
    let pending = self::pending();
    let came: Vec<_> = pending.iter().filter(|name| page.contains(*name)).collect();
    assert_eq!(came, Vec::<&String>::new(), "these exist now: take them off {PENDING}");
    let idle: Vec<_> = pending.iter().filter(|name| !asked.contains(*name)).collect();
    assert_eq!(idle, Vec::<&String>::new(), "nothing asks for these: take them off {PENDING}");
}

#[test]
fn links_of_the_pages_lead_somewhere_and_pictures_are_small() {
    let mut dead = Vec::new();
    for page in ["MONITORING", "RUNBOOK", "FAULTS", "METRICS"] {
        let text = source(&format!("docs/{page}.md"));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { format!("{page}.md") } else { file.to_owned() };
            let path = root().join("docs").join(&target);
            let has_anchor =
                || std::fs::read_to_string(&path).unwrap().to_lowercase().contains(&format!("\n## {anchor}\n"));
            if !path.is_file() || (!anchor.is_empty() && !has_anchor()) {
                dead.push(format!("{page}: {link}"));
            }
        }
    }
    assert_eq!(dead, Vec::<String>::new());
    for picture in std::fs::read_dir(root().join("docs/pictures")).unwrap() {
        let picture = picture.unwrap();
        assert!(picture.metadata().unwrap().len() < 150 << 10, "{}", picture.path().display());
    }
}

/// Names of metrics in a query; a histogram's without the endings of its series.
pub fn metrics_of(expr: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let words = expr.split(|letter| !is_part(letter));
    let words = words.filter(|word| (word.starts_with("dgfs_") || word.starts_with("process_")) && !word.contains(':'));
    words.map(without_ending).collect()
}

fn without_ending(word: &str) -> String {
    let histogram =
        |ending| word.strip_suffix(ending).filter(|name| name.ends_with("_seconds") || name.ends_with("_mutations"));
    ["_bucket", "_sum", "_count"].into_iter().find_map(histogram).unwrap_or(word).to_owned()
}

/// Metrics that other parts have yet to make.
pub fn pending() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(PENDING)).unwrap_or_default();
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// All rules as Prometheus understands them.
fn rules() -> Vec<Value> {
    let files = root().join("prometheus/rules/*.yml");
    let prometheus = Prometheus::start(&format!("rule_files: ['{}']\n", files.display()));
    let rules = prometheus.rules().unwrap();
    assert!(!rules.is_empty(), "Prometheus loaded no rule");
    rules
}

fn alerts() -> Vec<Value> {
    rules().into_iter().filter(|rule| rule["type"] == "alerting").collect()
}

fn rule_tests() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("prometheus/tests")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "yml"));
    files.sort();
    files
}

fn promtool_test(files: &[PathBuf]) -> Outcome {
    let mut words = vec!["test".to_owned(), "rules".to_owned()];
    words.extend(files.iter().map(|file| file.display().to_string()));
    run("promtool", &words, CHECK)
}
