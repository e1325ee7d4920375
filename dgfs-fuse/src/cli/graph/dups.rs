//! `dgfs dups`: files with the same content.
//!
//! Never deletes. A set's bytes to win are those of all its files but one; hard links of one file are no duplicates.

use serde_json::{Value, json};

use crate::cli::args::graph::DupsArgs;
use crate::cli::graph::ask::Ask;
use crate::cli::graph::find::Below;
use crate::cli::graph::output::{Output, bytes_text, items, number, text};
use crate::cli::graph::places::mount_of_directory;
use crate::cli::graph::{Ended, Outcome};

/// Runs the command.
pub(crate) fn run(args: &DupsArgs, out: &mut Output<'_>) -> Ended {
    let directory = args.dir.as_deref();
    let mount = mount_of_directory(directory.unwrap_or(std::path::Path::new(".")))?;
    show(&mount, &Show { below: Below::new(directory), json: args.json, limit: args.limit }, out)
}

struct Show {
    below: Below,
    json: bool,
    limit: u32,
}

#[derive(Default)]
struct Sum {
    sets: u64,
    files: u64,
    bytes: u64,
}

fn show(mount: &impl Ask, show: &Show, out: &mut Output<'_>) -> Ended {
    let mut sum = Sum::default();
    mount.ask(&json!({ "duplicates": true, "limit": show.limit }), &mut |mut line| {
        let (size, files) = (number(&line, "size"), items(&line, "files").len() as u64);
        let to_win = size.saturating_mul(files.saturating_sub(1));
        sum.sets += 1;
        sum.files += files;
        sum.bytes = sum.bytes.saturating_add(to_win);
        if show.json {
            if let Some(object) = line.as_object_mut() {
                object.insert("to-win".to_owned(), json!(to_win));
            }
            return out.json(&line);
        }
        out.line(&format!("{files} files of {}: {} to win", exact(size), exact(to_win)))?;
        let mut names = items(&line, "files").iter();
        names.try_for_each(|file| out.named("  ", &name(&show.below, file)))
    })?;
    if !show.json && sum.sets > 0 {
        let more = if sum.sets == u64::from(show.limit) { " (there may be more: --limit)" } else { "" };
        let Sum { sets, files, bytes } = sum;
        out.line(&format!("in all {sets} sets of {files} files: {} to win{more}", exact(bytes)))?;
    }
    Ok(Outcome::of(sum.sets > 0))
}

/// Its path, or where it has none from here its id.
fn name(below: &Below, file: &Value) -> Vec<u8> {
    below.path(file).unwrap_or_else(|| text(file, "id").as_bytes().to_vec())
}

fn exact(bytes: u64) -> String {
    if bytes < 1024 { format!("{bytes} bytes") } else { format!("{} ({bytes} bytes)", bytes_text(bytes)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Show, show};
    use crate::cli::graph::Outcome;
    use crate::cli::graph::ask::testing::Fake;
    use crate::cli::graph::find::Below;
    use crate::cli::graph::output::testing::printed;

    #[test]
    fn sets_are_summed_to_what_there_is_to_win() {
        let request = json!({ "duplicates": true, "limit": 2 });
        let set = |size: u64, paths: &[&str]| {
            let files: Vec<_> = paths.iter().map(|path| json!({ "ino": 1, "id": "~1", "path": path })).collect();
            json!({ "size": size, "files": files })
        };
        let sets =
            vec![set(2 << 20, &["a", "b", "c/d"]), json!({ "size": 5, "files": [{ "id": "~x" }, { "id": "~y" }] })];
        let fake = Fake::new([(request.clone(), sets.clone()), (request.clone(), sets), (request, vec![])]);
        let show_as = |json| Show { below: Below::new(None), json, limit: 2 };
        let (text, ended) = printed(|out| show(&fake, &show_as(false), out));
        assert_eq!(ended.unwrap(), Outcome::Done);
        assert_eq!(
            text,
            "3 files of 2.0 MiB (2097152 bytes): 4.0 MiB (4194304 bytes) to win\n  a\n  b\n  c/d\n\
             2 files of 5 bytes: 5 bytes to win\n  ~x\n  ~y\n\
             in all 2 sets of 5 files: 4.0 MiB (4194309 bytes) to win (there may be more: --limit)\n"
        );
        assert!(printed(|out| show(&fake, &show_as(true), out)).0.contains("\"to-win\":4194304"));
        let (text, ended) = printed(|out| show(&fake, &show_as(false), out));
        assert_eq!((text.as_str(), ended.unwrap()), ("", Outcome::Nothing));
    }
}
