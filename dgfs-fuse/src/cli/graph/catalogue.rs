//! The tags of a volume: their names, aliases and implications, and the commands that change them.
//!
//! Never touches a file's tags one by one: a tag has a number, and its name is changed once.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::graph::ask::Ask;
use crate::cli::graph::output::{Output, items, number, text};
use crate::cli::graph::{Ended, Outcome, refused};

/// Tags asked for at once.
const PAGE: u32 = 1024;
/// Tags that are kept in memory: some hundred MiB. A volume of more names than that is not tagged by people.
const TAGS_MAX: usize = 1_000_000;

/// All tags, by name. What one implies is named instead of numbered.
pub(crate) fn all(mount: &impl Ask) -> Result<Vec<Value>, Failure> {
    let (mut tags, mut after) = (Vec::new(), None::<String>);
    loop {
        let mut end = None;
        mount.ask(&json!({ "tags": after, "limit": PAGE }), &mut |line| {
            if line.get("tag").is_none() {
                end = Some(line);
                return Ok(());
            }
            if tags.len() == TAGS_MAX {
                return Err(refused(format!("the volume has more than {TAGS_MAX} tags")));
            }
            tags.push(line);
            Ok(())
        })?;
        let Some(end) = end else { return Err(refused("the mount's answer has no end: its version is another one")) };
        if end.get("end").and_then(Value::as_bool) != Some(false) {
            break;
        }
        let next = end.get("after").and_then(Value::as_str).map(str::to_owned);
        if next.is_none() || next <= after {
            return Err(refused("the mount's answer does not lead on: its version is another one"));
        }
        after = next;
    }
    name_implied(&mut tags);
    Ok(tags)
}

fn name_implied(tags: &mut [Value]) {
    let names: HashMap<u64, String> = tags.iter().map(|tag| (number(tag, "id"), text(tag, "tag").to_owned())).collect();
    for tag in tags {
        let name = |id: &Value| id.as_u64().and_then(|id| names.get(&id)).cloned();
        let implied: Vec<String> = items(tag, "implies").iter().filter_map(name).collect();
        let into = tag.get("merged-into").and_then(name);
        if let Some(tag) = tag.as_object_mut() {
            let _ = tag.insert("implies".to_owned(), json!(implied));
            let _ = tag.insert("merged-into".to_owned(), json!(into));
        }
    }
}

/// Shows all tags.
pub(crate) fn show(mount: &impl Ask, json: bool, out: &mut Output<'_>) -> Ended {
    let tags = all(mount)?;
    for tag in &tags {
        if json {
            out.json(tag)?;
        } else {
            out.line(&line(tag))?;
        }
    }
    Ok(Outcome::of(!tags.is_empty()))
}

/// `12  beach  (alias strand; implies outside)`
fn line(tag: &Value) -> String {
    let words = |key: &str| items(tag, key).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    let mut more = Vec::new();
    for (key, word) in [("aliases", "alias"), ("implies", "implies")] {
        let words = words(key);
        if !words.is_empty() {
            more.push(format!("{word} {words}"));
        }
    }
    if let Some(into) = tag.get("merged-into").and_then(Value::as_str) {
        more.push(format!("merged into {into}"));
    }
    let name = format!("{}\t{}", number(tag, "count"), text(tag, "tag"));
    if more.is_empty() { name } else { format!("{name}\t({})", more.join("; ")) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{all, show};
    use crate::cli::graph::ask::testing::Fake;
    use crate::cli::graph::output::testing::printed;

    fn tag(id: u64, name: &str, implies: &[u64], into: Option<u64>) -> Value {
        json!({ "tag": name, "id": id, "count": id, "aliases": ["other"], "implies": implies, "merged-into": into })
    }

    fn pages() -> Fake {
        Fake::new([
            (
                json!({ "tags": null, "limit": 1024 }),
                vec![tag(1, "a", &[2, 9], None), json!({ "end": false, "after": "a" })],
            ),
            (
                json!({ "tags": "a", "limit": 1024 }),
                vec![tag(2, "b", &[], Some(1)), json!({ "end": true, "after": "b" })],
            ),
        ])
    }

    #[test]
    fn pages_are_joined_and_numbers_named() {
        let tags = all(&pages()).unwrap();
        assert_eq!((&tags[0]["implies"], &tags[1]["merged-into"]), (&json!(["b"]), &json!("a")));
        let (text, _) = printed(|out| show(&pages(), false, out));
        assert_eq!(text, "1\ta\t(alias other; implies b)\n2\tb\t(alias other; merged into a)\n");
    }

    #[test]
    fn an_answer_that_does_not_lead_on_is_refused() {
        let again = json!({ "end": false, "after": "a" });
        let fake = Fake::new([
            (json!({ "tags": null, "limit": 1024 }), vec![tag(1, "a", &[], None), again.clone()]),
            (json!({ "tags": "a", "limit": 1024 }), vec![again]),
        ]);
        assert!(all(&fake).unwrap_err().sentence.contains("lead on"));
        assert!(all(&Fake::new([(json!({ "tags": null, "limit": 1024 }), vec![])])).is_err());
    }
}
