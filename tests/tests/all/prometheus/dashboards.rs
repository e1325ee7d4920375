//! Dashboards: made from their tables, valid for Grafana, complete.
//!
//! Never asks Grafana: its own types, by the TypeScript compiler, say what it would accept.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use dgfs_tests::monitored::root;
use dgfs_tests::process::{Outcome, run};
use dgfs_tests::scratch::Scratch;
use serde_json::Value;

use super::metrics_of;

/// How long npm and the compiler may take.
const CHECK: Duration = Duration::from_secs(300);

/// A dashboard's file.
pub fn file(name: &str) -> PathBuf {
    root().join(format!("grafana/dashboards/{name}.json"))
}

/// All of them.
pub fn all() -> Vec<Value> {
    let entries = std::fs::read_dir(root().join("grafana/dashboards")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()).collect()
}

/// The title of a dashboard without what is before the `/`.
pub fn title(dashboard: &Value) -> String {
    dashboard["title"].as_str().unwrap().trim_start_matches("DGFS / ").to_owned()
}

/// Panels of a dashboard.
pub fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().unwrap()
}

/// Queries of a panel.
pub fn queries(panel: &Value) -> Vec<String> {
    let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
    targets.iter().map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// Pairs of dashboard and panel.
pub fn titles() -> BTreeSet<(String, String)> {
    let pairs = |dashboard: &Value| -> Vec<(String, String)> {
        let titles = panels(dashboard).iter().map(|panel| panel["title"].as_str().unwrap().to_owned());
        titles.map(|panel| (title(dashboard), panel)).collect()
    };
    all().iter().flat_map(pairs).collect()
}

/// Metrics that any panel asks for.
pub fn metrics() -> BTreeSet<String> {
    let of = |dashboard: &Value| -> Vec<String> { panels(dashboard).iter().flat_map(queries).collect() };
    all().iter().flat_map(of).flat_map(|expr| metrics_of(&expr)).collect()
}

#[test]
fn dashboards_are_what_their_tables_say() {
    let script = root().join("grafana/generate.py").display().to_string();
    let _ = run("python3", &["-B", &script, "--check"], CHECK).expect_success("grafana/generate.py --check");
}

#[test]
fn dashboards_are_valid_for_grafana_and_a_wrong_one_is_refused() {
    // Below the target directory: what npm brings is brought once.
    let room = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("grafana-schema");
    let good = root().join("grafana/dashboards");
    let _ = schema(&room, &good).expect_success("grafana/schema.py");
    let scratch = Scratch::new("dashboards");
    let wrong = std::fs::read_to_string(file("logs")).unwrap().replacen("\"gridPos\"", "\"gridPosition\"", 1);
    std::fs::write(scratch.join("wrong.json"), wrong).unwrap();
    let outcome = schema(&room, scratch.path());
    assert!(!outcome.status.success() && outcome.output.contains("gridPosition"), "{outcome:?}");
}

#[test]
fn every_panel_has_a_sentence_a_unit_and_legends() {
    let mut lacking = Vec::new();
    for dashboard in all() {
        let mut seen = BTreeSet::new();
        for panel in panels(&dashboard) {
            let name = format!("{}: {}", title(&dashboard), panel["title"]);
            let is_text = panel["type"] == "text";
            let sentence = panel["description"].as_str().unwrap_or_default();
            let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
            let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
            let legends = targets.iter().all(|target| !target["legendFormat"].as_str().unwrap_or_default().is_empty());
            if !sentence.ends_with(['.', '?']) || unit.is_empty() || !legends || targets.is_empty() != is_text {
                lacking.push(name.clone());
            }
            if !seen.insert(panel["title"].to_string()) {
                lacking.push(format!("{name}: twice"));
            }
        }
    }
    assert_eq!(lacking, Vec::<String>::new());
}

#[test]
fn links_between_dashboards_lead_somewhere() {
    let all = all();
    let known: BTreeSet<String> =
        all.iter().map(|dashboard| format!("/d/{}", dashboard["uid"].as_str().unwrap())).collect();
    assert_eq!(known.len(), all.len(), "each dashboard has an identity of its own");
    for dashboard in &all {
        for link in dashboard["links"].as_array().unwrap() {
            assert!(known.contains(link["url"].as_str().unwrap()), "{}: {link}", title(dashboard));
        }
    }
}

fn schema(room: &std::path::Path, dashboards: &std::path::Path) -> Outcome {
    let script = root().join("grafana/schema.py").display().to_string();
    run("python3", &["-B", &script, &room.display().to_string(), &dashboards.display().to_string()], CHECK)
}
