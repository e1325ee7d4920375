//! What of a file's name says which version it is.
//!
//! Never looks at a content. Always: something is left of a name, whatever it is made of; and two names of one base differ
//! only in signs of a version.

use crate::graph::names::extension;

/// Signs that are taken off one after another.
const SIGNS_MAX: usize = 8;
/// Ends of names that programs give to what was before.
const BACKUP_ENDS: [&str; 5] = [".bak", ".orig", ".old", ".backup", "~"];
/// Words that people add, behind a separator.
const WORDS: [&str; 18] = [
    "final", "draft", "copy", "old", "new", "latest", "backup", "bak", "orig", "original", "rev", "revised",
    "revision", "edited", "updated", "fixed", "kopie", "副本",
];
/// What stands between a name and a sign.
const SEPARATORS: [char; 5] = ['-', '_', '.', ' ', '+'];

/// A name taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VersionName {
    /// Without what programs and people add to name a version (`v2`, `-final`, ` (1)`, `Copy of `, `.bak`, `~`), in lower case.
    pub(crate) plain: String,
    /// Without dates and numbers at the end as well, which also tell the parts of a series from one another.
    pub(crate) bare: String,
    /// Lower case; empty: none.
    pub(crate) ext: String,
}

impl VersionName {
    /// Of a name; none for one that is no UTF-8.
    pub(crate) fn of(name: &[u8]) -> Option<Self> {
        let mut name = std::str::from_utf8(name).ok()?.to_lowercase();
        // Emacs numbers its backups: `a.txt.~3~`.
        if let Some((before, number)) = name.strip_suffix('~').and_then(|name| name.rsplit_once(".~"))
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && !before.is_empty()
        {
            name = before.to_owned();
        }
        for _ in 0..SIGNS_MAX {
            let Some(rest) = BACKUP_ENDS.iter().find_map(|end| name.strip_suffix(end)).filter(|rest| !rest.is_empty())
            else {
                break;
            };
            name = rest.to_owned();
        }
        let mut ext = extension(name.as_bytes()).unwrap_or_default();
        // `a.v2` has no extension, and `a-1.2` neither.
        if version_number(&ext).is_some() || ext.bytes().all(|byte| byte.is_ascii_digit()) {
            ext = String::new();
        }
        let stem_len = if ext.is_empty() { name.len() } else { name.len() - ext.len() - 1 };
        let mut stem = name.get(..stem_len).unwrap_or_default();
        if let Some(archive) = stem.strip_suffix(".tar").filter(|archive| !archive.is_empty()) {
            ext = format!("tar.{ext}");
            stem = archive;
        }
        let plain = stripped(stem, plain_sign);
        let bare = stripped(stem, |stem| plain_sign(stem).or_else(|| series_sign(stem)));
        Some(Self { plain: plain.to_owned(), bare: bare.to_owned(), ext })
    }
}

fn stripped(stem: &str, sign: impl Fn(&str) -> Option<&str>) -> &str {
    let trimmed = stem.trim();
    let mut stem = if trimmed.is_empty() { stem } else { trimmed };
    for _ in 0..SIGNS_MAX {
        match sign(stem).map(|rest| rest.trim_matches(SEPARATORS)).filter(|rest| !rest.is_empty()) {
            Some(rest) => stem = rest,
            None => break,
        }
    }
    stem
}

/// What is left without one sign of a version.
fn plain_sign(stem: &str) -> Option<&str> {
    let copied = ["copy of ", "kopie von ", "backup of "].iter().find_map(|word| stem.strip_prefix(word));
    copied.or_else(|| bracketed(stem)).or_else(|| worded(stem)).or_else(|| numbered(stem))
}

/// ` (1)`, `(copy)`, `(final)`.
fn bracketed(stem: &str) -> Option<&str> {
    let (before, inside) = stem.strip_suffix([')', ']'])?.rsplit_once(['(', '['])?;
    let inside = inside.trim();
    let counts = !inside.is_empty() && inside.len() <= 3 && inside.bytes().all(|byte| byte.is_ascii_digit());
    (counts || WORDS.contains(&inside) || version_number(inside).is_some()).then_some(before)
}

/// `-final`, ` copy`, `_copy2`, ` copy 2`.
fn worded(stem: &str) -> Option<&str> {
    let unnumbered = stem.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let is_counted = unnumbered.len() < stem.len() && stem.len() - unnumbered.len() <= 3;
    let candidates = [Some(stem), is_counted.then(|| unnumbered.trim_end_matches(SEPARATORS))];
    candidates.into_iter().flatten().find_map(|stem| {
        WORDS.iter().find_map(|word| stem.strip_suffix(word).filter(|before| before.ends_with(SEPARATORS)))
    })
}

/// `-v2`, `_v1.2.3`, `.r4`, ` version 3`.
fn numbered(stem: &str) -> Option<&str> {
    if let Some((before, word)) = stem.rsplit_once(['-', '_', ' ']) {
        if version_number(word).is_some() {
            return Some(before);
        }
        let is_number = !word.is_empty() && word.len() <= 3 && word.bytes().all(|byte| byte.is_ascii_digit());
        let named = ["version", "ver", "rev", "revision"].iter().find_map(|name| before.strip_suffix(name));
        if let Some(rest) = named.filter(|rest| is_number && rest.ends_with(SEPARATORS)) {
            return Some(rest);
        }
    }
    // `a.v2`: the dot as a separator is looked at last, since versions have dots themselves.
    stem.rsplit_once('.').filter(|(_, word)| version_number(word).is_some()).map(|(before, _)| before)
}

/// `v2`, `v1.2.3`, `r4`, `rev4`.
fn version_number(word: &str) -> Option<&str> {
    let number = ["version", "rev", "ver", "v", "r"].iter().find_map(|name| word.strip_prefix(name))?;
    let lawful = number.len() <= 12
        && number.starts_with(|digit: char| digit.is_ascii_digit())
        && number.chars().all(|letter| letter.is_ascii_digit() || letter == '.');
    lawful.then_some(number)
}

/// A date or a number at the end.
fn series_sign(stem: &str) -> Option<&str> {
    let before =
        stem.trim_end_matches(|letter: char| letter.is_ascii_digit() || matches!(letter, '-' | '_' | '.' | ' ' | ':'));
    let ends_with_digit = stem.ends_with(|digit: char| digit.is_ascii_digit());
    // The `T` between a date and a time.
    let before =
        before.strip_suffix('t').filter(|rest| rest.ends_with(|digit: char| digit.is_ascii_digit())).unwrap_or(before);
    (ends_with_digit && before.len() < stem.len()).then_some(before)
}

#[cfg(test)]
mod tests {
    use super::VersionName;

    fn of(name: &str) -> VersionName {
        VersionName::of(name.as_bytes()).unwrap()
    }

    #[test]
    fn signs_of_a_version_are_taken_off() {
        for name in [
            "report.txt",
            "Report-v2.txt",
            "report_v1.2.txt",
            "report (1).txt",
            "report-final.txt",
            "report_FINAL_v3.txt",
            "Copy of report.txt",
            "report copy.txt",
            "report copy 2.txt",
            "report - Copy (3).txt",
            "report.txt.bak",
            "report.txt~",
            "report.txt.~12~",
            "report.txt.orig",
            "report.old.txt",
            "report-draft2.txt",
            "report version 3.txt",
            "report.v2.txt",
            "report (final).txt",
            "report - 副本.txt",
        ] {
            assert_eq!((of(name).plain.as_str(), of(name).ext.as_str()), ("report", "txt"), "{name}");
        }
        assert_eq!(of("a-v2.tar.gz"), of("a.tar.gz"));
        assert_eq!(of("program-v1.2"), of("program.v3"), "no extension");
    }

    #[test]
    fn what_tells_files_apart_stays() {
        for (one, other) in [
            ("IMG_0001.jpg", "IMG_0002.jpg"),
            ("report-2024-01-01.txt", "report-2024-02-01.txt"),
            ("chapter1.txt", "chapter2.txt"),
            ("report.txt", "report.pdf"),
            ("renew.txt", "re.txt"),
            ("photocopy.txt", "photo.txt"),
            ("semifinal.txt", "semi.txt"),
            ("v1.txt", "v2.txt"),
            ("final.txt", "draft.txt"),
            ("a (2020).txt", "a (2021).txt"),
            ("server-r.txt", "server.txt"),
        ] {
            let (one, other) = (of(one), of(other));
            assert_ne!((&one.plain, &one.ext), (&other.plain, &other.ext), "{one:?} {other:?}");
        }
    }

    #[test]
    fn series_have_one_bare_name_and_nothing_becomes_empty() {
        for (one, other) in [
            ("IMG_0001.jpg", "IMG_0002.jpg"),
            ("report-2024-01-01.txt", "report_20240201.txt"),
            ("log 2024-01-01T10:00.txt", "log.txt"),
            ("report2.txt", "report-v3.txt"),
        ] {
            assert_eq!(of(one).bare, of(other).bare, "{one} {other}");
        }
        for name in ["2024.txt", "~", ".bak", "v2", "(1)", "copy of .txt", "- final", "...", "12", "a", "-", " .txt"] {
            assert!(!of(name).plain.is_empty() && !of(name).bare.is_empty(), "{name}: {:?}", of(name));
        }
        assert_eq!(VersionName::of(b"\xff"), None);
    }
}
