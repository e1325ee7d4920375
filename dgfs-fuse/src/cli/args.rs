//! The words of the command line.
//!
//! Never reads a file or the environment. `mount.dgfs` (the helper of mount(8)) is turned into `dgfs mount` here.

pub(crate) mod chunks;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod graph;
pub(crate) mod join;
pub(crate) mod neo4j;
pub(crate) mod policy;
pub(crate) mod watch;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cli::args::chunks::ChunksArgs;
use crate::cli::args::doctor::{DebugArgs, DoctorArgs};
use crate::cli::args::events::EventsArgs;
use crate::cli::args::graph::{GraphCommand, IndexArgs};
use crate::cli::args::join::{JoinArgs, TokenArgs};
use crate::cli::args::neo4j::Neo4jArgs;
use crate::cli::args::policy::PolicyArgs;
use crate::cli::args::watch::{LogsArgs, ProfileArgs, StatsArgs, TopArgs};

/// A distributed graph file system.
#[derive(Debug, Parser)]
#[command(name = "dgfs", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mount a volume on a directory (without options: the embedded volume, made when it is missing)
    Mount(MountArgs),
    /// Unmount, and wait until everything is written
    Umount(UmountArgs),
    /// Make a volume
    Format(FormatArgs),
    /// Show a mount or a cluster
    Status(StatusArgs),
    /// Show where a file's bytes are
    Info(InfoArgs),
    /// Prepare a cluster, let machines join it
    Cluster(ClusterArgs),
    /// Make this machine a member of a cluster, by a token of `dgfs cluster token`
    Join(JoinArgs),
    /// Start a cluster of separate daemons on this machine
    Up(UpArgs),
    /// End a cluster started by `up`
    Down(DownArgs),
    /// Run a metadata service
    Meta(DaemonArgs),
    /// Run a storage daemon
    Stored(DaemonArgs),
    /// Run an index service, or ask the one of a mount
    Index(IndexArgs),
    /// Check a volume: metadata against chunks
    Fsck(FsckArgs),
    /// Show and change the storage servers of a cluster
    Server(ServerArgs),
    /// Show which chunks are used most
    Chunks(ChunksArgs),
    /// Show what happened to a cluster
    Events(EventsArgs),
    /// Show and change how redundantly the files of a directory are stored
    Policy(PolicyArgs),
    /// Show the last log records of a cluster's daemons, or of a mount
    Logs(LogsArgs),
    /// Show what a mount or a cluster has done so far
    Stats(StatsArgs),
    /// Show what a mount or a cluster is doing, until ^C
    Top(TopArgs),
    /// Show who uses a mount: requests by process, path or kind
    Profile(ProfileArgs),
    /// Say what is wrong with a cluster, a mount or this machine, and what mends it
    Doctor(DoctorArgs),
    /// Gather what helps to find a fault
    Debug(DebugArgs),
    #[command(flatten)]
    Graph(GraphCommand),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct MountArgs {
    /// The directory to mount on
    pub(crate) path: PathBuf,
    /// Where the embedded volume lies [default: /var/lib/dgfs for root, else $XDG_DATA_HOME/dgfs]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Join the cluster of this file (client.toml)
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    pub(crate) config: Option<PathBuf>,
    /// Metadata servers of the cluster, instead of those in the file
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', requires = "identity")]
    pub(crate) meta: Vec<String>,
    /// Directory with the client's cert.pem, key.pem and ca.pem, instead of the one in the file
    #[arg(long, value_name = "DIR")]
    pub(crate) identity: Option<PathBuf>,
    /// Return once the mount answers; the process goes on in the background
    #[arg(long)]
    pub(crate) background: bool,
    /// Options as of mount(8): ro, noatime, nosuid, nodev, noexec, sync, dirsync, allow_other, nonempty, soft, metrics=, log-file=, slow-ms=, tags=NAME, notags, tags_visible, graph=, graph-user=, graph-password-file=, graph-ca=, inbox=/PATH
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub(crate) options: Vec<String>,
    /// Fail at the first time-out instead of trying on
    #[arg(long)]
    pub(crate) soft: bool,
    /// Memory for chunk data that was read, MiB
    #[arg(long, value_name = "MIB")]
    pub(crate) cache_mb: Option<u64>,
    /// Keep chunk data of a cluster on a local disk, too, here; mounts of one host may share it
    #[arg(long, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// How much of it, such as 500M or 20G [default: 10G]
    #[arg(long, value_name = "SIZE", requires = "cache_dir")]
    pub(crate) cache_size: Option<String>,
    /// Memory for writes not yet sent, MiB
    #[arg(long, value_name = "MIB")]
    pub(crate) write_back_mb: Option<u64>,
    #[command(flatten)]
    pub(crate) graph: Neo4jArgs,
    /// Serve /metrics, /healthz and /readyz here; `none`: nowhere [default: a free port of 127.0.0.1]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) metrics: Option<String>,
    /// Where the log goes [default: standard error; in the background a file beside the volume]
    #[arg(long, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
    /// Set by `--background` for its child
    #[arg(long, hide = true)]
    pub(crate) ready_fd: Option<i32>,
}

#[derive(Debug, Args)]
pub(crate) struct UmountArgs {
    /// The mount point
    pub(crate) path: PathBuf,
    /// Take it out of the tree even if programs use it
    #[arg(long)]
    pub(crate) lazy: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// Where the embedded volume (or, with --redis, nothing) lies
    #[arg(long, value_name = "DIR", required_unless_present = "redis")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Make the volume in this Redis: redis://[:PASSWORD@]HOST:PORT/DB
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// When an answered change is safe in Redis: always, everysec, replicas=N
    #[arg(long, default_value = "always", value_name = "LEVEL")]
    pub(crate) durability: String,
    /// The volume's name
    #[arg(long, default_value = "main")]
    pub(crate) name: String,
    /// Bytes of a chunk, a power of two
    #[arg(long, value_name = "BYTES", default_value_t = dgfs_proto::limits::CHUNK_BYTES_DEFAULT)]
    pub(crate) chunk_bytes: u32,
    /// Storage servers that must have joined before anything is stored
    #[arg(long, default_value_t = 1)]
    pub(crate) servers: u32,
    /// Copies of each chunk, on as many servers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub(crate) replicas: u8,
    /// Destroy the volume that is there
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// A mount point, or a path below one [default: every mount on this machine]
    pub(crate) path: Option<PathBuf>,
    /// Ask the cluster of this file (client.toml)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// For programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// A file on a mount
    pub(crate) path: PathBuf,
    /// For programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    pub(crate) command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Make the authority and first certificates
    Init {
        /// Where they are written
        dir: PathBuf,
        /// Names or addresses the daemons run at
        #[arg(long, value_delimiter = ',')]
        host: Vec<String>,
        /// Days the certificates are valid
        #[arg(long, default_value_t = 365)]
        days: u32,
    },
    /// Print a token with which one machine can join
    Token(TokenArgs),
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// The cluster's directory
    pub(crate) dir: PathBuf,
    /// Storage daemons
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) servers: u32,
    /// Copies of each chunk, on as many servers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub(crate) replicas: u8,
    /// Add one storage daemon to the cluster that is there, and start it
    #[arg(long, conflicts_with_all = ["servers", "replicas", "redis"])]
    pub(crate) add: bool,
    /// Seconds a storage server may be down before its data are rebuilt on others
    #[arg(long, value_name = "SECONDS", default_value_t = dgfs_meta::service::SERVER_GRACE_MS_DEFAULT / 1000)]
    pub(crate) grace: u64,
    /// Seconds in which each storage server reads and checks everything once
    #[arg(long, value_name = "SECONDS", default_value_t = dgfs_stored::daemon::SCRUB_PERIOD_S_DEFAULT)]
    pub(crate) scrub: u64,
    /// Keep metadata in this Redis (two metadata services, one a standby) instead of the embedded engine
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// When an answered change is safe in Redis: always, everysec, replicas=N
    #[arg(long, default_value = "always", value_name = "LEVEL")]
    pub(crate) durability: String,
    /// The volume's name
    #[arg(long, default_value = "main")]
    pub(crate) name: String,
    /// Bytes of a chunk, a power of two
    #[arg(long, value_name = "BYTES", default_value_t = dgfs_proto::limits::CHUNK_BYTES_DEFAULT)]
    pub(crate) chunk_bytes: u32,
    #[command(flatten)]
    pub(crate) graph: Neo4jArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    /// The cluster's directory
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DaemonArgs {
    /// Its configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Set by `dgfs up`
    #[arg(long, hide = true)]
    pub(crate) ready_fd: Option<i32>,
}

#[derive(Debug, Args)]
pub(crate) struct FsckArgs {
    /// Where the embedded volume lies; it must not be mounted
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Check the running cluster of this file (client.toml)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Remove chunks that nothing refers to (files that lack data are only listed)
    #[arg(long)]
    pub(crate) repair: bool,
    /// Bring back what is readable of damaged metadata, and name what is lost
    #[arg(long, conflicts_with_all = ["config", "repair"])]
    pub(crate) salvage: bool,
    /// For programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    #[command(subcommand)]
    pub(crate) command: ServerCommands,
    /// The cluster's client.toml
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// For programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommands {
    /// List them
    Ls,
    /// Show one
    Show {
        /// Its number or name
        server: String,
    },
    /// Move everything off it, so that it can be removed
    Drain {
        /// Its number or name
        server: String,
        /// Return only once it holds nothing any more
        #[arg(long)]
        wait: bool,
    },
    /// Let it take part again
    Undrain {
        /// Its number or name
        server: String,
    },
    /// Forget a server that holds nothing any more and was stopped
    Remove {
        /// Its number or name
        server: String,
        /// Also when it holds something: what only it has is lost
        #[arg(long)]
        force: bool,
    },
    /// Name it and say where it stands: copies of a chunk never share the narrowest of zone, host and disk that there are enough of
    Label {
        /// Its number or name
        server: String,
        /// Its name
        #[arg(long)]
        name: Option<String>,
        /// The room or site it is in
        #[arg(long)]
        zone: Option<String>,
        /// The machine it is on
        #[arg(long)]
        host: Option<String>,
        /// The disk of that machine
        #[arg(long)]
        disk: Option<String>,
    },
    /// Set its share relative to the others'
    Weight {
        /// Its number or name
        server: String,
        /// A number; 0: it is given nothing; `auto`: by its capacity
        weight: String,
    },
}

/// `mount.dgfs SOURCE PATH [-sfnv] [-t TYPE] [-o OPTIONS]` as `dgfs mount --background …`. SOURCE is a data directory, the word
/// `embedded` (or `none`, `dgfs`), or a client.toml. Anything else is returned as it is.
pub(crate) fn from_mount_helper(arguments: Vec<OsString>) -> Vec<OsString> {
    let program = arguments.first().map(PathBuf::from).and_then(|path| path.file_name().map(OsStr::to_owned));
    if program.as_deref() != Some(OsStr::new("mount.dgfs")) {
        return arguments;
    }
    let mut turned: Vec<OsString> = ["dgfs", "mount", "--background"].map(OsString::from).to_vec();
    let mut names = Vec::new();
    let mut rest = arguments.into_iter().skip(1);
    while let Some(word) = rest.next() {
        if word == "-o" {
            turned.push(word);
            turned.extend(rest.next());
        } else if word == "-t" || word == "-N" {
            let _ = rest.next();
        } else if !word.to_string_lossy().starts_with('-') {
            names.push(word);
        }
    }
    let mut names = names.into_iter();
    let (source, path) = (names.next(), names.next());
    if let Some(source) = source.filter(|source| !["embedded", "none", "dgfs"].iter().any(|word| source == word)) {
        let is_file = source.to_string_lossy().ends_with(".toml");
        turned.push(OsString::from(if is_file { "--config" } else { "--data-dir" }));
        turned.push(source);
    }
    turned.extend(path);
    turned
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::{CommandFactory as _, Parser as _};

    use super::{Cli, Command, from_mount_helper};

    fn helper(words: &[&str]) -> Vec<String> {
        let turned = from_mount_helper(words.iter().map(OsString::from).collect());
        turned.into_iter().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_mount_helper_is_dgfs_mount_in_the_background() {
        assert_eq!(
            helper(&["/sbin/mount.dgfs", "embedded", "/mnt/g", "-n", "-o", "rw,noatime"]),
            ["dgfs", "mount", "--background", "-o", "rw,noatime", "/mnt/g"]
        );
        assert_eq!(
            helper(&["mount.dgfs", "/etc/dgfs/client.toml", "/mnt/g"]),
            ["dgfs", "mount", "--background", "--config", "/etc/dgfs/client.toml", "/mnt/g"]
        );
        assert_eq!(
            helper(&["mount.dgfs", "/srv/v", "/mnt/g", "-t", "dgfs"]),
            ["dgfs", "mount", "--background", "--data-dir", "/srv/v", "/mnt/g"]
        );
        assert_eq!(helper(&["dgfs", "status", "/mnt"]), ["dgfs", "status", "/mnt"]);
    }

    #[test]
    fn mount_takes_options_of_both_kinds() {
        let words = ["dgfs", "mount", "-o", "ro,noatime", "-o", "soft", "--cache-mb", "64", "/mnt/g"];
        let Command::Mount(args) = Cli::try_parse_from(words).unwrap().command else { panic!("not mount") };
        assert_eq!(args.options, ["ro,noatime", "soft"]);
        assert_eq!(args.cache_mb, Some(64));
        assert!(Cli::try_parse_from(["dgfs", "mount", "--data-dir", "a", "--config", "b", "/m"]).is_err());
    }
}
