//! Crates import downward only.
//!
//! Never looks at sources: Cargo's own description of the workspace is the evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What each crate may import, as `docs/ARCHITECTURE.md` says. A crate that is not here may import nothing of ours.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("dgfs-proto", &[]),
    ("dgfs-runtime", &["dgfs-proto"]),
    ("dgfs-client", &["dgfs-proto", "dgfs-runtime"]),
    ("dgfs-meta", &["dgfs-proto", "dgfs-runtime"]),
    ("dgfs-stored", &["dgfs-proto", "dgfs-runtime", "dgfs-client"]),
    ("dgfs-taggers", &[]),
    ("dgfs-index", &["dgfs-proto", "dgfs-runtime", "dgfs-client", "dgfs-taggers"]),
    // Its binary can run every daemon.
    (
        "dgfs-fuse",
        &["dgfs-proto", "dgfs-runtime", "dgfs-client", "dgfs-meta", "dgfs-stored", "dgfs-index", "dgfs-taggers"],
    ),
    // Starts real Redis servers as the tests of `dgfs-meta` do.
    ("dgfs-tests", &["dgfs-meta"]),
];

#[test]
fn crates_import_downward_only() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        MAY_IMPORT.iter().map(|(name, imports)| (*name, imports.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for (name, imports) in imports_of_the_workspace() {
        let may = allowed.get(name.as_str()).cloned().unwrap_or_default();
        for import in imports.iter().filter(|import| !may.contains(import.as_str())) {
            wrong.push(format!("{name} imports {import}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "imports run downward only (docs/ARCHITECTURE.md)");
}

#[test]
fn the_protocol_needs_no_standard_library() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dgfs-proto/src/lib.rs");
    let source = std::fs::read_to_string(root).unwrap();
    assert!(source.contains("no_std"), "dgfs-proto is no_std: so the compiler proves it has no socket, file or clock");
}

/// Crates of the workspace with those of ours that they import outside of their own tests.
fn imports_of_the_workspace() -> Vec<(String, BTreeSet<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<_> = packages.iter().map(|package| text(&package["name"])).collect();
    let imports = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap();
        let outside_tests = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
        outside_tests.map(|dependency| text(&dependency["name"])).filter(|name| ours.contains(name)).collect()
    };
    packages.iter().map(|package| (text(&package["name"]), imports(package))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
