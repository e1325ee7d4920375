//! `dgfs import`: tags from elsewhere.
//!
//! Never takes a tag away, and never touches what lies outside the directory that is imported into. Always: what could not be taken
//! over is named on the standard error and counted, and with `--dry-run` nothing is changed.

mod apply;

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::cli::args::graph::exchange::{ImportArgs, ImportFormat};
use crate::cli::graph::exchange::{Item, Take, jsonl, macos, tmsu};
use crate::cli::graph::output::Output;
use crate::cli::graph::places::{directory, mount_of_directory, resolved};
use crate::cli::graph::tag::tell;
use crate::cli::graph::{Ended, Outcome, refused};

use self::apply::{Import, Tally};

/// Where items come from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// JSON lines of the standard input.
    Input,
    /// JSON lines of a file.
    Lines(PathBuf),
    /// A database of TMSU.
    Tmsu(PathBuf),
    /// Attributes below a directory.
    Macos(PathBuf),
}

/// Runs the command.
pub(crate) fn run(args: &ImportArgs, out: &mut Output<'_>) -> Ended {
    let source = Source::of(&args.file, args.format)?;
    let into = resolved(&match (&args.place.dir, source.root()) {
        (None, Some(root)) => root,
        (Some(_), _) | (None, None) => directory(&args.place),
    })?;
    let mount = mount_of_directory(&into)?;
    let mut problem = |sentence: &str| tell(sentence);
    let mut import = Import::new(&mount, &into, args.dry_run, &mut problem, out);
    source.read(&mut |item| import.take(item))?;
    let tally = import.finish()?;
    out.line(&tally_text(&tally, args.dry_run))?;
    Ok(Outcome::of(tally.problems == 0))
}

fn tally_text(tally: &Tally, dry_run: bool) -> String {
    let Tally { files, attributes, relations, tags, saved, problems } = tally;
    let verb = if dry_run { "would be taken over" } else { "taken over" };
    format!(
        "{verb}: tags of {files} files, {attributes} comments and ratings, {relations} relations, {tags} tags' aliases and \
         implications, {saved} saved queries; {problems} problems"
    )
}

impl Source {
    fn of(file: &Path, format: ImportFormat) -> Result<Self, Failure> {
        let path = file.to_owned();
        match format {
            ImportFormat::Jsonl if file.as_os_str() == "-" => Ok(Self::Input),
            ImportFormat::Jsonl => Ok(Self::Lines(path)),
            ImportFormat::Tmsu => Ok(Self::Tmsu(path)),
            ImportFormat::Macos => Ok(Self::Macos(path)),
            ImportFormat::Auto => Self::guessed(file),
        }
    }

    /// By what it looks like.
    fn guessed(file: &Path) -> Result<Self, Failure> {
        if file.as_os_str() == "-" {
            return Ok(Self::Input);
        }
        let failed = |error: std::io::Error| refused(format!("{}: {error}", file.display()));
        let facts = std::fs::metadata(file).map_err(failed)?;
        if facts.is_dir() {
            let database = file.join(".tmsu/db");
            return Ok(if database.is_file() { Self::Tmsu(database) } else { Self::Macos(file.to_owned()) });
        }
        let mut start = Vec::new();
        let _ =
            File::open(file).map_err(failed)?.take(tmsu::MAGIC.len() as u64).read_to_end(&mut start).map_err(failed)?;
        Ok(if start == tmsu::MAGIC { Self::Tmsu(file.to_owned()) } else { Self::Lines(file.to_owned()) })
    }

    /// What its paths are seen from, if it says so itself.
    fn root(&self) -> Option<PathBuf> {
        match self {
            Self::Input | Self::Lines(_) => None,
            Self::Tmsu(database) => tmsu::root(database),
            Self::Macos(directory) => Some(directory.clone()),
        }
    }

    fn read(&self, take: Take<'_>) -> Result<(), Failure> {
        match self {
            Self::Input => jsonl::read(BufReader::new(std::io::stdin()), take),
            Self::Lines(file) => jsonl::read(opened(file)?, take),
            Self::Tmsu(database) => tmsu::read(database, take),
            Self::Macos(directory) => macos::read(directory, take),
        }
    }
}

fn opened(file: &Path) -> Result<impl BufRead, Failure> {
    File::open(file).map(BufReader::new).map_err(|error| refused(format!("{}: {error}", file.display())))
}

/// The sentence of a problem, where an item is one.
fn problem_of(item: &Item) -> Option<&str> {
    match item {
        Item::Problem(sentence) => Some(sentence),
        Item::File(_) | Item::Tag(_) | Item::Saved(_, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{ImportFormat, Source};

    #[test]
    fn what_a_file_is_is_seen_from_how_it_begins() {
        let directory = std::env::temp_dir().join(format!("dgfs-source-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("t/.tmsu")).unwrap();
        let (database, lines) = (directory.join("t/.tmsu/db"), directory.join("lines"));
        std::fs::write(&database, "SQLite format 3\0 and more").unwrap();
        std::fs::write(&lines, "{}\n").unwrap();
        let guessed = |path: &Path| Source::of(path, ImportFormat::Auto).unwrap();
        let tmsu = Source::Tmsu(database.clone());
        let seen = (guessed(&directory.join("t")), guessed(&database), guessed(&lines), guessed(&directory));
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(seen, (tmsu.clone(), tmsu.clone(), Source::Lines(lines.clone()), Source::Macos(directory.clone())));
        assert_eq!(tmsu.root(), Some(directory.join("t")));
        assert_eq!((guessed(Path::new("-")), guessed(Path::new("-")).root()), (Source::Input, None));
        assert!(Source::of(&lines, ImportFormat::Auto).is_err(), "gone");
        assert_eq!(Source::of(&lines, ImportFormat::Jsonl).unwrap(), Source::Lines(lines));
    }
}
