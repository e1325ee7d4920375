//! `dgfs doctor`: what is wrong with a cluster, with the mounts of this machine, and with this machine, each with the command
//! that mends it.
//!
//! Never changes anything, and never asks anybody twice. Always: each check is in [`CHECKS`] and says something, if only that
//! it found nothing; who does not answer is a finding, not a failure.

mod clocks;
mod cluster;
mod disks;
pub(crate) mod finding;
pub(crate) mod gather;
mod lag;
pub(crate) mod local;
mod machine;
mod redis;

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::args::doctor::DoctorArgs;

use self::finding::{Finding, Severity};
use self::gather::{Gathered, gather};

/// There are findings.
const CODE_FOUND: u8 = 1;
/// Nobody could be asked. 2 is for wrong words, as everywhere.
const CODE_NOT_ASKED: u8 = 3;

/// Findings of one check that are told one by one: a cluster may have thousands of mounts.
const FINDINGS_MAX: usize = 50;

/// What a check must have looked at to say that nothing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// Nothing.
    Nothing,
    /// A daemon of a cluster that told its numbers.
    Daemons,
    /// What the active metadata service knows.
    Cluster,
    /// A store: a cluster, or an embedded mount.
    Store,
    /// A mount on this machine.
    Mount,
}

/// One check.
struct Check {
    name: &'static str,
    needs: Needs,
    /// What is so when it finds nothing.
    fine: &'static str,
    find: fn(&Gathered) -> Vec<Finding>,
}

/// Every check, in the order in which a fault causes others.
const CHECKS: [Check; 20] = [
    check("answers", Needs::Daemons, "every daemon answers", cluster::answers),
    check("redis", Needs::Cluster, "Redis (where it is used) keeps what is answered", redis::settings),
    check(
        "metadata",
        Needs::Daemons,
        "a metadata service is active, and one can replace it where there may be two",
        cluster::metadata,
    ),
    check("cluster", Needs::Cluster, "the metadata service tells who belongs to the cluster", cluster::untold),
    check("servers", Needs::Cluster, "every storage server is up", cluster::servers),
    check("partitions", Needs::Cluster, "no data lack copies", cluster::partitions),
    check("disks", Needs::Store, "no disk refuses, hangs or is slow", disks::health),
    check("space", Needs::Store, "no disk is nearly full", disks::space),
    check("data", Needs::Store, "no damage was found, and the scrub keeps up", disks::data),
    check("heartbeats", Needs::Daemons, "storage servers are heard", lag::heartbeats),
    check("links", Needs::Daemons, "daemons reach one another", cluster::links),
    check("consumers", Needs::Cluster, "followers of the change log keep up", lag::consumers),
    check("index", Needs::Daemons, "index services and Neo4j keep up", lag::index),
    check("sessions", Needs::Cluster, "no mount is silent", cluster::sessions),
    check("clocks", Needs::Daemons, "clocks agree", clocks::skew),
    check("certificates", Needs::Daemons, "no certificate ends within 30 days", clocks::certificates),
    check("limits", Needs::Daemons, "daemons may open enough files", cluster::limits),
    check("versions", Needs::Nothing, "all run the same version as this program", cluster::versions),
    check("machine", Needs::Nothing, "this machine can mount", machine::kernel),
    check("mounts", Needs::Mount, "mounts of this machine answer", machine::mounts),
];

const fn check(name: &'static str, needs: Needs, fine: &'static str, find: fn(&Gathered) -> Vec<Finding>) -> Check {
    Check { name, needs, fine, find }
}

/// Runs the command; its exit code tells whether something was found.
pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let seen = gather(args.asked.config.as_deref(), args.asked.path.as_deref(), None)
        .map_err(|failure| failure.with_code(CODE_NOT_ASKED))?;
    let findings = examine(&seen);
    if args.json {
        println!("{}", report(&findings));
    } else {
        findings.iter().for_each(show);
    }
    let is_fine = findings.iter().all(|finding| finding.severity == Severity::Ok);
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::from(CODE_FOUND) })
}

/// What all checks find, the worst first, and which of them found nothing.
pub(crate) fn examine(seen: &Gathered) -> Vec<Finding> {
    let mut all = Vec::new();
    for check in &CHECKS {
        let found = (check.find)(seen);
        if found.is_empty() && is_known(check.needs, seen) {
            all.push(Finding::ok(check.fine).of(check.name));
        }
        let more = found.len().saturating_sub(FINDINGS_MAX);
        all.extend(found.into_iter().take(FINDINGS_MAX).map(|finding| finding.of(check.name)));
        if more > 0 {
            let sentence = format!("{more} more findings of this kind");
            all.push(Finding::warning(sentence, seen.dgfs("doctor")).of(check.name));
        }
    }
    // Stable: within a severity the order of the table stays.
    all.sort_by_key(|finding| finding.severity);
    all
}

/// Was looked at what a check is about? What nobody told is not well.
fn is_known(needs: Needs, seen: &Gathered) -> bool {
    let any_told = seen.daemons.iter().any(|daemon| daemon.told.is_ok());
    let mut mounts = seen.mounts.iter().filter_map(|mount| mount.numbers.as_ref());
    match needs {
        Needs::Nothing => true,
        Needs::Daemons => any_told,
        Needs::Cluster => seen.active().is_some() && seen.faults.is_empty(),
        Needs::Store => any_told || mounts.any(|numbers| numbers.has("dgfs_stored_capacity_bytes")),
        Needs::Mount => !seen.mounts.is_empty(),
    }
}

/// All findings, for programs.
pub(crate) fn report(findings: &[Finding]) -> Value {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    json!({
        "findings": findings,
        "errors": count(Severity::Error),
        "warnings": count(Severity::Warning),
    })
}

fn show(finding: &Finding) {
    println!("{:<8} {:<12} {}", finding.severity.word(), finding.check, finding.sentence);
    if let Some(command) = &finding.command {
        println!("{:<8} {:<12} -> {command}", "", "");
    }
}

#[cfg(test)]
mod tests {
    use super::gather::testing::{daemon, gathered, mount, silent};
    use super::{examine, report};
    use crate::cli::doctor::finding::Severity;

    #[test]
    fn a_check_that_finds_nothing_says_so_and_the_worst_comes_first() {
        let meta = daemon("meta", "dgfs_meta_active 1\ndgfs_meta_standbys 0\ndgfs_meta_redis_up 1\n", |_| {});
        let findings = examine(&gathered(vec![meta, silent("stored")]));
        let severities: Vec<Severity> = findings.iter().map(|finding| finding.severity).collect();
        assert!(severities.is_sorted() && severities.first() == Some(&Severity::Error), "{findings:?}");
        assert_eq!(findings.len(), 19, "no mount is here: {findings:?}");
        for finding in &findings {
            assert_eq!(finding.command.is_none(), finding.severity == Severity::Ok, "{finding:?}");
            assert!(!finding.check.is_empty() && !finding.sentence.is_empty());
        }
        let report = report(&findings);
        assert_eq!((&report["errors"], &report["warnings"]), (&1.into(), &1.into()));
        assert_eq!(report["findings"][0]["severity"], "error");
    }

    #[test]
    fn many_findings_of_one_kind_are_counted() {
        let findings = examine(&gathered((0..60).map(|_| silent("stored")).collect()));
        let told: Vec<_> = findings.iter().filter(|one| one.check == "answers").collect();
        assert_eq!(told.len(), 51);
        assert!(told.iter().any(|one| one.sentence.starts_with("10 more")), "{told:?}");
    }

    #[test]
    fn what_nobody_told_is_not_called_well() {
        let findings = examine(&gathered(vec![silent("meta")]));
        let fine: Vec<_> = findings.iter().filter(|one| one.severity == Severity::Ok).map(|one| one.check).collect();
        assert_eq!(fine, ["versions", "machine"], "{findings:?}");
    }

    #[test]
    fn without_a_cluster_only_the_machine_and_its_mounts_are_judged() {
        let mut seen = gathered(Vec::new());
        seen.config = None;
        let names = |seen: &_| examine(seen).iter().map(|finding| finding.check).collect::<Vec<_>>();
        assert_eq!(names(&seen), ["versions", "machine"]);
        seen.mounts.push(mount("/mnt/x", "dgfs_stored_capacity_bytes 100\ndgfs_stored_free_bytes 50\n"));
        assert_eq!(names(&seen), ["disks", "space", "data", "versions", "machine", "mounts"]);
    }
}
