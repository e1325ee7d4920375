//! Options of `-o` and fstab.
//!
//! Never guesses: an option that is not known is refused by name.

use thiserror::Error;

use dgfs_client::config::{TAGS_NAME_DEFAULT, VfsConfig};
use dgfs_proto::name::Name;

use crate::adapter::AtimePolicy;

/// Options of a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// `ro`.
    pub read_only: bool,
    /// `nosuid`; root has `suid` unless told otherwise.
    pub no_suid: bool,
    /// `nodev`; root has `dev` unless told otherwise.
    pub no_dev: bool,
    /// `noexec`.
    pub no_exec: bool,
    /// `noatime`.
    pub no_atime: bool,
    /// `sync`.
    pub sync: bool,
    /// `dirsync`.
    pub dir_sync: bool,
    /// `allow_other`: root has it unless told otherwise.
    pub all_users: bool,
    /// `nonempty`.
    pub nonempty: bool,
    /// `soft`: fail at the first time-out instead of trying on.
    pub soft: bool,
    /// `data-dir=`, for fstab lines whose source is only a name.
    pub data_dir: Option<String>,
    /// `metrics=HOST:PORT`, or `metrics=none`.
    pub metrics: Option<String>,
    /// `slow-ms=`.
    pub slow_ms: Option<u64>,
    /// `log-file=`.
    pub log_file: Option<String>,
    /// `tags=NAME`: what the virtual directories of tags are called; `notags`: empty.
    pub tags_name: Option<String>,
    /// `tags_visible`: they are listed.
    pub tags_visible: bool,
    /// `inbox=/PATH`, from the volume's root: where files are made that programs make in a tag's directory.
    pub inbox: Option<String>,
    /// `graph…=`: the Neo4j server that is to hold the graph as well.
    pub graph: GraphOptions,
}

/// A Neo4j server, as far as `-o` names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphOptions {
    /// `graph=bolt://HOST:PORT`.
    pub address: Option<String>,
    /// `graph-user=`.
    pub user: Option<String>,
    /// `graph-password-file=`.
    pub password_file: Option<String>,
    /// `graph-ca=`.
    pub ca: Option<String>,
}

/// An option that is not one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("mount option {0:?} is not known: see dgfs mount --help for those that are")]
pub struct UnknownOption(String);

impl MountOptions {
    /// Reads the words of all `-o`. Root gets `suid`, `dev` and `allow_other` unless they are taken away: `mount(8)`
    /// strips them before it calls a helper. Nobody else may have `suid` and `dev`.
    ///
    /// # Errors
    /// A word is not known.
    pub fn parse(lists: &[String], root: bool) -> Result<Self, UnknownOption> {
        let mut options = Self { no_suid: !root, no_dev: !root, all_users: root, ..Self::default() };
        for word in lists.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|word| !word.is_empty()) {
            options.take(word, root)?;
        }
        Ok(options)
    }

    fn take(&mut self, word: &str, root: bool) -> Result<(), UnknownOption> {
        if let Some((key, value)) = word.split_once('=') {
            match key {
                "data-dir" | "metrics" | "log-file" | "graph" | "graph-user" | "graph-password-file" | "graph-ca"
                    if value.is_empty() =>
                {
                    return Err(UnknownOption(word.to_owned()));
                }
                "graph" => self.graph.address = Some(value.to_owned()),
                "graph-user" => self.graph.user = Some(value.to_owned()),
                "graph-password-file" => self.graph.password_file = Some(value.to_owned()),
                "graph-ca" => self.graph.ca = Some(value.to_owned()),
                "data-dir" => self.data_dir = Some(value.to_owned()),
                "metrics" => self.metrics = Some(value.to_owned()),
                "slow-ms" => self.slow_ms = Some(value.parse().map_err(|_| UnknownOption(word.to_owned()))?),
                "log-file" => self.log_file = Some(value.to_owned()),
                "tags" if Name::new(value.as_bytes()).is_err() => return Err(UnknownOption(word.to_owned())),
                "tags" => self.tags_name = Some(value.to_owned()),
                "inbox" if !is_inbox(value) => return Err(UnknownOption(word.to_owned())),
                "inbox" => self.inbox = Some(value.to_owned()),
                // Set by us, or meant for other readers of fstab.
                "fsname" | "subtype" | "comment" | "uhelper" | "helper" => {}
                _ if key.starts_with("x-") => {}
                _ => return Err(UnknownOption(word.to_owned())),
            }
            return Ok(());
        }
        match word {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "nosuid" => self.no_suid = true,
            "suid" => self.no_suid = !root,
            "nodev" => self.no_dev = true,
            "dev" => self.no_dev = !root,
            "noexec" => self.no_exec = true,
            "exec" => self.no_exec = false,
            "noatime" => self.no_atime = true,
            "atime" | "relatime" | "strictatime" => self.no_atime = false,
            "sync" => self.sync = true,
            "async" => self.sync = false,
            "dirsync" => self.dir_sync = true,
            "allow_other" => self.all_users = true,
            "noallow_other" => self.all_users = false,
            "nonempty" => self.nonempty = true,
            "soft" => self.soft = true,
            "hard" => self.soft = false,
            "notags" => self.tags_name = Some(String::new()),
            "tags_visible" => self.tags_visible = true,
            "notags_visible" => self.tags_visible = false,
            // For mount(8) and systemd, or what we do anyway.
            "defaults"
            | "auto"
            | "noauto"
            | "nofail"
            | "_netdev"
            | "user"
            | "nouser"
            | "users"
            | "owner"
            | "group"
            | "nodiratime"
            | "diratime"
            | "lazytime"
            | "nolazytime"
            | "default_permissions"
            | "loud"
            | "silent" => {}
            _ if word.starts_with("x-") => {}
            _ => return Err(UnknownOption(word.to_owned())),
        }
        Ok(())
    }

    /// What the virtual directories are called; none: there are none.
    #[must_use]
    pub fn tags(&self) -> Option<Vec<u8>> {
        let name = self.tags_name.as_deref().map_or(TAGS_NAME_DEFAULT, str::as_bytes);
        (!name.is_empty()).then(|| name.to_vec())
    }

    /// What a mount is told of `.tags`.
    pub fn set_tags(&self, config: &mut VfsConfig) {
        config.tags_name = self.tags();
        config.tags_visible = self.tags_visible;
        config.inbox = self.inbox.as_ref().map(|inbox| inbox.trim_start_matches('/').as_bytes().to_vec());
    }

    /// Who moves access times.
    #[must_use]
    pub const fn atime(&self) -> AtimePolicy {
        if self.no_atime || self.read_only { AtimePolicy::Never } else { AtimePolicy::Relative }
    }

    fn flags(&self) -> [(bool, &'static str, libc::c_ulong); 7] {
        [
            (self.read_only, "ro", libc::MS_RDONLY),
            (self.no_suid, "nosuid", libc::MS_NOSUID),
            (self.no_dev, "nodev", libc::MS_NODEV),
            (self.no_exec, "noexec", libc::MS_NOEXEC),
            (self.no_atime, "noatime", libc::MS_NOATIME),
            (self.sync, "sync", libc::MS_SYNCHRONOUS),
            (self.dir_sync, "dirsync", libc::MS_DIRSYNC),
        ]
    }

    /// As flags of `mount(2)`.
    #[must_use]
    pub fn kernel_flags(&self) -> libc::c_ulong {
        self.flags().into_iter().filter(|(on, _, _)| *on).fold(0, |flags, (_, _, flag)| flags | flag)
    }

    /// As words for fusermount3.
    #[must_use]
    pub fn flag_words(&self) -> Vec<&'static str> {
        self.flags().into_iter().filter(|(on, _, _)| *on).map(|(_, word, _)| word).collect()
    }
}

/// A path from the root of the volume that leads to no directory above.
fn is_inbox(path: &str) -> bool {
    let names = path.strip_prefix('/').map(|path| path.trim_end_matches('/').split('/'));
    names.is_some_and(|mut names| names.all(|name| Name::new(name.as_bytes()).is_ok()))
}

#[cfg(test)]
mod tests {
    use super::MountOptions;
    use crate::adapter::AtimePolicy;

    fn parse(words: &str, root: bool) -> MountOptions {
        MountOptions::parse(&[words.to_owned()], root).unwrap()
    }

    #[test]
    fn root_keeps_suid_and_dev_unless_they_are_taken_away() {
        let plain = parse("rw,_netdev,noauto", true);
        assert!(!plain.no_suid && !plain.no_dev && plain.all_users);
        let strict = parse("nosuid,nodev,noallow_other", true);
        assert!(strict.no_suid && strict.no_dev && !strict.all_users);
    }

    #[test]
    fn nobody_else_gets_suid_or_dev() {
        let options = parse("suid,dev,allow_other", false);
        assert!(options.no_suid && options.no_dev && options.all_users);
    }

    #[test]
    fn the_later_word_wins_and_flags_follow() {
        let options = parse("ro,noatime,rw,relatime,noexec", true);
        assert_eq!(options.flag_words(), ["noexec"]);
        assert_eq!(options.kernel_flags(), libc::MS_NOEXEC);
        assert_eq!(options.atime(), AtimePolicy::Relative);
        assert_eq!(parse("ro", true).atime(), AtimePolicy::Never);
    }

    #[test]
    fn the_directories_of_tags_can_be_named_shown_and_left_out() {
        assert_eq!((parse("rw", true).tags(), parse("rw", true).tags_visible), (Some(b".tags".to_vec()), false));
        assert_eq!(parse("tags=_by,tags_visible", true).tags(), Some(b"_by".to_vec()));
        assert!(parse("tags_visible", true).tags_visible && !parse("tags_visible,notags_visible", true).tags_visible);
        assert_eq!(parse("notags", true).tags(), None);
        assert_eq!(parse("inbox=/In/box", true).inbox, Some("/In/box".to_owned()));
        for bad in ["tags=", "tags=a/b", "tags=..", "inbox=", "inbox=/", "inbox=In", "inbox=/a/../b", "inbox=/a//b"] {
            assert!(MountOptions::parse(&[bad.to_owned()], true).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_neo4j_server_can_be_named() {
        let graph = parse("graph=bolt://h:7687,graph-user=ada,graph-password-file=/p,graph-ca=/c", true).graph;
        let words = [graph.address, graph.user, graph.password_file, graph.ca].map(Option::unwrap);
        assert_eq!(words, ["bolt://h:7687", "ada", "/p", "/c"]);
        assert!(MountOptions::parse(&["graph=".to_owned()], true).is_err());
    }

    #[test]
    fn an_unknown_option_is_refused_by_name() {
        let error = MountOptions::parse(&["ro,frobnicate".to_owned()], true).unwrap_err();
        assert!(error.to_string().contains("frobnicate"), "{error}");
        assert!(MountOptions::parse(&["x-systemd.automount,x-a=b,comment=c".to_owned()], true).is_ok());
    }
}
