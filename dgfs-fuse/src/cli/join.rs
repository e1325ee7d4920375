//! `dgfs cluster token`, `dgfs join`: a machine becomes a member of a cluster.
//!
//! Never sends or copies a private key, and never starts what it prepared. The
//! token is shown to a checked server only; what can fail without one fails before.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use serde::Serialize;

use dgfs_index::daemon::{IndexConfig, TAGGERS_DEFAULT};
use dgfs_proto::map::Labels;
use dgfs_runtime::channel::Role;
use dgfs_runtime::disk::create_dir_durably;
use dgfs_runtime::lifecycle::build_runtime;
use dgfs_runtime::pki::ClusterAuthority;
use dgfs_runtime::pki::applicant::Applicant;
use dgfs_runtime::quic::join::ask::{Joined, join};
use dgfs_runtime::telemetry::LogConfig;
use dgfs_stored::daemon::{SCRUB_PERIOD_S_DEFAULT, StoredConfig};

use crate::cli::args::join::{JoinArgs, TokenArgs};
use crate::cli::files::{ClientFile, write_file};
use crate::cli::{Failure, paths};

/// A longer file holds no token.
const TOKEN_FILE_BYTES_MAX: u64 = 4096;

/// Prints a token.
pub(crate) fn token(args: &TokenArgs) -> Result<(), Failure> {
    let authority = ClusterAuthority::load(&args.ca).map_err(Failure::new)?;
    let token = authority.join_token(args.role, args.name.as_deref(), args.valid).map_err(Failure::new)?;
    println!("{}", token.to_text());
    Ok(())
}

/// Joins a cluster.
pub(crate) fn run(args: &JoinArgs) -> Result<(), Failure> {
    let host = paths::host();
    let applicant = Applicant::new(&read_token(&args.token)?, args.name.as_deref(), &host, args.host.clone())
        .map_err(Failure::new)?;
    let role = applicant.token().role();
    check_words(args, role)?;
    let directory = prepare(args)?;
    let addresses: Vec<String> = args.meta.iter().map(|address| address.trim().to_owned()).collect();
    let runtime = build_runtime("dgfs", 1).map_err(Failure::new)?;
    let joined = runtime.block_on(join(&addresses, &applicant)).map_err(Failure::new)?;
    joined.identity.write(&directory).map_err(Failure::new)?;
    println!("joined cluster {} as {} `{}`", joined.identity.cluster(), role.name(), joined.identity.name());
    match role {
        Role::Stored => {
            let path = keep_or_write(&directory, "stored.toml", || stored_file(args, &host, &joined))?;
            println!("start it with: dgfs stored --config {}", path.display());
        }
        Role::Index => {
            let path = keep_or_write(&directory, "index.toml", || index_file(args, &joined))?;
            println!("start it with: dgfs index --config {}", path.display());
        }
        Role::Client => {
            let path = keep_or_write(&directory, "client.toml", || Ok(client_file(&joined)))?;
            println!("mount with: dgfs mount --config {} PATH", path.display());
        }
        // Where the rows are is told to nobody who joins: a Redis URL has a password in it.
        Role::Meta => println!(
            "write its configuration as that of the other metadata services, with identity = \"{}\"",
            directory.display()
        ),
    }
    Ok(())
}

fn read_token(word: &str) -> Result<String, Failure> {
    let Some(path) = word.strip_prefix('@') else { return Ok(word.to_owned()) };
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| Failure::new(format!("read the join token in {path}: {error}")))?;
    Ok(text)
}

fn check_words(args: &JoinArgs, role: Role) -> Result<(), Failure> {
    if role != Role::Stored && role != Role::Index && !args.stored.are_none() {
        return Err(Failure::new(format!(
            "--listen, --advertise, --data, --zone and --disk are for storage daemons, but the token is for role {}",
            role.name()
        )));
    }
    let of_storage = args.stored.data.is_some() || args.stored.zone.is_some() || args.stored.disk.is_some();
    if role == Role::Index && of_storage {
        return Err(Failure::new("--data, --zone and --disk are for storage daemons, but the token is for role index"));
    }
    let is_address = |word: &str| word.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match &args.stored.advertise {
        Some(word) if !is_address(word) => Err(Failure::new(format!("--advertise is HOST:PORT, not `{word}`"))),
        Some(_) | None => Ok(()),
    }
}

/// The directory, made and found empty (of an identity) before the token is shown.
fn prepare(args: &JoinArgs) -> Result<PathBuf, Failure> {
    let dir = args.dir.display();
    create_dir_durably(&args.dir).map_err(|error| Failure::new(format!("make {dir}: {error}")))?;
    let held = ["key.pem", "cert.pem"].iter().any(|name| args.dir.join(name).exists());
    if held && !args.replace {
        return Err(Failure::new(format!(
            "{dir} holds an identity already: name another directory, or give --replace for a new identity in it"
        )));
    }
    args.dir.canonicalize().map_err(|error| Failure::new(format!("find {dir}: {error}")))
}

/// A configuration that is there was made fit by somebody.
fn keep_or_write<T: Serialize>(
    directory: &Path,
    name: &str,
    make: impl FnOnce() -> Result<T, Failure>,
) -> Result<PathBuf, Failure> {
    let path = directory.join(name);
    if !path.exists() {
        write_file(&path, &make()?)?;
    }
    Ok(path)
}

fn stored_file(args: &JoinArgs, host: &str, joined: &Joined) -> Result<StoredConfig, Failure> {
    let words = &args.stored;
    let (listen, advertise) = reached_at(args, joined)?;
    let name = args.host.first();
    let data = words.data.as_deref().map(std::path::absolute).transpose().map_err(Failure::new)?;
    let word = |word: &Option<String>| word.clone().unwrap_or_default();
    Ok(StoredConfig {
        dir: data.unwrap_or_else(|| "data".into()),
        listen,
        advertise,
        meta: joined.meta.clone(),
        identity: ".".into(),
        label: joined.identity.name().to_owned(),
        labels: Labels {
            zone: word(&words.zone),
            host: name.map_or_else(|| host.to_owned(), Clone::clone),
            disk: word(&words.disk),
        },
        repair_mib_s: None,
        scrub_period_s: SCRUB_PERIOD_S_DEFAULT,
        reserve_mib: None,
        metrics_listen: metrics_at(listen)?,
        log: LogConfig::default(),
    })
}

fn index_file(args: &JoinArgs, joined: &Joined) -> Result<IndexConfig, Failure> {
    let (listen, advertise) = reached_at(args, joined)?;
    Ok(IndexConfig {
        dir: "data".into(),
        registrations: None,
        listen,
        advertise,
        meta: joined.meta.clone(),
        identity: ".".into(),
        taggers: TAGGERS_DEFAULT,
        neo4j: None,
        metrics_listen: metrics_at(listen)?,
        log: LogConfig::default(),
    })
}

/// Where a daemon listens, and what others are told where that is not enough.
fn reached_at(args: &JoinArgs, joined: &Joined) -> Result<(SocketAddr, Option<String>), Failure> {
    let words = &args.stored;
    let listen = with_port(words.listen.unwrap_or_else(|| SocketAddr::new(joined.local, 0)))?;
    let advertise = match &words.advertise {
        Some(address) => Some(address.clone()),
        // Others cannot reach "any address".
        None if listen.ip().is_unspecified() => Some(address_of(args.host.first(), joined.local, listen.port())),
        None => None,
    };
    Ok((listen, advertise))
}

fn client_file(joined: &Joined) -> ClientFile {
    ClientFile { meta: joined.meta.clone(), identity: ".".into(), ..ClientFile::default() }
}

/// Metrics are served where the daemon is, at a free port that stays the same.
fn metrics_at(listen: SocketAddr) -> Result<Option<SocketAddr>, Failure> {
    let found = TcpListener::bind(SocketAddr::new(listen.ip(), 0)).and_then(|socket| socket.local_addr());
    found.map(Some).map_err(|error| Failure::new(format!("find a free port at {}: {error}", listen.ip())))
}

/// With a free port where none was said: written down, so that it stays the same.
fn with_port(listen: SocketAddr) -> Result<SocketAddr, Failure> {
    if listen.port() != 0 {
        return Ok(listen);
    }
    UdpSocket::bind(listen)
        .and_then(|socket| socket.local_addr())
        .map_err(|error| Failure::new(format!("find a free port at {}: {error}", listen.ip())))
}

fn address_of(name: Option<&String>, local: IpAddr, port: u16) -> String {
    match name.map(|name| (name, name.parse::<IpAddr>())) {
        None => SocketAddr::new(local, port).to_string(),
        Some((_, Ok(address))) => SocketAddr::new(address, port).to_string(),
        Some((name, Err(_))) => format!("{name}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{address_of, read_token, with_port};

    #[test]
    fn a_token_is_read_from_a_file_or_taken_as_it_is() {
        let path = std::env::temp_dir().join(format!("dgfs-token-{}", std::process::id()));
        std::fs::write(&path, "dgfsjoin1.00\n").unwrap();
        assert_eq!(read_token(&format!("@{}", path.display())).unwrap().trim(), "dgfsjoin1.00");
        assert_eq!(read_token("dgfsjoin1.00").unwrap(), "dgfsjoin1.00");
        assert!(read_token("@/no/such/file").unwrap_err().sentence.contains("/no/such/file"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_port_is_found_where_none_was_said() {
        assert_ne!(with_port("127.0.0.1:0".parse().unwrap()).unwrap().port(), 0);
        assert_eq!(with_port("0.0.0.0:7000".parse().unwrap()).unwrap().port(), 7000);
    }

    #[test]
    fn others_are_told_an_address_they_can_reach() {
        let local: IpAddr = "10.0.0.3".parse().unwrap();
        assert_eq!(address_of(None, local, 7000), "10.0.0.3:7000");
        assert_eq!(address_of(Some(&"nas".to_owned()), local, 7000), "nas:7000");
        assert_eq!(address_of(Some(&"fd00::3".to_owned()), local, 7000), "[fd00::3]:7000");
    }
}
