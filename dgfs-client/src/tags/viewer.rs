//! Who asks: the user of a kernel request, with all groups.
//!
//! Never keeps an answer: groups may change from one request to the next, and a process number may be used again. Always: what
//! cannot be found out gives fewer groups, never more.

use dgfs_proto::graph::Viewer;
use dgfs_proto::limits::GROUPS_MAX;

/// The user of a kernel request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// File-system user.
    pub uid: u32,
    /// File-system group.
    pub gid: u32,
    /// The thread that asks, as this process sees it; 0 when it is in a place that this process does not see.
    pub pid: u32,
}

impl Who {
    /// The user with all groups.
    #[must_use]
    pub fn viewer(self) -> Viewer {
        if self.uid == 0 {
            return Viewer::root();
        }
        let status = (self.pid != 0).then(|| std::fs::read_to_string(format!("/proc/{}/status", self.pid)));
        let gids = match status {
            Some(Ok(status)) => groups(&status, self),
            Some(Err(_)) | None => vec![self.gid],
        };
        Viewer { uid: self.uid, gids }
    }
}

/// The groups that `/proc/PID/status` (proc(5)) names: of the user that was expected, or only the one that the kernel said.
fn groups(status: &str, who: Who) -> Vec<u32> {
    let mut gids = vec![who.gid];
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
    // Real, effective, saved, file-system user: when the last is another, the number belongs to another process now.
    let filesystem_uid =
        line("Uid:").and_then(|ids| ids.split_ascii_whitespace().nth(3)).and_then(|id| id.parse::<u32>().ok());
    if filesystem_uid == Some(who.uid) {
        let listed =
            line("Groups:").unwrap_or_default().split_ascii_whitespace().filter_map(|id| id.parse::<u32>().ok());
        gids.extend(listed.filter(|gid| *gid != who.gid).take(GROUPS_MAX.saturating_sub(1)));
    }
    gids
}

#[cfg(test)]
mod tests {
    use super::{Who, groups};
    use dgfs_proto::graph::Viewer;
    use dgfs_proto::limits::GROUPS_MAX;

    const WHO: Who = Who { uid: 1000, gid: 100, pid: 1 };

    #[test]
    fn groups_are_those_of_the_expected_user() {
        let status = "Name:\tx\nUid:\t0\t0\t0\t1000\nGid:\t1\t1\t1\t1\nGroups:\t4 100 27 \n";
        assert_eq!(groups(status, WHO), [100, 4, 27]);
        let of_another = status.replace("1000", "1001");
        assert_eq!(groups(&of_another, WHO), [100]);
        for broken in ["", "Groups: 4", "Uid: x\nGroups: 4", "Uid: 0 0 0 1000\nGroups: x -1 99999999999"] {
            assert_eq!(groups(broken, WHO), [100], "{broken:?}");
        }
    }

    #[test]
    fn more_groups_than_are_looked_at_are_left_out() {
        let many: Vec<String> = (0..70_000).map(|gid| gid.to_string()).collect();
        let status = format!("Uid: 0 0 0 1000\nGroups: {}\n", many.join(" "));
        assert_eq!(groups(&status, WHO).len(), GROUPS_MAX);
    }

    #[test]
    fn root_sees_everything_and_an_unseen_process_has_its_group() {
        assert_eq!(Who::default().viewer(), Viewer::root());
        assert_eq!(Who { pid: 0, ..WHO }.viewer(), Viewer { uid: 1000, gids: vec![100] });
        assert_eq!(Who { pid: u32::MAX, ..WHO }.viewer(), Viewer { uid: 1000, gids: vec![100] });
    }
}
