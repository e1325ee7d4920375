//! An availability target: the calculation, shown.
//!
//! Never decides: the metadata service calculates the same from the same numbers.

use std::fmt::Write as _;
use std::path::Path;

use dgfs_proto::availability::{Record, choices, choose, of_domains, of_record};
use dgfs_proto::map::Standing;
use dgfs_proto::meta::ServerStatus;

use crate::cli::Failure;
use crate::cli::files::read_attribute;

/// What each class reaches on the servers of the mount at `root`, and what is chosen.
pub(super) fn explain(root: &Path, percent: f64) -> Result<String, Failure> {
    let failed = |error| Failure::new(format!("{}: {error}", root.display()));
    let bytes = read_attribute(root, "dgfs.servers").map_err(failed)?;
    let servers: Vec<ServerStatus> = serde_json::from_slice(&bytes).map_err(Failure::new)?;
    text(&servers, percent).map_err(Failure::new)
}

fn text(servers: &[ServerStatus], percent: f64) -> Result<String, String> {
    let taking_part =
        servers.iter().filter(|server| server.info.standing == Standing::Active && server.info.weight > 0);
    let taking_part: Vec<&ServerStatus> = taking_part.collect();
    let records: Vec<Record<'_>> = taking_part.iter().map(|server| record_of(server)).collect();
    let domains = of_domains(&records);
    let mut out = String::new();
    // Writing to a String cannot fail.
    for (server, record) in taking_part.iter().zip(&records) {
        let up = of_record(record) * 100.0;
        let days = server.known_ms as f64 / 86_400_000.0;
        let _ = writeln!(out, "{:<16} up {up:.5} % (known for {days:.2} days)", server.info.label);
    }
    for choice in choices(&domains) {
        let cost = f64::from(choice.class.overhead_permille()) / 1000.0;
        let mark = if choice.availability * 100.0 >= percent { "reaches it" } else { "" };
        let line =
            format!("{:<16} {:.7} %, {cost:.3} bytes for each  {mark}", choice.class, choice.availability * 100.0);
        let _ = writeln!(out, "{}", line.trim_end());
    }
    match choose(percent / 100.0, &domains) {
        Ok(choice) => {
            let _ = writeln!(out, "chosen: {}, the cheapest that reaches {percent} %", choice.class);
            Ok(out)
        }
        Err(Some(best)) => Err(format!(
            "{out}{percent} % is out of reach with these servers: the best is {} with {:.7} %",
            best.class,
            best.availability * 100.0
        )),
        Err(None) => Err("no storage server takes part".to_owned()),
    }
}

fn record_of(server: &ServerStatus) -> Record<'_> {
    Record { domain: &server.info.labels.host, known_ms: server.known_ms, down_ms: server.down_ms }
}

#[cfg(test)]
mod tests {
    use dgfs_proto::chunk::Upkeep;
    use dgfs_proto::ids::ServerId;
    use dgfs_proto::map::{Labels, ServerInfo, Standing};
    use dgfs_proto::meta::ServerStatus;

    use super::text;

    fn server(id: u32) -> ServerStatus {
        let info = ServerInfo {
            id: ServerId(id),
            address: String::new(),
            label: format!("s{id}"),
            labels: Labels::default(),
            weight: 1,
            standing: Standing::Active,
            up: true,
            capacity_bytes: 0,
            used_bytes: 0,
            free_bytes: 0,
        };
        let (known_ms, down_ms) = (86_400_000, 864_000);
        ServerStatus {
            info,
            idle_ms: 0,
            places: 0,
            extras: 0,
            places_left: 0,
            known_ms,
            down_ms,
            downs: 1,
            upkeep: Upkeep::default(),
        }
    }

    #[test]
    fn the_calculation_is_shown_and_a_target_out_of_reach_names_the_best() {
        let servers: Vec<ServerStatus> = (1..=3).map(server).collect();
        let shown = text(&servers, 99.99).unwrap();
        assert!(shown.contains("s1") && shown.contains("chosen: r2"), "{shown}");
        let refused = text(&servers, 99.999_999_9).unwrap_err();
        assert!(refused.contains("out of reach") && refused.contains("r3"), "{refused}");
        assert!(text(&[], 90.0).is_err());
    }
}
