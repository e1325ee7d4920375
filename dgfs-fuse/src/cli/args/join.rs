//! The words of `dgfs cluster token` and `dgfs join`.
//!
//! Never reads a token's file; a word that is wrong is refused here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use dgfs_runtime::channel::Role;

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The authority's directory, with ca.pem and ca.key
    #[arg(long, value_name = "DIR")]
    pub(crate) ca: PathBuf,
    /// What the machine becomes: meta, stored, index or client
    #[arg(long, value_parser = role)]
    pub(crate) role: Role,
    /// The only name it may have [default: the machine says it]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// How long it may be used, at most 7d: 90s, 30m, 1h, 2d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span)]
    pub(crate) valid: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// The token, or @FILE with it (others on this machine can read a command line)
    #[arg(long, value_name = "TOKEN|@FILE")]
    pub(crate) token: String,
    /// Where metadata services let machines join (`join.listen` of their configuration)
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', required = true)]
    pub(crate) meta: Vec<String>,
    /// Where the key, the certificate and a first configuration are written
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// The machine's name, where the token has none [default: its host name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Names and addresses of this machine; the first says where a storage daemon stands [default: its host name]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) host: Vec<String>,
    /// Put a new identity into a directory that holds one; configurations stay
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) stored: StoredWords,
}

/// For storage daemons only.
#[derive(Debug, Default, Args)]
pub(crate) struct StoredWords {
    /// Where a storage daemon listens [default: the address that reaches the metadata service, a free port]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// What others call that, where it is another address
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Option<String>,
    /// Where its chunks lie [default: DIR/data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The room or site it is in
    #[arg(long)]
    pub(crate) zone: Option<String>,
    /// The disk of this machine that it uses
    #[arg(long)]
    pub(crate) disk: Option<String>,
}

impl StoredWords {
    /// Was none of them said?
    pub(crate) fn are_none(&self) -> bool {
        self.listen.is_none()
            && self.advertise.is_none()
            && self.data.is_none()
            && self.zone.is_none()
            && self.disk.is_none()
    }
}

fn role(word: &str) -> Result<Role, String> {
    Role::from_name(word).ok_or_else(|| "a role is meta, stored, index or client".to_owned())
}

pub(crate) fn span(word: &str) -> Result<Duration, String> {
    let parse = || {
        let (number, unit) = word.split_at_checked(word.len().checked_sub(1)?)?;
        let unit_s = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(unit_s)?))
    };
    parse().ok_or_else(|| "a time is a whole number and s, m, h or d: 30m".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser as _;

    use super::span;
    use crate::cli::args::{Cli, Command};

    #[test]
    fn times_have_a_unit() {
        for (word, seconds) in [("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604_800)] {
            assert_eq!(span(word), Ok(Duration::from_secs(seconds)));
        }
        for word in ["", "s", "1", "1.5h", "-1h", "1ä", "ä", "99999999999999999999d", "18446744073709551615d"] {
            assert!(span(word).is_err(), "{word:?}");
        }
    }

    #[test]
    fn joining_takes_several_addresses_and_names() {
        let words = "dgfs join --token @t --meta a:1,b:1 --dir d --host nas,10.0.0.3 --listen 0.0.0.0:7000";
        let Command::Join(args) = Cli::try_parse_from(words.split(' ')).unwrap().command else { panic!("not join") };
        assert_eq!((args.meta, args.host), (vec!["a:1".into(), "b:1".into()], vec!["nas".into(), "10.0.0.3".into()]));
        assert!(!args.stored.are_none());
        for words in
            ["dgfs join --token t --dir d", "dgfs cluster token --ca d --role king", "dgfs cluster token --ca d"]
        {
            assert!(Cli::try_parse_from(words.split(' ')).is_err(), "{words}");
        }
    }
}
