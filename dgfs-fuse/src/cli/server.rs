//! `dgfs server`: the storage servers of a cluster.
//!
//! Never talks to a storage server: the metadata service knows them and decides.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use dgfs_proto::ids::ServerId;
use dgfs_proto::map::Standing;
use dgfs_proto::meta::{AdminRequest, MetaReply, MetaRequest, ServerCommand, ServerStatus};
use dgfs_runtime::lifecycle::build_runtime;

use crate::cli::Failure;
use crate::cli::args::{ServerArgs, ServerCommands};
use crate::cli::daemon::link_to;
use crate::volume::VolumeLink;

/// A server that was silent for longer is suspected: it is asked every second.
const SUSPECT_MS: u64 = 2_500;
/// How often a drain is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Runs the command.
pub(crate) fn run(args: &ServerArgs) -> Result<(), Failure> {
    let config = args.config.as_deref().ok_or_else(|| Failure::new("name the cluster: --config DIR/client.toml"))?;
    let runtime = build_runtime("dgfs", 1).map_err(Failure::new)?;
    runtime.block_on(carry_out(args, config))
}

async fn carry_out(args: &ServerArgs, config: &Path) -> Result<(), Failure> {
    let link = link_to(config)?;
    let servers = list(&link).await?;
    match &args.command {
        ServerCommands::Ls => show(&servers, args.json, table),
        ServerCommands::Show { server } => show(&[find(&servers, server)?.clone()], args.json, details),
        ServerCommands::Drain { server, wait } => {
            let id = find(&servers, server)?.info.id;
            command(&link, id, ServerCommand::Drain).await?;
            if *wait { wait_until_empty(&link, id).await } else { Ok(()) }
        }
        ServerCommands::Undrain { server } => {
            command(&link, find(&servers, server)?.info.id, ServerCommand::Undrain).await
        }
        ServerCommands::Remove { server, force } => {
            command(&link, find(&servers, server)?.info.id, ServerCommand::Remove { force: *force }).await
        }
        ServerCommands::Label { server, name, zone, host, disk } => {
            let words = [name, zone, host, disk];
            if words.iter().all(|word| word.is_none()) {
                return Err(Failure::new("say what to change: --name, --zone, --host or --disk"));
            }
            let [label, zone, host, disk] = words.map(Clone::clone);
            command(&link, find(&servers, server)?.info.id, ServerCommand::Label { label, zone, host, disk }).await
        }
        ServerCommands::Weight { server, weight } => {
            let weight = match weight.as_str() {
                "auto" => None,
                number => Some(number.parse().map_err(|_| Failure::new("a weight is a whole number, or auto"))?),
            };
            command(&link, find(&servers, server)?.info.id, ServerCommand::Weight(weight)).await
        }
    }
}

async fn list(link: &VolumeLink) -> Result<Vec<ServerStatus>, Failure> {
    link.servers().await.map_err(Failure::new)
}

async fn command(link: &VolumeLink, id: ServerId, command: ServerCommand) -> Result<(), Failure> {
    match link.ask(MetaRequest::Admin(AdminRequest::Server { id, command })).await.map_err(Failure::new)? {
        MetaReply::Done => Ok(()),
        MetaReply::Denied(sentence) => Err(Failure::new(sentence)),
        _ => Err(Failure::new("the metadata service answered something else")),
    }
}

async fn wait_until_empty(link: &VolumeLink, id: ServerId) -> Result<(), Failure> {
    loop {
        let servers = list(link).await?;
        let left = servers.iter().find(|server| server.info.id == id).map_or(0, |server| server.places + server.extras);
        if left == 0 {
            return Ok(());
        }
        eprintln!("dgfs: {left} places are still on it");
        tokio::time::sleep(LOOK).await;
    }
}

/// By number, else by name.
fn find<'a>(servers: &'a [ServerStatus], wanted: &str) -> Result<&'a ServerStatus, Failure> {
    let by_number = servers.iter().find(|server| server.info.id.to_string() == wanted);
    let mut named = servers.iter().filter(|server| server.info.label == wanted);
    match (by_number, named.next(), named.next()) {
        (Some(server), _, _) | (None, Some(server), None) => Ok(server),
        (None, Some(_), Some(_)) => Err(Failure::new(format!("several servers are named {wanted}: give a number"))),
        (None, None, _) => {
            Err(Failure::new(format!("there is no storage server {wanted}: `dgfs server ls` shows them")))
        }
    }
}

fn show(servers: &[ServerStatus], json: bool, text: impl Fn(&[ServerStatus]) -> String) -> Result<(), Failure> {
    if json {
        let values: Vec<_> = servers.iter().map(|server| json!({ "server": server, "state": state(server) })).collect();
        println!("{}", serde_json::Value::Array(values));
    } else {
        print!("{}", text(servers));
    }
    Ok(())
}

/// What an operator wants to know first, in a word.
fn state(server: &ServerStatus) -> &'static str {
    match (server.info.up, server.info.standing) {
        (false, Standing::Out) => "out",
        (false, Standing::Active | Standing::Draining) => "down",
        (true, Standing::Draining) if server.places + server.extras == 0 => "drained",
        (true, Standing::Draining) => "draining",
        (true, Standing::Active | Standing::Out) if server.idle_ms > SUSPECT_MS => "suspect",
        (true, Standing::Active | Standing::Out) if server.places_left > 0 => "filling",
        (true, Standing::Active | Standing::Out) => "up",
    }
}

fn table(servers: &[ServerStatus]) -> String {
    let mut lines = vec![
        ["ID", "NAME", "STATE", "ADDRESS", "ZONE", "HOST", "DISK", "WEIGHT", "PLACES", "LEFT", "USED", "FREE"]
            .map(str::to_owned),
    ];
    for server in servers {
        let info = &server.info;
        let word = |word: &str| if word.is_empty() { "-".to_owned() } else { word.to_owned() };
        lines.push([
            info.id.to_string(),
            word(&info.label),
            state(server).to_owned(),
            word(&info.address),
            word(&info.labels.zone),
            word(&info.labels.host),
            word(&info.labels.disk),
            info.weight.to_string(),
            (server.places + server.extras).to_string(),
            server.places_left.to_string(),
            mebibytes(info.used_bytes),
            mebibytes(info.free_bytes),
        ]);
    }
    aligned(&lines)
}

/// Rows in straight columns.
pub(crate) fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |at: usize| lines.iter().filter_map(|line| line.get(at)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let row = |line: &[String; N]| {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    lines.iter().map(row).collect()
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn details(servers: &[ServerStatus]) -> String {
    let one = |server: &ServerStatus| {
        let (info, upkeep) = (&server.info, &server.upkeep);
        let known = server.known_ms.max(1);
        let available = known.saturating_sub(server.down_ms) as f64 * 100.0 / known as f64;
        format!(
            "server     {} {} ({}), last heard {} ms ago\naddress    {}\nstands     zone {:?}, host {:?}, disk {:?}\n\
             weight     {}\nspace      {} used, {} free of {}\nplaces     {} assigned, {} more held for others, {} not full yet\n\
             available  {available:.4} % of {} s; went down {} times\n\
             repair     {} partitions and {} left; fetched {} versions, {}; healed {}; not found anywhere {}\n\
             scrub      {} read since its start, {} damaged versions found\n",
            info.id,
            info.label,
            state(server),
            server.idle_ms,
            info.address,
            info.labels.zone,
            info.labels.host,
            info.labels.disk,
            info.weight,
            mebibytes(info.used_bytes),
            mebibytes(info.free_bytes),
            mebibytes(info.capacity_bytes),
            server.places,
            server.extras,
            server.places_left,
            server.known_ms / 1000,
            server.downs,
            upkeep.partitions_left,
            mebibytes(upkeep.bytes_left),
            upkeep.fetched,
            mebibytes(upkeep.fetched_bytes),
            upkeep.healed,
            upkeep.not_found,
            mebibytes(upkeep.scrubbed_bytes),
            upkeep.scrub_errors,
        )
    };
    servers.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use dgfs_proto::chunk::Upkeep;
    use dgfs_proto::ids::ServerId;
    use dgfs_proto::map::{Labels, ServerInfo, Standing};
    use dgfs_proto::meta::ServerStatus;

    use super::{aligned, details, find, state, table};

    fn server(id: u32, label: &str) -> ServerStatus {
        ServerStatus {
            info: ServerInfo {
                id: ServerId(id),
                address: "127.0.0.1:1".to_owned(),
                label: label.to_owned(),
                labels: Labels::default(),
                weight: 1,
                standing: Standing::Active,
                up: true,
                capacity_bytes: 10 << 20,
                used_bytes: 1 << 20,
                free_bytes: 9 << 20,
            },
            idle_ms: 100,
            places: 5,
            extras: 0,
            places_left: 0,
            known_ms: 100_000,
            down_ms: 1_000,
            downs: 1,
            upkeep: Upkeep::default(),
        }
    }

    #[test]
    fn a_server_is_found_by_number_or_by_a_name_that_only_it_has() {
        let servers = [server(1, "a"), server(2, "b"), server(3, "b"), server(4, "1")];
        assert_eq!(find(&servers, "1").unwrap().info.id, ServerId(1));
        assert_eq!(find(&servers, "a").unwrap().info.id, ServerId(1));
        assert!(find(&servers, "b").unwrap_err().sentence.contains("several"));
        assert!(find(&servers, "c").unwrap_err().sentence.contains("no storage server c"));
    }

    #[test]
    fn the_state_says_what_is_worst_first() {
        let mut one = server(1, "a");
        assert_eq!(state(&one), "up");
        one.places_left = 3;
        assert_eq!(state(&one), "filling");
        one.idle_ms = 4_000;
        assert_eq!(state(&one), "suspect");
        one.info.standing = Standing::Draining;
        assert_eq!(state(&one), "draining");
        one.places = 0;
        assert_eq!(state(&one), "drained");
        one.info.up = false;
        assert_eq!(state(&one), "down");
        one.info.standing = Standing::Out;
        assert_eq!(state(&one), "out");
    }

    #[test]
    fn the_table_has_straight_columns_and_the_details_an_availability() {
        assert_eq!(
            aligned(&[["A".to_owned(), "B".to_owned()], ["long".to_owned(), "x".to_owned()]]),
            "A     B\nlong  x\n"
        );
        assert_eq!(table(&[server(1, "a"), server(2, "b")]).lines().count(), 3);
        assert!(details(&[server(1, "a")]).contains("99.0000 %"));
    }
}
