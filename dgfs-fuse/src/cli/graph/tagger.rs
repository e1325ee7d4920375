//! `dgfs tagger`: what tags files by itself.
//!
//! Never runs a tagger here: the index does.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::args::graph::TaggerSubcommand;
use crate::cli::args::graph::tag::Files;
use crate::cli::graph::ask::Ask;
use crate::cli::graph::change::{Edit, Tally};
use crate::cli::graph::expression::tags;
use crate::cli::graph::output::{Output, text};
use crate::cli::graph::places::{Links, Named, mount_in};
use crate::cli::graph::{Ended, Outcome, tag};

/// Runs the command.
pub(crate) fn run(command: TaggerSubcommand, out: &mut Output<'_>) -> Ended {
    match command {
        TaggerSubcommand::Ls { place, json } => list(&mount_in(&place)?, json, out),
        TaggerSubcommand::Run { files, tagger } => run_on(&files, tagger.as_deref()),
        TaggerSubcommand::Pause { place } => order(&mount_in(&place)?, &json!({ "tagger": "pause" })),
        TaggerSubcommand::Resume { place } => order(&mount_in(&place)?, &json!({ "tagger": "resume" })),
        TaggerSubcommand::Veto { tags: words, files } => {
            tag::change(&Edit { veto: tags(&words)?, ..Edit::default() }, &all(files))
        }
        TaggerSubcommand::Unveto { tags: words, files } => {
            tag::change(&Edit { unveto: tags(&words)?, ..Edit::default() }, &all(files))
        }
        TaggerSubcommand::Test { file, json } => {
            let named = Named::new(&file, Links::Followed)?;
            test(&named.mount(Links::Followed)?, named.ino, json, out)
        }
    }
}

fn all(files: Vec<PathBuf>) -> Files {
    Files { files, ..Files::default() }
}

fn order(mount: &impl Ask, request: &Value) -> Ended {
    mount.order(request)?;
    Ok(Outcome::Done)
}

/// One line for each tagger: its name, then whatever the index tells of it.
fn list(mount: &impl Ask, json: bool, out: &mut Output<'_>) -> Ended {
    let mut found = false;
    mount.ask(&json!({ "tagger": "list" }), &mut |line| {
        found = true;
        if json { out.json(&line) } else { out.line(&facts(&line)) }
    })?;
    Ok(Outcome::of(found))
}

/// `NAME  key value, key value`; a line of another shape is shown as it is.
fn facts(line: &Value) -> String {
    let Some(object) = line.as_object() else { return line.to_string() };
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let name = ["tagger", "name", "text"].into_iter().find(|key| object.contains_key(*key));
    let more = object.iter().filter(|(key, _)| Some(key.as_str()) != name);
    let more: Vec<String> = more.map(|(key, value)| format!("{key} {}", word(value))).collect();
    let name = name.and_then(|name| object.get(name)).map_or_else(String::new, word);
    format!("{name:<16} {}", more.join(", ")).trim_end().to_owned()
}

fn run_on(files: &[PathBuf], tagger: Option<&str>) -> Ended {
    let mut tally = Tally::default();
    for file in files {
        match run_on_one(file, tagger) {
            Ok(()) => tally.changed += 1,
            Err(failure) => {
                tag::tell(&format!("{}: {}", file.display(), failure.sentence));
                tally.failed += 1;
            }
        }
    }
    tally.ended()
}

fn run_on_one(file: &Path, tagger: Option<&str>) -> Result<(), Failure> {
    let named = Named::new(file, Links::Followed)?;
    named.mount(Links::Followed)?.order(&json!({ "tagger": { "run": { "tagger": tagger, "of": named.ino } } }))
}

/// What the taggers say of a file now, and how far they are.
fn test(mount: &impl Ask, ino: u64, json: bool, out: &mut Output<'_>) -> Ended {
    let mut found = false;
    mount.ask(&json!({ "marks": ino }), &mut |line| {
        if json {
            return out.json(&line);
        }
        if let Some(progress) = line.get("index").and_then(Value::as_str) {
            out.line(&format!("examined: {progress}"))?;
            let mut failed = line.get("failed").and_then(Value::as_array).into_iter().flatten();
            return failed.try_for_each(|one| {
                out.named(&format!("failed: {}: ", text(one, "tagger")), text(one, "reason").as_bytes())
            });
        }
        found = true;
        let sure = line.get("confidence").and_then(Value::as_f64).unwrap_or(0.0) * 100.0;
        let version = line.get("version").and_then(Value::as_u64).unwrap_or(0);
        let before = format!("{:<16} {version:>3}  {sure:>5.1} %  ", text(&line, "tagger"));
        out.named(&before, text(&line, "tag").as_bytes())
    })?;
    Ok(Outcome::of(found || json))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{facts, list, test};
    use crate::cli::graph::Outcome;
    use crate::cli::graph::ask::testing::Fake;
    use crate::cli::graph::output::testing::printed;

    #[test]
    fn taggers_are_listed_with_whatever_is_told_of_them() {
        assert_eq!(
            facts(&json!({ "tagger": "exif", "done": 3, "state": "paused" })),
            "exif             done 3, state paused"
        );
        assert_eq!(facts(&json!({ "tagger": "type" })), "type");
        assert_eq!(facts(&json!(7)), "7");
        let fake = Fake::new([(json!({ "tagger": "list" }), vec![])]);
        assert_eq!(printed(|out| list(&fake, false, out)).1.unwrap(), Outcome::Nothing);
    }

    #[test]
    fn what_taggers_say_of_a_file_is_shown_with_how_far_they_are() {
        let mark = json!({ "tag": "photo", "tagger": "type", "version": 1, "confidence": 0.9 });
        let fake = Fake::new([(json!({ "marks": 7 }), vec![mark, json!({ "index": "pending", "seq": 3 })])]);
        let (text, ended) = printed(|out| test(&fake, 7, false, out));
        assert_eq!(text, "type               1   90.0 %  photo\nexamined: pending\n");
        assert_eq!(ended.unwrap(), Outcome::Done);
    }

    /// Why a tagger failed was told to nobody.
    #[test]
    fn the_words_of_a_tagger_that_failed_are_shown() {
        let failed = json!([{ "tagger": "mine", "reason": "the tagger says: no words" }]);
        let last = json!({ "index": "failed:mine", "failed": failed, "seq": 3 });
        let fake = Fake::new([(json!({ "marks": 7 }), vec![last])]);
        let (text, _) = printed(|out| test(&fake, 7, false, out));
        assert_eq!(text, "examined: failed:mine\nfailed: mine: the tagger says: no words\n");
    }
}
