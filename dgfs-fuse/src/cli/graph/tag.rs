//! `dgfs tag`: the tags of files, and tags themselves.
//!
//! Never deletes a file. What a command line says wrong is refused before anything is changed.

mod list;

use std::io::BufReader;
use std::path::Path;

use serde_json::{Value, json};

use dgfs_proto::limits::TAGS_PER_FILE_MAX;
use dgfs_proto::tag::to_csv;

use crate::cli::Failure;
use crate::cli::args::graph::Where;
use crate::cli::args::graph::tag::{Files, TagSubcommand};
use crate::cli::graph::ask::Ask as _;
use crate::cli::graph::change::{Changes, Edit, Tally};
use crate::cli::graph::expression::{tag, tags, tags_or_none};
use crate::cli::graph::files::paths;
use crate::cli::graph::output::Output;
use crate::cli::graph::places::{Links, Named, mount_in, mount_of};
use crate::cli::graph::{Ended, Outcome, catalogue, refused, xattr};

/// Runs the command.
pub(crate) fn run(command: TagSubcommand, out: &mut Output<'_>) -> Ended {
    match command {
        TagSubcommand::Add { tags: words, files } => change(&Edit { add: tags(&words)?, ..Edit::default() }, &files),
        TagSubcommand::Rm { tags: words, files } => change(&Edit { remove: tags(&words)?, ..Edit::default() }, &files),
        TagSubcommand::Set { tags, files } => set(&to_csv(&tags_or_none(&tags)?), &files),
        TagSubcommand::Ls { files, place, json, .. } if files.is_empty() => {
            catalogue::show(&mount_in(&place)?, json, out)
        }
        TagSubcommand::Ls { files, auto, no_dereference, json, .. } => {
            list::run(&files, &list::Shown { auto, links: Links::new(no_dereference), json }, out)
        }
        TagSubcommand::Make { tag, place } => order(&place, words_make(&tag)),
        TagSubcommand::Rename { from, to, place } => order(&place, words_two("rename", ("from", &from), ("to", &to))),
        TagSubcommand::Merge { from, into, place } => {
            order(&place, words_two("merge", ("from", &from), ("into", &into)))
        }
        TagSubcommand::Alias { alias, tag, place } => {
            order(&place, words_two("alias", ("alias", &alias), ("tag", &tag)))
        }
        TagSubcommand::Unalias { alias, place } => order(&place, words_unalias(&alias)),
        TagSubcommand::Imply { tag, implied, place } => order(&place, words_imply(&tag, &implied, true)),
        TagSubcommand::Unimply { tag, implied, place } => order(&place, words_imply(&tag, &implied, false)),
        TagSubcommand::Delete { tag, force, place } => order(&place, words_delete(&tag, force)),
    }
}

/// Changes the tags of the files that a command line names.
pub(crate) fn change(edit: &Edit, files: &Files) -> Ended {
    let links = Links::new(files.no_dereference);
    let mount = |named: &Named| named.mount(links);
    let changes = Changes { edit, links, mount, problem: &mut tell };
    changes.make(paths(files, BufReader::new(std::io::stdin())))?.ended()
}

/// What went wrong with one of many files.
pub(crate) fn tell(sentence: &str) {
    eprintln!("dgfs: {sentence}");
}

/// Replaces all tags: by the attribute, which the volume takes as one change for each file.
fn set(csv: &[u8], files: &Files) -> Ended {
    let links = Links::new(files.no_dereference);
    let mut tally = Tally::default();
    for path in paths(files, BufReader::new(std::io::stdin())) {
        match set_one(csv, &path?, links) {
            Ok(()) => tally.changed += 1,
            Err(failure) => {
                tell(&failure.sentence);
                tally.failed += 1;
            }
        }
    }
    tally.ended()
}

fn set_one(csv: &[u8], path: &Path, links: Links) -> Result<(), Failure> {
    let at = path.display();
    let failed = |error: std::io::Error| refused(format!("{at}: {error}"));
    if links.facts(path).map_err(failed)?.is_symlink() {
        return Err(refused(format!("{at} is a link, whose attributes the kernel keeps shut: use add and rm")));
    }
    // Elsewhere the attribute would be set, and mean nothing.
    let _ = mount_of(path)?;
    let path = path.canonicalize().map_err(failed)?;
    let set = if csv.is_empty() { xattr::remove(&path, xattr::TAGS) } else { xattr::set(&path, xattr::TAGS, csv) };
    set.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOSPC | libc::E2BIG | libc::ERANGE) => {
            refused(format!("{at}: a file carries at most {TAGS_PER_FILE_MAX} tags"))
        }
        _ => failed(error),
    })
}

/// Words of a change of the catalogue, checked.
type Words = Result<Value, Failure>;

fn words_make(name: &str) -> Words {
    Ok(json!({ "make": tag(name)?.as_str() }))
}

/// A command of two tags, each under its key.
fn words_two(command: &str, first: (&str, &str), second: (&str, &str)) -> Words {
    let (one, other) = (tag(first.1)?, tag(second.1)?);
    Ok(json!({ command: { first.0: one.as_str(), second.0: other.as_str() } }))
}

fn words_unalias(alias: &str) -> Words {
    Ok(json!({ "alias": { "alias": tag(alias)?.as_str(), "tag": null } }))
}

fn words_imply(name: &str, implied: &str, on: bool) -> Words {
    Ok(json!({ "imply": { "tag": tag(name)?.as_str(), "implied": tag(implied)?.as_str(), "on": on } }))
}

fn words_delete(name: &str, force: bool) -> Words {
    Ok(json!({ "delete": { "tag": tag(name)?.as_str(), "unused": !force } }))
}

fn order(place: &Where, words: Words) -> Ended {
    let request = json!({ "tags-command": words? });
    mount_in(place)?.order(&request)?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Links, set_one, words_delete, words_imply, words_make, words_two, words_unalias};

    #[test]
    fn changes_of_the_catalogue_are_checked_and_spelt_as_the_mount_reads_them() {
        assert_eq!(words_make("a").unwrap(), json!({ "make": "a" }));
        let merge = words_two("merge", ("from", "a"), ("into", "b")).unwrap();
        assert_eq!(merge, json!({ "merge": { "from": "a", "into": "b" } }));
        assert_eq!(words_unalias("a").unwrap(), json!({ "alias": { "alias": "a", "tag": null } }));
        let imply = json!({ "imply": { "tag": "a", "implied": "b", "on": false } });
        assert_eq!(words_imply("a", "b", false).unwrap(), imply);
        assert_eq!(words_delete("a", true).unwrap(), json!({ "delete": { "tag": "a", "unused": false } }));
        assert_eq!(words_two("rename", ("from", "a"), ("to", "a,b")).unwrap_err().code, 2);
    }

    #[test]
    fn tags_are_set_on_mounts_only() {
        let directory = std::env::temp_dir();
        let failure = set_one(b"a", &directory, Links::Followed).unwrap_err();
        assert!(failure.sentence.contains("not on a DGFS mount"), "{}", failure.sentence);
        let link = directory.join(format!("dgfs-set-{}", std::process::id()));
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        let (itself, followed) = (set_one(b"a", &link, Links::Themselves), set_one(b"a", &link, Links::Followed));
        std::fs::remove_file(&link).unwrap();
        assert!(itself.unwrap_err().sentence.contains("use add and rm"));
        assert!(followed.unwrap_err().sentence.contains("No such file"));
    }
}
