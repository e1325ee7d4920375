//! Programs that trust a file system: SQLite and git, by turns and at once.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dgfs_tests::process::run;

use super::{Trio, at_once, rounds};

const LIMIT: Duration = Duration::from_secs(120);

fn sh(directory: &Path, script: &str) -> String {
    let script = format!("cd '{}' && {script}", directory.display());
    run("bash", &["-euo", "pipefail", "-c", &script], LIMIT).expect_success(&script)
}

fn needs(program: &str) {
    let there = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(there, "this test needs {program}: install it (apt-get install {program})");
}

#[test]
fn an_sqlite_database_worked_on_by_two_mounts_stays_whole() {
    needs("sqlite3");
    let trio = Trio::new();
    trio.stirred("d", |a, b| {
        sh(a, "sqlite3 db 'create table t(who, at, text); create index i on t(text);'");
        // By its whole path: names expire while others work in the directory, which is then nowhere to getcwd for a moment (SEMANTICS,
        // between mounts).
        let insert = |directory: &Path, who: &str, count: u64| {
            for at in 0..count {
                let sql = format!("pragma busy_timeout=60000; insert into t values('{who}',{at},hex(randomblob(300)));");
                sh(directory, &format!("sqlite3 '{}/db' \"{sql}\" >/dev/null", directory.display()));
            }
        };
        let turns = rounds(12);
        for turn in 0..turns {
            let (one, other) = if turn % 2 == 0 { (a, b) } else { (b, a) };
            insert(one, "turn", 1);
            let count = sh(other, "sqlite3 db 'select count(*) from t'");
            assert_eq!(count.trim(), (turn + 1).to_string());
        }
        at_once(|| insert(a, "a", turns), || insert(b, "b", turns));
        for directory in [a, b] {
            assert_eq!(sh(directory, "sqlite3 db 'select count(*) from t'").trim(), (3 * turns).to_string());
            assert_eq!(sh(directory, "sqlite3 db 'pragma integrity_check'").trim(), "ok");
        }
        // A write-ahead log is shared memory between processes: on one mount.
        sh(a, "sqlite3 wal 'pragma journal_mode=wal; create table t(at);' >/dev/null");
        let wal = || sh(a, &format!("for i in $(seq {turns}); do sqlite3 '{}/wal' 'pragma busy_timeout=60000; insert into t values(1);' >/dev/null; done", a.display()));
        at_once(wal, wal);
        assert_eq!(sh(a, "sqlite3 wal 'select count(*) from t'").trim(), (2 * turns).to_string());
        assert_eq!(sh(a, "sqlite3 wal 'pragma integrity_check'").trim(), "ok");
    });
}

#[test]
fn a_git_repository_worked_on_by_two_mounts_stays_whole() {
    needs("git");
    let trio = Trio::new();
    trio.stirred("d", |a, b| {
        sh(a, "git init -q r && git -C r config user.email a@b && git -C r config user.name n");
        let commit = |directory: &Path, message: &str| {
            sh(directory, &format!("cd r && echo {message} >> log && git add log && git commit -qm {message}"));
        };
        let turns = rounds(10);
        for turn in 0..turns {
            let (one, other) = if turn % 2 == 0 { (a, b) } else { (b, a) };
            commit(one, &format!("turn{turn}"));
            assert_eq!(sh(other, "git -C r log -1 --format=%s").trim(), format!("turn{turn}"));
            assert_eq!(sh(other, "git -C r status --porcelain"), "", "turn {turn}");
        }
        // At once, each on a branch of its own in a work tree of its own; objects, refs and packs are shared.
        sh(a, "git -C r worktree add -q ../wa -b of-a && git -C r worktree add -q ../wb -b of-b");
        let work = |directory: &Path, tree: &str| {
            for at in 0..turns {
                let script = format!("cd {tree} && echo {at} >> own && git add own && git commit -qm at{at}");
                sh(directory, &script);
            }
        };
        at_once(|| work(a, "wa"), || work(b, "wb"));
        sh(a, "git -C r gc -q --prune=now");
        for directory in [a, b] {
            sh(directory, "git -C r fsck --full --strict");
            for branch in ["of-a", "of-b"] {
                let count = sh(directory, &format!("git -C r rev-list --count {branch}"));
                assert_eq!(count.trim(), (2 * turns).to_string());
            }
        }
    });
}
