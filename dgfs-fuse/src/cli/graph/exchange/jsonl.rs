//! JSON lines: the format of `dgfs export`, which loses nothing.
//!
//! Never gives up a file because of one bad line: that is an item of its own, with the line's number.
//!
//! `{"path", "tags", "comment", "rating", "relations": [{"relation", "path"}]}` for a file, `{"tag", "aliases", "implies"}` for a tag,
//! `{"saved", "expression"}` for a saved query. Bytes that are no text stand beside their text as hexadecimal (`path-hex`).

use std::ffi::OsString;
use std::io::{BufRead, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{FileItem, Item, TagItem, Take};
use crate::cli::Failure;
use crate::cli::graph::output::{bytes, insert_bytes};
use crate::cli::graph::refused;

/// Bytes of a line: a thousand tags and a thousand relations with the longest paths, twice.
const LINE_BYTES_MAX: u64 = 32 << 20;

/// The line of an item; a problem has none.
pub(super) fn line(item: &Item) -> Option<Value> {
    match item {
        Item::File(file) => Some(file_line(file)),
        Item::Tag(TagItem { tag, aliases, implies }) => {
            Some(json!({ "tag": tag, "aliases": aliases, "implies": implies }))
        }
        Item::Saved(name, expression) => Some(json!({ "saved": name, "expression": expression })),
        Item::Problem(_) => None,
    }
}

fn file_line(file: &FileItem) -> Value {
    let mut line = Map::new();
    insert_bytes(&mut line, "path", file.path.as_os_str().as_bytes());
    let _ = line.insert("tags".to_owned(), json!(file.tags));
    if let Some(comment) = &file.comment {
        insert_bytes(&mut line, "comment", comment);
    }
    if let Some(rating) = file.rating {
        let _ = line.insert("rating".to_owned(), json!(rating));
    }
    let relation = |(name, path): &(String, PathBuf)| {
        let mut relation = Map::new();
        let _ = relation.insert("relation".to_owned(), json!(name));
        insert_bytes(&mut relation, "path", path.as_os_str().as_bytes());
        Value::Object(relation)
    };
    if !file.relations.is_empty() {
        let _ = line.insert("relations".to_owned(), file.relations.iter().map(relation).collect());
    }
    Value::Object(line)
}

/// Reads all lines.
pub(super) fn read(mut from: impl BufRead, take: Take<'_>) -> Result<(), Failure> {
    for number in 1_u64.. {
        let mut text = Vec::new();
        let read = from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text);
        match read.map_err(|error| refused(format!("line {number}: {error}")))? {
            0 => break,
            _ if text.len() as u64 == LINE_BYTES_MAX => {
                return Err(refused(format!(
                    "line {number} has more than {LINE_BYTES_MAX} bytes: not a file of dgfs export"
                )));
            }
            _ if text.trim_ascii().is_empty() => {}
            _ => take(item(&text).unwrap_or_else(|why| Item::Problem(format!("line {number}: {why}"))))?,
        }
    }
    Ok(())
}

fn item(text: &[u8]) -> Result<Item, String> {
    let line: Value = serde_json::from_slice(text).map_err(|error| format!("not JSON: {error}"))?;
    let word = |key: &str| line.get(key).and_then(Value::as_str).map(str::to_owned);
    if let Some(path) = bytes(&line, "path") {
        return file(&line, path_of(path)).map(Item::File);
    }
    if let Some(tag) = word("tag") {
        return Ok(Item::Tag(TagItem { tag, aliases: words(&line, "aliases")?, implies: words(&line, "implies")? }));
    }
    match (word("saved"), word("expression")) {
        (Some(name), Some(expression)) => Ok(Item::Saved(name, expression)),
        (_, _) => Err("expected an object with \"path\", \"tag\", or \"saved\" and \"expression\"".to_owned()),
    }
}

fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

fn file(line: &Value, path: PathBuf) -> Result<FileItem, String> {
    let rating = match line.get("rating") {
        None | Some(Value::Null) => None,
        Some(rating) => Some(rating_of(rating).ok_or_else(|| about(&path, "\"rating\": expected 0 to 10"))?),
    };
    let comment = match line.get("comment") {
        None | Some(Value::Null) => None,
        Some(_) => Some(bytes(line, "comment").ok_or_else(|| about(&path, "\"comment\": expected a text"))?),
    };
    let tags = words(line, "tags").map_err(|why| about(&path, &why))?;
    let relations = match line.get("relations") {
        None | Some(Value::Null) => Vec::new(),
        Some(relations) => relations_of(relations)
            .ok_or_else(|| about(&path, "\"relations\": expected [{\"relation\", \"path\"}, …]"))?,
    };
    Ok(FileItem { path, tags, comment, rating, relations })
}

fn about(path: &Path, why: &str) -> String {
    format!("{}: {why}", path.display())
}

fn rating_of(rating: &Value) -> Option<u8> {
    rating.as_u64().and_then(|rating| u8::try_from(rating).ok()).filter(|rating| *rating <= 10)
}

fn relations_of(relations: &Value) -> Option<Vec<(String, PathBuf)>> {
    let relation = |one: &Value| Some((one.get("relation")?.as_str()?.to_owned(), path_of(bytes(one, "path")?)));
    relations.as_array()?.iter().map(relation).collect()
}

/// A list of texts; one that is not there is empty.
fn words(line: &Value, key: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("\"{key}\": expected a list of texts");
    match line.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(words)) => {
            words.iter().map(|word| word.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::io::Cursor;
    use std::os::unix::ffi::OsStrExt as _;

    use super::{FileItem, Item, TagItem, line, read};

    fn all(text: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        read(Cursor::new(text), &mut |item| {
            items.push(item);
            Ok(())
        })
        .unwrap();
        items
    }

    #[test]
    fn what_is_written_is_read_again() {
        let file = FileItem {
            path: OsStr::from_bytes(b"a/\xff").into(),
            tags: vec!["beach".into(), "year=2020".into()],
            comment: Some(b"two\nlines \xfe".to_vec()),
            rating: Some(8),
            relations: vec![("links-to".into(), "b".into())],
        };
        let tag = TagItem { tag: "beach".into(), aliases: vec!["strand".into()], implies: vec!["outside".into()] };
        let bare = FileItem { path: "c".into(), ..FileItem::default() };
        let items = [Item::File(file), Item::Tag(tag), Item::Saved("n".into(), "a b".into()), Item::File(bare)];
        let text: String = items.iter().map(|item| format!("{}\n", line(item).unwrap())).collect();
        assert_eq!(all(text.as_bytes()), items);
        assert!(line(&Item::Problem("x".into())).is_none());
    }

    #[test]
    fn a_bad_line_is_named_and_the_next_is_read() {
        let text = "nonsense\n\n{}\n{\"path\":\"a\",\"tags\":5}\n{\"path\":\"a\",\"rating\":11}\n{\"path\":\"a\",\"relations\":[1]}\n\
                    {\"path\":\"a\",\"comment\":1}\n{\"tag\":\"x\",\"aliases\":[1]}\n{\"path\":\"b\"}\n";
        let problems = [
            "line 1: not JSON",
            "line 3: expected an object",
            "line 4: a: \"tags\": expected a list",
            "line 5: a: \"rating\"",
            "line 6: a: \"relations\"",
            "line 7: a: \"comment\"",
            "line 8: \"aliases\"",
        ];
        let items = all(text.as_bytes());
        for (item, expected) in items.iter().zip(problems) {
            assert!(matches!(item, Item::Problem(said) if said.starts_with(expected)), "{expected}: {item:?}");
        }
        assert_eq!((items.len(), matches!(&items[7], Item::File(file) if file.path.as_os_str() == "b")), (8, true));
    }
}
