//! Takes secrets out of what goes into a bundle.
//!
//! Never needs to know where a text is from. Always: what looks like a secret goes, and every secret that this machine's files
//! of the cluster hold goes wherever it stands, whatever it looks like.

use std::path::Path;

use toml::{Table, Value};

use dgfs_runtime::watch::words;

/// What stands in a secret's place.
pub(super) const GONE: &str = "(not told)";
/// Bytes of a file that are looked at for secrets at most.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// A shorter secret would take away common words, and is none.
const SECRET_BYTES_MIN: usize = 4;
/// How join tokens begin.
const TOKEN: &str = "dgfsjoin1.";
/// Words of keys whose values are secrets, or name files of secrets.
const SECRET_KEYS: [&str; 4] = ["password", "secret", "token", "key"];

/// The secrets that are known.
#[derive(Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Learns those of a configuration: passwords in it and in its addresses, and what is in the files it names.
    pub(super) fn learn(&mut self, config: &str, base: &Path) {
        if let Ok(table) = config.parse::<Table>() {
            self.learn_value("", &Value::Table(table), base);
        }
    }

    fn learn_value(&mut self, key: &str, value: &Value, base: &Path) {
        match value {
            Value::Table(table) => table.iter().for_each(|(key, value)| self.learn_value(key, value, base)),
            Value::Array(values) => values.iter().for_each(|value| self.learn_value(key, value, base)),
            Value::String(text) => {
                if let Some(user) = user_of(text) {
                    self.add(user.rsplit_once(':').map_or(user, |(_, password)| password));
                }
                if key.ends_with("_file") && is_secret(key) {
                    self.learn_file(&base.join(text));
                } else if is_secret(key) {
                    self.add(text);
                }
            }
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
        }
    }

    /// Learns each line of a file of secrets, such as a key.
    pub(super) fn learn_file(&mut self, path: &Path) {
        let is_small = std::fs::metadata(path).is_ok_and(|facts| facts.len() <= FILE_BYTES_MAX);
        let text = if is_small { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() };
        text.lines().filter(|line| !line.starts_with("-----")).for_each(|line| self.add(line.trim()));
    }

    fn add(&mut self, secret: &str) {
        if secret.len() >= SECRET_BYTES_MIN && !self.0.iter().any(|known| known == secret) {
            self.0.push(secret.to_owned());
        }
    }

    /// `text` without secrets.
    pub(super) fn out_of(&self, text: &str) -> String {
        let mut shown = without_keys(text);
        for secret in &self.0 {
            if shown.contains(secret.as_str()) {
                shown = shown.replace(secret.as_str(), GONE);
            }
        }
        shown = without_users(&shown);
        without_tokens(&shown)
    }

    /// A configuration as lines `key = value`, without secrets; none where it is no TOML.
    pub(super) fn config(&self, text: &str) -> Option<String> {
        let table = text.parse::<Table>().ok()?;
        let lines = words(&table).into_iter().map(|(key, value)| {
            let hidden = is_secret(&key) && !key.ends_with("_file");
            format!("{key} = {}\n", if hidden { GONE } else { &value })
        });
        Some(self.out_of(&lines.collect::<String>()))
    }
}

fn is_secret(key: &str) -> bool {
    SECRET_KEYS.iter().any(|word| key.contains(word))
}

/// `user:password` of `scheme://user:password@host`.
fn user_of(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    authority.rsplit_once('@').map(|(user, _)| user)
}

/// Every `://user@` loses its user.
fn without_users(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let ends = |letter: char| letter.is_whitespace() || "/?#\"'<>".contains(letter);
        let end = after.find(ends).unwrap_or(after.len());
        let (authority, behind) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => shown.push_str(&format!("{GONE}@{host}")),
            None => shown.push_str(authority),
        }
        rest = behind;
    }
    shown.push_str(rest);
    shown
}

/// Every private key loses what is between its first and its last line; one without a last line everything behind.
fn without_keys(text: &str) -> String {
    const BEGIN: &str = "PRIVATE KEY-----";
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        shown.push_str(before);
        shown.push_str(BEGIN);
        shown.push_str(GONE);
        // The end of the key's last line is the next of these words.
        rest = after.split_once(BEGIN).map_or("", |(_, behind)| behind);
    }
    shown.push_str(rest);
    shown
}

/// Every join token loses its digits.
fn without_tokens(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(TOKEN) {
        shown.push_str(before);
        shown.push_str(GONE);
        rest = after.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric());
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::Secrets;

    #[test]
    fn secrets_go_by_their_looks() {
        let secrets = Secrets::default();
        for (text, shown) in [
            ("engine at redis://me:hunter2@r:6379/0, ok", "engine at redis://(not told)@r:6379/0, ok"),
            ("redis://:pa@ss@r:6379", "redis://(not told)@r:6379"),
            ("http://r:6379/a@b", "http://r:6379/a@b"),
            (
                "x -----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY----- y",
                "x -----BEGIN PRIVATE KEY-----(not told) y",
            ),
            ("-----BEGIN EC PRIVATE KEY-----\nMIIB cut off", "-----BEGIN EC PRIVATE KEY-----(not told)"),
            ("--token dgfsjoin1.00ffab --dir x", "--token (not told) --dir x"),
            ("nothing secret", "nothing secret"),
        ] {
            assert_eq!(secrets.out_of(text), shown);
        }
    }

    #[test]
    fn secrets_of_files_go_wherever_they_stand() {
        let directory = std::env::temp_dir().join(format!("dgfs-redact-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("alerts.token"), "very-secret-letters\n").unwrap();
        std::fs::write(
            directory.join("key.pem"),
            "-----BEGIN PRIVATE KEY-----\nMIIBabcdef\n-----END PRIVATE KEY-----\n",
        )
        .unwrap();
        let mut secrets = Secrets::default();
        let config = "url = \"redis://me:hunter2@r:6379\"\npassword = \"letmein\"\nport = 5\n[alerts]\ntoken_file = \"alerts.token\"\n";
        secrets.learn(config, &directory);
        secrets.learn_file(&directory.join("key.pem"));
        std::fs::remove_dir_all(&directory).unwrap();
        let shown = secrets.out_of("hunter2 letmein very-secret-letters MIIBabcdef BEGIN");
        assert_eq!(shown, "(not told) (not told) (not told) (not told) BEGIN");
        let shown = secrets.config(config).unwrap();
        assert!(shown.contains("port = 5\n") && shown.contains("alerts.token_file = alerts.token\n"), "{shown}");
        assert!(shown.contains("password = (not told)\n") && !shown.contains("hunter2"), "{shown}");
        assert_eq!(secrets.config("no = = toml"), None);
    }
}
