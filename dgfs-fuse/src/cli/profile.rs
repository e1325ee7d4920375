//! `dgfs profile`: who uses a mount, by process, path or kind of request.
//!
//! Never costs the mount anything but while it is asked. Always: what is shown is what happened between two questions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::args::watch::{ProfileArgs, ProfileBy};
use crate::cli::mounted::MountPoint;
use crate::cli::numbers::seconds_text;

/// The mount stops counting when it was not asked for longer: so often it is.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Runs the command.
pub(crate) fn run(args: &ProfileArgs) -> Result<(), Failure> {
    let mount = MountPoint::of(&args.path).map_err(Failure::new)?;
    let before = Reading::of(&mount, args.by)?;
    let end = Instant::now() + Duration::from_secs(args.seconds);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        std::thread::sleep(left.min(ASK_AGAIN));
        let _ = Reading::of(&mount, args.by)?;
    }
    let entries = Reading::of(&mount, args.by)?.since(&before);
    if args.json {
        println!("{}", json!({ "by": args.by.word(), "seconds": args.seconds, "entries": entries }));
    } else {
        text(&entries).iter().for_each(|line| println!("{line}"));
    }
    Ok(())
}

/// What a mount has counted by one key since it was first asked.
pub(crate) struct Reading {
    epoch: u64,
    by: ProfileBy,
    /// Requests and microseconds by key.
    entries: BTreeMap<String, (u64, u64)>,
}

impl Reading {
    /// Asks the mount, which counts from now on.
    pub(crate) fn of(mount: &MountPoint, by: ProfileBy) -> Result<Self, Failure> {
        let name = format!("dgfs.profile.{}", by.word());
        let told = match by {
            // The cluster knows what inodes are called.
            ProfileBy::Path => mount.json_of_cluster(&name)?,
            ProfileBy::Process | ProfileBy::Op => mount.json(&name)?,
        };
        Ok(Self::parse(by, &told))
    }

    fn parse(by: ProfileBy, value: &Value) -> Self {
        let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
        let used = |value: &Value| (number(value, "count"), number(value, "us"));
        let mut entries = BTreeMap::new();
        for entry in value.get("entries").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
            let key = match by {
                ProfileBy::Process => format!("{} {}", number(entry, "pid"), text("name").unwrap_or_default()),
                ProfileBy::Path => text("path").unwrap_or_else(|| format!("inode {}", number(entry, "ino"))),
                ProfileBy::Op => text("op").unwrap_or_default(),
            };
            entries.insert(key, used(entry));
        }
        if let Some(others) = value.get("others").filter(|others| number(others, "count") > 0) {
            entries.insert("(others)".to_owned(), used(others));
        }
        Self { epoch: number(value, "epoch"), by, entries }
    }

    /// What was counted since `before`, most time first.
    pub(crate) fn since(&self, before: &Self) -> Vec<Value> {
        let mut grown: Vec<(&String, u64, u64)> = Vec::new();
        for (key, (count, us)) in &self.entries {
            // The mount began anew: all of it is new.
            let old = before.entries.get(key).filter(|_| self.epoch == before.epoch).copied().unwrap_or((0, 0));
            let (count, us) = (count.saturating_sub(old.0), us.saturating_sub(old.1));
            if count > 0 {
                grown.push((key, count, us));
            }
        }
        grown.sort_by_key(|(_, count, us)| std::cmp::Reverse((*us, *count)));
        let entry = |(key, count, us): (&String, u64, u64)| json!({ self.by.word(): key, "count": count, "seconds": us as f64 / 1e6 });
        grown.into_iter().map(entry).collect()
    }
}

/// Entries for people.
pub(crate) fn text(entries: &[Value]) -> Vec<String> {
    let mut lines = vec![format!("{:>10} {:>10} {:>10}  who or what", "requests", "time", "each")];
    for entry in entries {
        let number = |key: &str| entry.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        let name = ["process", "path", "op"].iter().find_map(|key| entry.get(*key).and_then(Value::as_str));
        let (count, seconds) = (number("count"), number("seconds"));
        lines.push(format!(
            "{count:>10.0} {:>10} {:>10}  {}",
            seconds_text(Some(seconds)),
            seconds_text(Some(seconds / count.max(1.0))),
            name.unwrap_or_default()
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Reading, text};
    use crate::cli::args::watch::ProfileBy;

    fn reading(epoch: u64, count: u64) -> Reading {
        let entry = json!({ "pid": 7, "name": "cp", "count": count, "us": count * 1000 });
        let others = json!({ "count": 0, "us": 0 });
        Reading::parse(ProfileBy::Process, &json!({ "epoch": epoch, "entries": [entry], "others": others }))
    }

    #[test]
    fn only_what_happened_between_two_questions_is_shown() {
        let shown = reading(1, 5).since(&reading(1, 3));
        assert_eq!(shown, [json!({ "process": "7 cp", "count": 2, "seconds": 0.002 })]);
        assert_eq!(reading(1, 5).since(&reading(1, 5)), Vec::<Value>::new());
        assert_eq!(reading(2, 2).since(&reading(1, 3))[0]["count"], 2, "another epoch began at 0");
        assert!(text(&shown)[1].contains("7 cp"));
    }
}
