//! A cluster whose storage servers are hosts of their own in a network of the test.
//!
//! Never moves what is kept: servers are who they were, elsewhere. Always: metadata services and the index are on the test's
//! machine, at its address for services; daemons end with this.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::cluster::Cluster;
use crate::network::Network;
use crate::process::{kill9, log_file, spawn, wait_until};
use crate::program::dgfs;

/// How long the servers may take to be known where they are now.
const MOVED: Duration = Duration::from_secs(180);

/// Daemons of a cluster on a network.
pub struct Spread {
    daemons: Vec<Child>,
    // Last: removed after the daemons that use it.
    /// The network; storage server N is on host N-1.
    pub network: Network,
}

impl Spread {
    /// Moves a cluster that was started on one machine. Returns when every server has told its new address.
    #[must_use]
    #[track_caller]
    pub fn over(cluster: &mut Cluster, network: Network, servers: usize) -> Self {
        let roles: Vec<String> = cluster.daemons().into_iter().map(|(role, _)| role).collect();
        cluster.down();
        let mut spread = Self { daemons: Vec::new(), network };
        for role in roles.iter().map(String::as_str).chain(["client"]) {
            spread.edit(cluster, role, |text, network| text.replace("\"127.0.0.1:", &quoted(network.services())));
        }
        let mut pids = String::new();
        for role in &roles {
            let daemon = match role.strip_prefix("stored-").and_then(|number| number.parse::<usize>().ok()) {
                Some(number) => {
                    // Its numbers, too, are there.
                    spread.edit(cluster, role, |text, network| {
                        let (old, new) = (quoted(network.services()), quoted(network.address(number - 1)));
                        text.replace(&format!("listen = {old}"), &format!("listen = {new}"))
                    });
                    spread.network.spawn(number - 1, command(cluster, role))
                }
                None => spawn(command(cluster, role)),
            };
            let daemon = daemon.unwrap_or_else(|error| panic!("start {role}: {error}"));
            pids += &format!("{role} {}\n", daemon.id());
            spread.daemons.push(daemon);
        }
        fs::write(cluster.dir().join("pids"), pids).expect("write DIR/pids");
        wait_until("the metadata service answers and every server has told its new address", MOVED, || {
            let listed = cluster.server_command(&["ls", "--json"]);
            let has_moved = |host| listed.output.contains(&quoted(spread.network.address(host)));
            listed.status.success() && (0..servers).all(has_moved)
        });
        spread
    }

    #[track_caller]
    fn edit(&self, cluster: &Cluster, role: &str, change: impl Fn(&str, &Network) -> String) {
        let path = file(cluster, role, "toml");
        let old = fs::read_to_string(&path).expect("read a daemon's configuration");
        let new = change(&old, &self.network);
        assert_ne!(old, new, "{} has no address to change", path.display());
        fs::write(path, new).expect("write a daemon's configuration");
    }
}

impl Drop for Spread {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            kill9(daemon.id());
            let _ = daemon.wait();
        }
    }
}

/// How an address begins in a configuration.
fn quoted(address: Ipv4Addr) -> String {
    format!("\"{address}:")
}

fn file(cluster: &Cluster, role: &str, extension: &str) -> PathBuf {
    cluster.dir().join(role).with_extension(extension)
}

/// The command of this role's daemon.
fn command(cluster: &Cluster, role: &str) -> Command {
    let log = file(cluster, role, "log");
    let (kind, _) = role.split_once('-').expect("a role and a number");
    let mut command = Command::new(dgfs());
    command.arg(kind).arg("--config").arg(file(cluster, role, "toml"));
    command.stdin(Stdio::null()).stdout(log_file(&log)).stderr(log_file(&log));
    command
}
