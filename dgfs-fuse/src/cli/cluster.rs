//! `dgfs format`, `dgfs cluster init`, `dgfs up`, `dgfs down`: clusters are made, started and ended.
//!
//! Never watches what it started: each daemon is a process of its own and keeps its own line in `DIR/pids`. A
//! cluster's directory holds `ca/`, `certs/NAME/`, a file `ROLE.toml` for each daemon, `client.toml`, `join` and `pids`.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use dgfs_index::daemon::{IndexConfig, TAGGERS_DEFAULT};
use dgfs_index::neo4j::settings::Neo4jConfig;
use dgfs_meta::daemon::{AlertsConfig, EngineConfig, JoinConfig, MetaConfig, open_engine};
use dgfs_meta::engine::fjall::FjallEngine;
use dgfs_meta::format::{erase_volume, format_volume};
use dgfs_meta::service::MEMORY_BYTES_DEFAULT;
use dgfs_proto::class::Class;
use dgfs_proto::map::Labels;
use dgfs_proto::watch::WatchRequest;
use dgfs_runtime::channel::Role;
use dgfs_runtime::disk::{DirectoryLock, LockError, create_dir_durably, write_atomically, write_atomically_with_mode};
use dgfs_runtime::lifecycle::build_runtime;
use dgfs_runtime::pki::ClusterAuthority;
use dgfs_runtime::pki::registrar::CERTIFICATE_DAYS_DEFAULT;
use dgfs_runtime::ports::free_ports;
use dgfs_runtime::random;
use dgfs_runtime::telemetry::LogConfig;
use dgfs_stored::daemon::StoredConfig;

use crate::cli::args::{ClusterArgs, ClusterCommand, DownArgs, FormatArgs, UpArgs};
use crate::cli::background::start;
use crate::cli::daemon::read_identity;
use crate::cli::doctor::finding::shell_word;
use crate::cli::doctor::local::processes;
use crate::cli::files::{ClientFile, read_file, write_file};
use crate::cli::pids::{PidFile, lives};
use crate::cli::watched::{Daemon, PATIENCE};
use crate::cli::{Failure, check, join};
use crate::embedded::{Embedded, NewVolume};
use crate::mount::options::GraphOptions;

/// Days certificates of `dgfs up` are valid.
const CERTIFICATE_DAYS: u32 = 3650;
/// How long a daemon may take to write what is left when it is asked to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// Makes a volume.
pub(crate) fn format(args: &FormatArgs) -> Result<(), Failure> {
    check::chunk_bytes(args.chunk_bytes)?;
    check::volume_name(&args.name)?;
    if args.servers != 1 && (args.redis.is_none() || args.servers == 0) {
        return Err(Failure::new("--servers must be 1 for an embedded volume (--data-dir), and at least 1 in Redis"));
    }
    let class = class_for(args.replicas, args.servers)?;
    let volume = NewVolume { name: args.name.clone(), chunk_bytes: args.chunk_bytes, servers: args.servers, class };
    let runtime = build_runtime("dgfs", 1).map_err(Failure::new)?;
    runtime.block_on(async {
        if let Some(url) = &args.redis {
            let rows = redis_rows(url, &args.name, &args.durability);
            return format_redis(&rows, &volume, args.force).await;
        }
        let Some(directory) = &args.data_dir else { return Err(Failure::new("give --data-dir or --redis")) };
        if args.force {
            remove_embedded(directory)?;
        }
        Embedded::format(directory, &volume).await.map_err(Failure::new)
    })?;
    println!("volume {} is ready", args.name);
    Ok(())
}

fn remove_embedded(directory: &Path) -> Result<(), Failure> {
    // Whoever has it mounted holds this lock.
    create_dir_durably(directory).map_err(Failure::new)?;
    let _lock = DirectoryLock::acquire(directory, "being formatted").map_err(|error| match error {
        LockError::Held { directory, holder } => {
            let holder = holder.split(" (process ").next().unwrap_or_default();
            Failure::new(format!("the volume in {} is {holder}: unmount it first", directory.display()))
        }
        LockError::Io { .. } => Failure::new(error),
    })?;
    for part in ["meta", "chunks"] {
        let path = directory.join(part);
        if path.exists() {
            std::fs::remove_dir_all(&path)
                .map_err(|error| Failure::new(format!("remove {}: {error}", path.display())))?;
        }
    }
    Ok(())
}

fn redis_rows(url: &str, volume: &str, durability: &str) -> EngineConfig {
    EngineConfig::Redis { url: url.to_owned(), volume: volume.to_owned(), durability: durability.to_owned() }
}

async fn format_redis(rows: &EngineConfig, volume: &NewVolume, force: bool) -> Result<(), Failure> {
    let engine = open_engine(rows).await.map_err(Failure::new)?;
    if force {
        erase_volume(engine.as_ref()).await.map_err(Failure::new)?;
    }
    let facts = volume.facts().map_err(Failure::new)?;
    format_volume(engine.as_ref(), &facts, volume.class).await.map_err(Failure::new)
}

/// So many copies, if there will be as many servers.
fn class_for(replicas: u8, servers: u32) -> Result<Class, Failure> {
    if u32::from(replicas) > servers {
        return Err(Failure::new(format!(
            "--replicas {replicas} needs as many storage servers: give --servers {replicas} or more"
        )));
    }
    Class::replicated(replicas).map_err(Failure::new)
}

/// Makes what `dgfs cluster` was asked for.
pub(crate) fn run(args: &ClusterArgs) -> Result<(), Failure> {
    match &args.command {
        ClusterCommand::Init { dir, host, days } => init(dir, host, *days),
        ClusterCommand::Token(args) => join::token(args),
    }
}

/// Makes an authority and one identity for each role.
fn init(dir: &Path, host: &[String], days: u32) -> Result<(), Failure> {
    check::days(days)?;
    let authority = ClusterAuthority::create(&dir.join("ca")).map_err(Failure::new)?;
    for (role, name) in
        [(Role::Meta, "meta"), (Role::Stored, "stored"), (Role::Index, "index"), (Role::Client, "client")]
    {
        let identity = authority.issue(role, name, host, days).map_err(Failure::new)?;
        identity.write(&dir.join("certs").join(name)).map_err(Failure::new)?;
    }
    println!(
        "cluster {}: authority in {1}/ca (keep ca.key safe), certificates in {1}/certs",
        authority.cluster(),
        dir.display()
    );
    Ok(())
}

/// Starts a cluster, made first when the directory holds none.
pub(crate) fn up(args: &UpArgs) -> Result<(), Failure> {
    check::volume_name(&args.name)?;
    check::chunk_bytes(args.chunk_bytes)?;
    create_dir_durably(&args.dir).map_err(|error| Failure::new(format!("make {}: {error}", args.dir.display())))?;
    let directory = args.dir.canonicalize().map_err(Failure::new)?;
    match (directory.join("client.toml").exists(), args.add) {
        (false, true) => return Err(Failure::new(format!("{} holds no cluster to add to", directory.display()))),
        (false, false) => make(&directory, args)?,
        (true, true) => add_stored(&directory)?,
        (true, false) => {}
    }
    let pids = PidFile::new(directory.join("pids"));
    let mut running = pids.read().map_err(Failure::new)?;
    running.retain(|(_, pid)| lives(*pid));
    let mut silent = silent_of(&directory, &running)?;
    // What was ended a moment before is started; only then is anybody said to hang.
    silent.retain(|(_, pid)| lives(*pid));
    let mut started = 0;
    for role in roles(&directory)? {
        let lives_already = running.iter().any(|(name, pid)| *name == role && lives(*pid));
        if lives_already {
            continue;
        }
        let kind = role.split('-').next().unwrap_or_default();
        let config = directory.join(format!("{role}.toml"));
        let words = [OsString::from(kind), OsString::from("--config"), config.into_os_string()];
        let log = directory.join(format!("{role}.log"));
        start(&words, &log).map_err(|failure| {
            Failure::new(format!("{role} did not start: {} (log in {})", failure.sentence, log.display()))
        })?;
        started += 1;
    }
    println!("{started} daemons started; mount with: dgfs mount --config {}/client.toml PATH", directory.display());
    let sentences: Vec<String> = silent.iter().map(|(role, pid)| hanging(&directory, role, *pid)).collect();
    if sentences.is_empty() { Ok(()) } else { Err(Failure::new(sentences.join("\ndgfs: "))) }
}

/// Those of the daemons that run which do not answer.
fn silent_of(directory: &Path, running: &[(String, u32)]) -> Result<Vec<(String, u32)>, Failure> {
    if running.is_empty() {
        return Ok(Vec::new());
    }
    let (file, base) = read_file::<ClientFile>(&directory.join("client.toml"))?;
    let identity = read_identity(&base.join(&file.identity))?;
    let addresses = processes(directory);
    let runtime = build_runtime("dgfs", 1).map_err(Failure::new)?;
    runtime.block_on(async {
        let mut asked = Vec::new();
        for (role, pid) in running {
            let Some((address, _)) = addresses.iter().find(|(_, process)| process.role == *role) else { continue };
            let part = match role.split('-').next() {
                Some("meta") => ("meta", Role::Meta),
                Some("stored") => ("stored", Role::Stored),
                _ => ("index", Role::Index),
            };
            let daemon = Daemon::at(&identity, part, address, None)?;
            asked.push(async move {
                let answer = daemon.ask(WatchRequest::Facts).await;
                answer.is_err().then(|| (role.clone(), *pid))
            });
        }
        Ok(join_all(asked).await.into_iter().flatten().collect())
    })
}

/// That a daemon runs and does not answer, and what to do.
fn hanging(directory: &Path, role: &str, pid: u32) -> String {
    let mine = processes(directory).into_values().find(|process| process.role == role);
    let up = format!("dgfs up {}", shell_word(&directory.display().to_string()));
    let mend = mine.and_then(|process| process.revive(&up)).unwrap_or(up);
    format!("{role} runs as {pid} but does not answer within {} s: {mend}", PATIENCE.as_secs())
}

/// Ends a cluster: mounts first lose nothing, because storage outlives metadata.
pub(crate) fn down(args: &DownArgs) -> Result<(), Failure> {
    let pids = PidFile::new(args.dir.join("pids"));
    let mut running =
        pids.read().map_err(|error| Failure::new(format!("read {}/pids: {error}", args.dir.display())))?;
    if running.is_empty() && !args.dir.join("client.toml").exists() {
        return Err(Failure::new(format!("{} holds no cluster", args.dir.display())));
    }
    // "index" and "meta" sort before "stored".
    running.sort();
    for (role, pid) in running {
        if lives(pid) {
            stop(&role, pid)?;
        }
        pids.set(&role, None).map_err(Failure::new)?;
    }
    Ok(())
}

fn stop(role: &str, pid: u32) -> Result<(), Failure> {
    let number = i32::try_from(pid).map_err(Failure::new)?;
    // SAFETY: kill takes two numbers; `lives` has just seen that this is one of our daemons.
    if unsafe { libc::kill(number, libc::SIGTERM) } != 0 {
        return Err(Failure::new(format!("stop {role} ({pid}): {}", std::io::Error::last_os_error())));
    }
    let until = Instant::now() + STOP_PATIENCE;
    while lives(pid) {
        if Instant::now() >= until {
            return Err(Failure::new(format!(
                "{role} ({pid}) has not ended after {} s: see its log",
                STOP_PATIENCE.as_secs()
            )));
        }
        // Another process's end can only be looked for.
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Daemons of a cluster in the order they start: metadata, storage, index.
pub(crate) fn roles(directory: &Path) -> Result<Vec<String>, Failure> {
    let entries = std::fs::read_dir(directory).map_err(Failure::new)?;
    let mut roles: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_string_lossy().strip_suffix(".toml").map(str::to_owned))
        .filter(|role| role.starts_with("meta-") || role.starts_with("stored-") || role.starts_with("index-"))
        .collect();
    let rank = |role: &str| ["meta-", "stored-", "index-"].iter().position(|kind| role.starts_with(kind));
    roles.sort_by_key(|role| (rank(role), role.clone()));
    Ok(roles)
}

fn make(directory: &Path, args: &UpArgs) -> Result<(), Failure> {
    let runtime = build_runtime("dgfs", 1).map_err(Failure::new)?;
    let class = class_for(args.replicas, args.servers)?;
    let volume = NewVolume { name: args.name.clone(), servers: args.servers, class, chunk_bytes: args.chunk_bytes };
    let rows = match &args.redis {
        Some(url) => {
            let rows = redis_rows(url, &args.name, &args.durability);
            runtime.block_on(format_redis(&rows, &volume, false))?;
            rows
        }
        None => {
            let facts = volume.facts().map_err(Failure::new)?;
            let engine = FjallEngine::create(&directory.join("meta-1")).map_err(Failure::new)?;
            runtime.block_on(format_volume(&engine, &facts, volume.class)).map_err(Failure::new)?;
            EngineConfig::Embedded { dir: "meta-1".into() }
        }
    };
    let authority = ClusterAuthority::create(&directory.join("ca")).map_err(Failure::new)?;
    let hosts = local_hosts();
    let identity = |role: Role, name: &str| -> Result<std::path::PathBuf, Failure> {
        let identity = authority.issue(role, name, &hosts, CERTIFICATE_DAYS).map_err(Failure::new)?;
        identity.write(&directory.join("certs").join(name)).map_err(Failure::new)?;
        Ok(Path::new("certs").join(name))
    };
    let metas = if args.redis.is_some() { 2 } else { 1 };
    let mut addresses = free_addresses(metas + 2 + args.servers as usize)?.into_iter();
    let mut metrics = free_addresses(metas + 1 + args.servers as usize)?.into_iter();
    let alerts = alerts_token(directory)?;
    let mut join_listen = addresses.next();
    let listens: Vec<SocketAddr> = addresses.by_ref().take(metas).collect();
    let meta: Vec<String> = listens.iter().map(SocketAddr::to_string).collect();
    // SAFETY: getuid and getgid have no arguments and cannot fail.
    let (root_uid, root_gid) = unsafe { (libc::getuid(), libc::getgid()) };
    for (number, listen) in (1..).zip(listens) {
        let role = format!("meta-{number}");
        let file = MetaConfig {
            listen,
            identity: identity(Role::Meta, &role)?,
            engine: rows.clone(),
            memory_mib: MEMORY_BYTES_DEFAULT >> 20,
            root_uid,
            root_gid,
            server_grace_s: args.grace,
            metrics_listen: metrics.next(),
            alerts: Some(alerts.clone()),
            // The first only: each metadata service that lets machines join has a port for it.
            join: join_listen.take().map(|listen| join_at(directory, listen, &meta)).transpose()?,
            log: LogConfig::default(),
        };
        write_file(&directory.join(format!("{role}.toml")), &file)?;
    }
    for (number, listen) in (1..).zip(addresses.by_ref().take(args.servers as usize)) {
        let role = format!("stored-{number}");
        let identity = identity(Role::Stored, &role)?;
        let places = (listen, metrics.next());
        write_file(&directory.join(format!("{role}.toml")), &stored_file(&role, places, identity, &meta, args.scrub))?;
    }
    let graph = args.graph.config(&GraphOptions::default())?;
    let places = (addresses.next().ok_or_else(|| Failure::new("find a free port"))?, metrics.next());
    let index = index_file(places, &meta, identity(Role::Index, "index-1")?, graph);
    write_file(&directory.join("index-1.toml"), &index)?;
    write_atomically(&directory.join("pids"), b"").map_err(Failure::new)?;
    let identity = identity(Role::Client, "client")?;
    let client = ClientFile { meta, identity, ..ClientFile::default() };
    // Last: a cluster is made when this file is there.
    write_file(&directory.join("client.toml"), &client)
}

/// A token for whoever posts alerts, in `DIR/alerts.token`.
fn alerts_token(directory: &Path) -> Result<AlertsConfig, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("make a token for alerts: {error}"));
    let mut bytes = [0_u8; 16];
    random::fill(&mut bytes).map_err(failed)?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = "alerts.token";
    write_atomically_with_mode(&directory.join(name), format!("{text}\n").as_bytes(), 0o600).map_err(failed)?;
    Ok(AlertsConfig { token_file: name.into() })
}

/// Machines join at `listen`, and `DIR/join` says so.
fn join_at(directory: &Path, listen: SocketAddr, meta: &[String]) -> Result<JoinConfig, Failure> {
    write_atomically(&directory.join("join"), format!("{listen}\n").as_bytes()).map_err(Failure::new)?;
    let meta = meta.to_owned();
    Ok(JoinConfig { listen, authority: "ca".into(), cert_days: CERTIFICATE_DAYS_DEFAULT, meta })
}

fn index_file(
    (listen, metrics_listen): (SocketAddr, Option<SocketAddr>),
    meta: &[String],
    identity: PathBuf,
    neo4j: Option<Neo4jConfig>,
) -> IndexConfig {
    IndexConfig {
        dir: "index-1".into(),
        registrations: None,
        listen,
        advertise: None,
        meta: meta.to_owned(),
        identity,
        taggers: TAGGERS_DEFAULT,
        neo4j,
        metrics_listen,
        log: LogConfig::default(),
    }
}

/// A storage daemon of a cluster on this machine. Each counts as a host of its own: the copies are to be on different daemons.
fn stored_file(
    role: &str,
    (listen, metrics_listen): (SocketAddr, Option<SocketAddr>),
    identity: PathBuf,
    meta: &[String],
    scrub: u64,
) -> StoredConfig {
    StoredConfig {
        listen,
        advertise: None,
        identity,
        dir: role.into(),
        meta: meta.to_owned(),
        label: role.to_owned(),
        labels: Labels { host: role.to_owned(), ..Labels::default() },
        repair_mib_s: None,
        scrub_period_s: scrub,
        reserve_mib: None,
        metrics_listen,
        log: LogConfig::default(),
    }
}

/// Writes the configuration of one storage daemon more.
fn add_stored(directory: &Path) -> Result<(), Failure> {
    let number_of = |role: &String| role.strip_prefix("stored-")?.parse::<u32>().ok();
    let last = roles(directory)?.iter().filter_map(number_of).max().unwrap_or(0);
    let (like, _) = read_file::<StoredConfig>(&directory.join(format!("stored-{last}.toml")))?;
    let role = format!("stored-{}", last + 1);
    let authority = ClusterAuthority::load(&directory.join("ca")).map_err(Failure::new)?;
    let identity = Path::new("certs").join(&role);
    authority
        .issue(Role::Stored, &role, &local_hosts(), CERTIFICATE_DAYS)
        .and_then(|issued| issued.write(&directory.join(&identity)))
        .map_err(Failure::new)?;
    let listen = free_addresses(1)?.pop().ok_or_else(|| Failure::new("find a free port"))?;
    let places = (listen, free_addresses(1)?.pop());
    let file = stored_file(&role, places, identity, &like.meta, like.scrub_period_s);
    write_file(&directory.join(format!("{role}.toml")), &file)
}

fn local_hosts() -> [String; 2] {
    ["localhost".to_owned(), "127.0.0.1".to_owned()]
}

/// Free ports of this machine. Another program may take one before its daemon does; that daemon then says so.
fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, Failure> {
    let ports = free_ports(count).map_err(|error| Failure::new(format!("find a free port: {error}")))?;
    Ok(ports.into_iter().map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect())
}

#[cfg(test)]
mod tests {
    use super::roles;

    #[test]
    fn metadata_starts_before_storage() {
        let directory = std::env::temp_dir().join(format!("dgfs-roles-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        for name in ["stored-1.toml", "meta-2.toml", "client.toml", "meta-1.toml", "pids"] {
            std::fs::write(directory.join(name), "").unwrap();
        }
        assert_eq!(roles(&directory).unwrap(), ["meta-1", "meta-2", "stored-1"]);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
