//! DGFS under a service manager: what services tell it, what they take from it, and what is installed for it.
//!
//! Never needs a running systemd, except for the boot, which starts one in a container. The service manager's end of the protocol is
//! played; the units are judged by systemd's own tools.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::notify::Service;
use dgfs_tests::process::{run, signal, wait_until};
use dgfs_tests::program::{dgfs, is_long};
use dgfs_tests::scratch::{Scratch, mounts_below, unmount_lazily};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(60);
/// Within which a service is to give a sign of life; three are given in it.
const WATCHDOG: Duration = Duration::from_millis(900);
/// How long the boot of a container may take, making its tree included.
const BOOT: Duration = Duration::from_secs(1800);
/// The exposure of each service at most, as `systemd-analyze security` counts it (0 is best); what it says, docs/SYSTEMD.md says.
const EXPOSURE_MAX: [(&str, f64); 4] = [
    ("dgfs-meta.service", 1.3),
    ("dgfs-stored@.service", 1.3),
    ("dgfs-index.service", 1.9),
    ("dgfs-mount@.service", 4.9),
];

/// A cluster that was made and ended in order: its directory has configurations and data of each daemon.
fn resting_cluster() -> Cluster {
    let mut cluster = Cluster::start(ClusterPlan { embedded_engine: true, ..ClusterPlan::default() });
    cluster.down();
    cluster
}

fn daemon(cluster: &Cluster, part: &str, watchdog: Option<Duration>) -> Service {
    let config = cluster.dir().join(format!("{part}-1.toml"));
    let words = [part, "--config", config.to_str().unwrap()];
    Service::start((cluster.scratch().path(), part), &words, watchdog, None)
}

fn mount(cluster: &Cluster, point: &Path) -> Service {
    let config = cluster.dir().join("client.toml");
    let words = ["mount", "--config", config.to_str().unwrap(), point.to_str().unwrap()];
    Service::start((cluster.scratch().path(), "mount"), &words, Some(WATCHDOG), None)
}

/// Where the daemon of this configuration listens.
fn listen(cluster: &Cluster, part: &str) -> String {
    let text = fs::read_to_string(cluster.dir().join(format!("{part}-1.toml"))).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap();
    line.trim_matches('"').to_owned()
}

/// Takes a mount out of the tree whatever happens to the test.
struct Unmounted(PathBuf);

impl Drop for Unmounted {
    fn drop(&mut self) {
        mounts_below(&self.0).iter().for_each(|mount| unmount_lazily(mount));
    }
}

#[test]
fn every_part_is_ready_when_it_answers_and_says_that_it_stops_before_it_ends() {
    let cluster = resting_cluster();
    let point = cluster.scratch().dir("mnt");
    let _unmounted = Unmounted(point.clone());
    // A storage daemon serves once it has joined: it listens, and is not ready while there is no metadata service.
    let mut stored = daemon(&cluster, "stored", Some(WATCHDOG));
    let address = listen(&cluster, "stored");
    wait_until("the storage daemon listens", PATIENCE, || UdpSocket::bind(&address).is_err());
    while let Some(message) = stored.hear(Duration::ZERO) {
        assert!(!message.contains("READY=1"), "ready, and no metadata service is there");
    }
    let mut meta = daemon(&cluster, "meta", Some(WATCHDOG));
    let ready = meta.wait_for("READY=1");
    assert!(ready.last().unwrap().contains(&format!("STATUS=serving at {}", listen(&cluster, "meta"))), "{ready:?}");
    stored.wait_for("READY=1");
    let mut index = daemon(&cluster, "index", Some(WATCHDOG));
    index.wait_for("READY=1");
    let mut mounted = mount(&cluster, &point);
    mounted.wait_for("READY=1");
    assert_eq!(mounts_below(&point), std::slice::from_ref(&point), "ready, and not mounted");
    // Not synced: a stop in order sends it.
    fs::write(point.join("unsent"), "written and not synced").unwrap();
    for service in [&mut mounted, &mut index, &mut stored, &mut meta] {
        let (status, heard) = service.stop();
        assert!(status.success(), "{status}: {}", service.said());
        let stops = heard.iter().position(|message| message.lines().any(|line| line == "STOPPING=1"));
        assert!(stops.is_some(), "{heard:?}");
    }
    let _meta = daemon(&cluster, "meta", None);
    let _stored = daemon(&cluster, "stored", None);
    let again = mount(&cluster, &point);
    again.wait_for("READY=1");
    assert_eq!(fs::read_to_string(point.join("unsent")).unwrap(), "written and not synced");
}

#[test]
fn signs_of_life_come_while_a_process_lives_and_end_while_it_hangs() {
    let cluster = resting_cluster();
    let meta = daemon(&cluster, "meta", Some(WATCHDOG));
    meta.wait_for("READY=1");
    meta.wait_for("WATCHDOG=1");
    meta.wait_for("WATCHDOG=1");
    signal(meta.pid(), Signal::STOP);
    // Those that were sent before the signal arrived.
    while meta.hear(Duration::ZERO).is_some() {}
    assert_eq!(meta.hear(WATCHDOG * 3), None, "a process that is stopped gives a sign of life");
    signal(meta.pid(), Signal::CONT);
    meta.wait_for("WATCHDOG=1");
}

#[test]
fn without_a_watchdog_no_signs_of_life_are_given() {
    let cluster = resting_cluster();
    let mut meta = daemon(&cluster, "meta", None);
    let mut heard = meta.wait_for("READY=1");
    let (status, last) = meta.stop();
    assert!(status.success(), "{status}");
    heard.extend(last);
    assert!(!heard.iter().any(|message| message.contains("WATCHDOG")), "{heard:?}");
}

/// The configuration of `part` with its identity among the credentials; its path.
fn with_credentials(cluster: &Cluster, part: &str) -> PathBuf {
    let text = fs::read_to_string(cluster.dir().join(format!("{part}-1.toml"))).unwrap();
    let lines = text.lines().map(|line| match line.split_once(" = ") {
        Some(("identity", _)) => "identity = \"$CREDENTIALS_DIRECTORY\"".to_owned(),
        _ => line.to_owned(),
    });
    let path = cluster.dir().join(format!("{part}-credentials.toml"));
    fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    path
}

#[test]
fn keys_may_lie_among_the_credentials_and_their_absence_is_a_sentence() {
    let cluster = resting_cluster();
    let config = with_credentials(&cluster, "meta");
    let words = ["meta", "--config", config.to_str().unwrap()];
    let credentials = cluster.dir().join("certs/meta-1");
    let place = (cluster.scratch().path(), "credentials");
    let given = Service::start(place, &words, None, Some(&credentials));
    given.wait_for("READY=1");
    drop(given);
    let mut without = Service::start(place, &words, None, None);
    // Two: systemd does not start it again (RestartPreventExitStatus).
    assert_eq!(without.end().code(), Some(2), "{}", without.said());
    let said = without.said();
    assert!(said.contains("$CREDENTIALS_DIRECTORY is not set") && said.contains("LoadCredential="), "{said}");
    let empty = cluster.scratch().dir("empty");
    let mut missing = Service::start(place, &words, None, Some(&empty));
    assert!(!missing.end().success());
    assert!(missing.said().contains("cert.pem"), "{}", missing.said());
}

/// The sources.
fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the sources")
}

fn make(words: &[String]) -> Output {
    let mut command = Command::new("make");
    command.arg("--no-print-directory").args(words).arg(format!("BINARY={}", dgfs().display()));
    command.current_dir(top()).output().expect("start make (is it installed?)")
}

/// Installs with these settings.
fn install(words: &[String]) {
    let mut all = vec!["install".to_owned()];
    all.extend_from_slice(words);
    let output = make(&all);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() { left.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

const INSTALLED: [&str; 22] = [
    "usr/bin/dgfs",
    "sbin/mount.dgfs",
    "usr/lib/systemd/system/dgfs.target",
    "usr/lib/systemd/system/dgfs-storage.target",
    "usr/lib/systemd/system/dgfs-meta.service",
    "usr/lib/systemd/system/dgfs-stored@.service",
    "usr/lib/systemd/system/dgfs-index.service",
    "usr/lib/systemd/system/dgfs-mount@.service",
    "usr/lib/sysusers.d/dgfs.conf",
    "usr/lib/tmpfiles.d/dgfs.conf",
    "usr/share/bash-completion/completions/dgfs",
    "usr/share/zsh/site-functions/_dgfs",
    "usr/share/fish/vendor_completions.d/dgfs.fish",
    "usr/share/doc/dgfs/SYSTEMD.md",
    "usr/share/doc/dgfs/examples/fstab",
    "usr/share/doc/dgfs/examples/mnt-graph.mount",
    "usr/share/dgfs/prometheus/rules/alerts.yml",
    "usr/share/dgfs/grafana/dashboards/overview.json",
    "etc/dgfs/meta.toml.example",
    "etc/dgfs/stored-a.toml.example",
    "etc/dgfs/index.toml.example",
    "etc/dgfs/client.toml.example",
];

#[test]
fn make_install_puts_everything_in_place_and_uninstall_takes_it_away() {
    let scratch = Scratch::new("install");
    let destdir = [format!("DESTDIR={}", scratch.path().display())];
    install(&destdir);
    for name in INSTALLED {
        assert!(scratch.join(name).symlink_metadata().is_ok(), "{name} is not installed");
    }
    assert_eq!(fs::read_link(scratch.join("sbin/mount.dgfs")).unwrap(), Path::new("/usr/bin/dgfs"));
    let installed = scratch.join("usr/bin/dgfs");
    let _ = run(&installed, &["--version"], PATIENCE).expect_success("the installed binary");
    let bash = fs::read_to_string(scratch.join("usr/share/bash-completion/completions/dgfs")).unwrap();
    assert!(bash.contains("-F _dgfs"), "{bash}");
    for file in files_below(&scratch.join("usr/lib/systemd/system")) {
        assert_unit_names_what_is_there(&file, scratch.path());
    }
    // What an operator made stays.
    fs::write(scratch.join("etc/dgfs/meta.toml"), "x").unwrap();
    let output = make(&["uninstall".to_owned(), destdir[0].clone()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(files_below(scratch.path()), [scratch.join("etc/dgfs/meta.toml")]);
}

/// Programs, pages and units that a unit names are installed with it, or come with systemd.
fn assert_unit_names_what_is_there(unit: &Path, root: &Path) {
    let text = fs::read_to_string(unit).unwrap();
    let value = |line: &str, key: &str| line.strip_prefix(key).map(str::to_owned);
    for line in text.lines() {
        if let Some(command) = value(line, "ExecStart=") {
            let program = command.split_whitespace().next().unwrap().trim_start_matches('/').to_owned();
            assert!(root.join(&program).is_file(), "{}: no {program}", unit.display());
        }
        for page in value(line, "Documentation=").unwrap_or_default().split_whitespace() {
            let Some(page) = page.strip_prefix("file:/") else { continue };
            assert!(root.join(page).is_file(), "{}: no {page}", unit.display());
        }
        let related = ["Wants=", "After=", "Before=", "PartOf=", "Requires="].into_iter();
        for name in related
            .filter_map(|key| value(line, key))
            .flat_map(|names| names.split(' ').map(str::to_owned).collect::<Vec<_>>())
        {
            let ours = name.starts_with("dgfs");
            assert!(!ours || unit.with_file_name(&name).is_file(), "{}: no {name}", unit.display());
        }
    }
}

/// Units installed with a prefix that exists, so that systemd finds the programs they name.
fn units(scratch: &Scratch) -> PathBuf {
    let below = |name: &str| scratch.join(name).display().to_string();
    let places = [("PREFIX", "usr"), ("SYSCONFDIR", "etc"), ("SBINDIR", "sbin"), ("UNITDIR", "units")];
    let more = [("SYSUSERSDIR", "sysusers"), ("TMPFILESDIR", "tmpfiles")];
    let words: Vec<_> = places.iter().chain(&more).map(|(name, place)| format!("{name}={}", below(place))).collect();
    install(&words);
    scratch.join("units")
}

#[test]
fn systemd_finds_no_fault_in_the_units() {
    let scratch = Scratch::new("verify");
    let units = units(&scratch);
    fs::copy(top().join("systemd/examples/mnt-graph.mount"), units.join("mnt-graph.mount")).unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]).args(files_below(&units));
    command.env("SYSTEMD_UNIT_PATH", format!("{}:", units.display()));
    let output = command.output().expect("start systemd-analyze (is systemd installed?)");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}");
    // The check can fail: a misspelt key is found by it.
    let unit = units.join("dgfs-meta.service");
    let broken = fs::read_to_string(&unit).unwrap().replace("WatchdogSec=", "WatchdogSeconds=");
    fs::write(&unit, broken).unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("WatchdogSeconds"), "{output:?}");
}

#[test]
fn the_exposure_of_each_service_stays_low() {
    for (unit, most) in EXPOSURE_MAX {
        let path = top().join("systemd").join(unit);
        let words = ["security", "--offline=yes", "--no-pager", path.to_str().unwrap()];
        let said = run("systemd-analyze", &words, PATIENCE).expect_success("systemd-analyze security");
        let line = said.lines().find(|line| line.contains("Overall exposure level")).unwrap();
        let level: f64 = line.rsplit(": ").next().unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(level <= most, "{unit}: {level} is more than {most}\n{said}");
        let page = fs::read_to_string(top().join("docs/SYSTEMD.md")).unwrap();
        let stated = format!("| `{unit}` | {level} |");
        assert!(page.contains(&stated), "docs/SYSTEMD.md does not say `{stated}`");
    }
}

#[test]
fn state_of_the_daemons_lies_apart_from_the_embedded_volume() {
    for (unit, _) in EXPOSURE_MAX {
        let text = fs::read_to_string(top().join("systemd").join(unit)).unwrap();
        let states = text.lines().filter_map(|line| line.strip_prefix("StateDirectory="));
        for state in states {
            assert!(state.starts_with("dgfs-"), "{unit}: {state} lies in the default volume, /var/lib/dgfs");
        }
        assert!(text.contains("Type=notify") && text.contains("WatchdogSec="), "{unit}");
    }
}

/// Minutes: a tree is made by debootstrap (`DGFS_BOOT_TREE` names one that is kept), and systemd booted in it.
#[test]
fn units_start_in_order_under_a_real_systemd() {
    if !is_long() {
        eprintln!("the boot of a container is of the long form (DGFS_LONG=1)");
        return;
    }
    let script = top().join("tests/systemd/boot.sh");
    let words = [dgfs().as_os_str()];
    let said = run(&script, &words, BOOT).expect_success("tests/systemd/boot.sh");
    assert!(said.lines().any(|line| line == "boot: all passed"), "{said}");
}
