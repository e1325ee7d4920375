//! `dgfs chunks top`: which chunks are used most, and whose they are.
//!
//! Never changes anything. A cluster is asked with a client's certificate; a mount answers root and whoever mounted it.

use std::path::Path;

use dgfs_proto::ids::ServerId;
use dgfs_runtime::clock::Clock;
use dgfs_runtime::lifecycle::build_runtime;

use crate::cli::Failure;
use crate::cli::args::chunks::{ChunksArgs, ChunksCommand, TopArgs};
use crate::cli::daemon::link_to;
use crate::cli::graph::output::bytes_text;
use crate::cli::mounted::{MountPoint, explained};
use crate::cli::server::aligned;
use crate::volume::uses::{TopChunk, TopChunks, TopQuestion};

/// Runs the command.
pub(crate) fn run(args: &ChunksArgs) -> Result<(), Failure> {
    let ChunksCommand::Top(args) = &args.command;
    let top = match (&args.config, &args.path) {
        (Some(config), _) => of_cluster(config, args)?,
        (None, Some(path)) => of_mount(path, args)?,
        (None, None) => {
            return Err(Failure::new("name a path on a mount, or the cluster: --config DIR/client.toml"));
        }
    };
    if args.json {
        println!("{}", serde_json::to_string(&top).map_err(Failure::new)?);
    } else {
        print!("{}", table(&top.chunks, Clock::real().wall_ms() / 1000));
        top.silent.iter().for_each(|silent| eprintln!("dgfs: not asked or silent: {silent}"));
        if top.cut {
            eprintln!("dgfs: a mount tells no more at once; ask the cluster with --config for more");
        }
    }
    Ok(())
}

fn of_cluster(config: &Path, args: &TopArgs) -> Result<TopChunks, Failure> {
    let question = TopQuestion { by: args.by, limit: usize::from(args.limit), server: args.server.clone() };
    let runtime = build_runtime("dgfs", 1).map_err(Failure::new)?;
    runtime.block_on(async { link_to(config)?.top_chunks(&question).await.map_err(Failure::new) })
}

fn of_mount(path: &Path, args: &TopArgs) -> Result<TopChunks, Failure> {
    let server = args.server.as_ref().map_or_else(String::new, |server| format!(".{server}"));
    let name = format!("dgfs.chunks.{}.{}{server}", args.by, args.limit);
    let bytes =
        MountPoint::of(path).and_then(|mount| mount.attribute_of_cluster(&name)).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::EACCES) => Failure::new(format!(
                    "which files are used is told to root and to whoever mounted {} only",
                    path.display()
                )),
                Some(libc::ENOENT) => Failure::new("there is no such storage server: `dgfs status` shows them"),
                _ => explained(path, &error),
            }
        })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(format!("{} answered something odd: {error}", path.display())))
}

fn table(chunks: &[TopChunk], now: u64) -> String {
    let head = ["CHUNK", "CLASS", "READS", "WRITES", "READ", "WRITTEN", "ERRORS", "LAST USED", "SERVERS", "FILE"];
    let mut lines = vec![head.map(str::to_owned)];
    for chunk in chunks {
        let servers: Vec<String> = chunk.servers.iter().map(ServerId::to_string).collect();
        lines.push([
            chunk.chunk.to_string(),
            chunk.class.clone(),
            chunk.reads.to_string(),
            chunk.writes.to_string(),
            bytes_text(chunk.read_bytes),
            bytes_text(chunk.write_bytes),
            chunk.errors.to_string(),
            ago(now, chunk.last_use),
            servers.join(","),
            file(chunk),
        ]);
    }
    aligned(&lines)
}

fn ago(now: u64, then: u64) -> String {
    let seconds = now.saturating_sub(then);
    match (then, seconds) {
        (0, _) => "-".to_owned(),
        (_, 0..=119) => format!("{seconds} s ago"),
        (_, 120..=7199) => format!("{} min ago", seconds / 60),
        (_, 7200..=172_799) => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// The file, escaped: its name may have anything in it.
fn file(chunk: &TopChunk) -> String {
    match (&chunk.path, chunk.ino) {
        (Some(path), _) => format!("{} [{}]", path.escape_debug(), chunk.index),
        (None, Some(ino)) => format!("inode {ino} [{}], which has no name", chunk.index),
        (None, None) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use dgfs_proto::ids::{ChunkId, Ino, ServerId};

    use super::{ago, table};
    use crate::volume::uses::TopChunk;

    fn chunk(path: Option<&str>) -> TopChunk {
        TopChunk {
            chunk: ChunkId::new(77).unwrap(),
            class: "r2".to_owned(),
            ino: Ino::new(9),
            index: 3,
            path: path.map(str::to_owned),
            reads: 5,
            writes: 6,
            read_bytes: 1 << 20,
            write_bytes: 3 << 19,
            errors: 0,
            last_use: 1000,
            servers: vec![ServerId(1), ServerId(2)],
        }
    }

    #[test]
    fn a_chunk_is_shown_with_its_file() {
        let text = table(&[chunk(Some("/a\n/b")), chunk(None)], 1005);
        assert!(
            text.contains("77     r2     5      6       1.0 MiB  1.5 MiB  0       5 s ago    1,2      /a\\n/b [3]"),
            "{text}"
        );
        assert!(text.contains("inode 9 [3], which has no name"), "{text}");
    }

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let told = [0, 1, 119, 120, 7200, 200_000].map(|seconds| ago(1_000_000, 1_000_000 - seconds));
        assert_eq!(told, ["0 s ago", "1 s ago", "119 s ago", "2 min ago", "2 h ago", "2 days ago"]);
        assert_eq!(ago(5, 0), "-");
    }
}
