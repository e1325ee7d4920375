//! What attributes and taggers say of an inode, put together.
//!
//! Never touches what people tagged. Always the same for the same rows, so that an index built anew says the same.

use rusqlite::Connection;

use dgfs_proto::ids::Ino;
use dgfs_proto::tag::fold;

use crate::graph::text::cut_text;
use crate::step::Derived;
use crate::store::StoreError;
use crate::store::write::id;
use crate::when::parse_ns;

/// Bytes of a word with its value; the rest of a longer value is cut off (its text can be searched whole).
const WORD_BYTES_MAX: usize = 200;
/// Words of one inode from attributes and taggers.
const WORDS_MAX: usize = 1000;
/// Keys that are the file system's own: nobody else says them.
const OWN_KEYS: [&str; 12] = [
    "size",
    "mtime",
    "ctime",
    "btime",
    "owner",
    "group",
    "nlink",
    "hash",
    "ext",
    "size-class",
    "date-year",
    "date-month",
];
/// Values of `type` that say what an inode is.
const KINDS: [&str; 6] = ["file", "directory", "symlink", "fifo", "socket", "device"];

/// Everything that is said of an inode.
pub(super) fn derived(connection: &Connection, ino: Ino) -> Result<Derived, StoreError> {
    let mut derived = Derived::default();
    let mut words = Vec::new();
    let mut xattrs = connection.prepare_cached("SELECT name, value FROM xattr WHERE ino = ?1 ORDER BY name")?;
    let mut rows = xattrs.query([id(ino)])?;
    while let Some(row) = rows.next()? {
        let (name, value): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let value = String::from_utf8_lossy(&value).into_owned();
        derived.unindexed |= name == b"user.xdg.robots.index" && value.trim().eq_ignore_ascii_case("false");
        fact(&name, &value, &mut words);
    }
    let mut findings = connection.prepare_cached(
        "SELECT finding.marks, content.hash FROM content LEFT JOIN finding
         ON finding.hash = content.hash AND finding.hints = content.hints WHERE content.ino = ?1 ORDER BY finding.tagger",
    )?;
    let mut rows = findings.query([id(ino)])?;
    // What was found before the owner said that he does not want it is not told any more.
    while let Some(row) = if derived.unindexed { None } else { rows.next()? } {
        let (marks, hash): (Option<Vec<u8>>, Vec<u8>) = (row.get(0)?, row.get(1)?);
        derived.content = hash.try_into().ok();
        // Marks that cannot be read are made again by their tagger's next version.
        let marks: Vec<(String, u16)> = marks.and_then(|marks| postcard::from_bytes(&marks).ok()).unwrap_or_default();
        words.extend(marks.into_iter().map(|(word, _)| word));
    }
    let vetoes = vetoes(connection, ino)?;
    let mut seen = std::collections::BTreeSet::new();
    for word in words {
        let word = tidy(&word);
        match word.split_once('=') {
            Some((key, value)) if key.eq_ignore_ascii_case("taken") => {
                derived.taken_ns = derived.taken_ns.or_else(|| parse_ns(value));
            }
            Some((key, value)) if is_own(key, value) => {}
            _ if word.is_empty() || derived.words.len() >= WORDS_MAX => {}
            _ => {
                let folded = fold(&word);
                if !vetoes.contains(&folded) && seen.insert(folded) {
                    derived.words.push(word);
                }
            }
        }
    }
    Ok(derived)
}

fn is_own(key: &str, value: &str) -> bool {
    let named = |list: &[&str], word: &str| list.iter().any(|own| own.eq_ignore_ascii_case(word));
    value.is_empty() || named(&OWN_KEYS, key) || (key.eq_ignore_ascii_case("type") && named(&KINDS, value))
}

/// What taggers are not to say of it, folded.
pub(super) fn vetoes(connection: &Connection, ino: Ino) -> Result<Vec<String>, StoreError> {
    let mut vetoes = connection.prepare_cached("SELECT tag FROM veto WHERE ino = ?1")?;
    let rows = vetoes.query_map([id(ino)], |row| row.get::<_, String>(0))?;
    let mut found = Vec::new();
    for tag in rows {
        found.push(fold(&tag?));
    }
    Ok(found)
}

/// The facts in an extended attribute.
fn fact(name: &[u8], value: &str, words: &mut Vec<String>) {
    let key = match name {
        b"user.xdg.comment" => "comment",
        b"user.xdg.origin.url" => "origin",
        b"user.xdg.language" => "lang",
        b"user.baloo.rating" => "rating",
        b"user.charset" => "charset",
        b"user.mime_type" => {
            if let Some((class, _)) = value.split_once('/') {
                words.push(format!("type={class}"));
            }
            "mime"
        }
        _ => match name.strip_prefix(b"user.dublincore.").map(std::str::from_utf8) {
            Some(Ok(key)) if !key.contains('=') => key,
            Some(_) | None => return,
        },
    };
    words.push(format!("{key}={value}"));
}

/// Without control characters and blanks around, cut to what a word may take.
pub(crate) fn tidy(word: &str) -> String {
    let clean: String = word.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    let (key, value) = clean.split_once('=').map_or((None, clean.as_str()), |(key, value)| (Some(key), value));
    let mut tidied = key.map(|key| format!("{}=", key.trim())).unwrap_or_default();
    for character in value.trim().chars() {
        if tidied.len() + character.len_utf8() > WORD_BYTES_MAX {
            break;
        }
        tidied.push(character);
    }
    tidied.trim_end().to_owned()
}

/// The text of an inode, cut for the search table.
pub(super) fn full_text(connection: &Connection, ino: Ino) -> Result<String, StoreError> {
    let mut text = String::new();
    let mut xattrs = connection.prepare_cached(
        "SELECT CAST(value AS TEXT) FROM xattr WHERE ino = ?1 AND (name = CAST('user.xdg.comment' AS BLOB)
         OR substr(name, 1, 16) = CAST('user.dublincore.' AS BLOB)) ORDER BY name",
    )?;
    let mut rows = xattrs.query([id(ino)])?;
    while let Some(row) = rows.next()? {
        push_text(&mut text, row.get_ref(0)?.as_bytes().unwrap_or_default());
    }
    let mut findings = connection.prepare_cached(
        "SELECT finding.text FROM content JOIN finding
         ON finding.hash = content.hash AND finding.hints = content.hints
         WHERE content.ino = ?1 AND finding.text IS NOT NULL AND NOT EXISTS (SELECT 1 FROM xattr
           WHERE xattr.ino = content.ino AND xattr.name = CAST('user.xdg.robots.index' AS BLOB)
           AND lower(trim(CAST(xattr.value AS TEXT))) = 'false') ORDER BY finding.tagger",
    )?;
    let mut rows = findings.query([id(ino)])?;
    while let Some(row) = rows.next()? {
        push_text(&mut text, row.get_ref(0)?.as_bytes().unwrap_or_default());
    }
    Ok(cut_text(&text))
}

fn push_text(text: &mut String, bytes: &[u8]) {
    text.push_str(&String::from_utf8_lossy(bytes));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::tidy;

    #[test]
    fn words_are_tidied_and_cut() {
        assert_eq!(tidy(" a\nb "), "a b");
        assert_eq!(tidy("title =  Das Kapital "), "title=Das Kapital");
        assert_eq!(tidy(&format!("k={}", "ä".repeat(200))).len(), 200);
    }
}
