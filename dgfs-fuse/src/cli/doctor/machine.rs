//! This machine, and the mounts on it.
//!
//! Never touches a mount: `gather` had another process do so, which may hang in its place.

use crate::cli::doctor::finding::{Finding, shell_word};
use crate::cli::doctor::gather::{Gathered, Life};
use crate::cli::doctor::local::let_go;

/// Older kernels are in no distribution that is still maintained, and mounts were never tried on them.
const KERNEL_MIN: (u32, u32) = (5, 4);
/// A request without an answer for longer is stuck, seconds.
const STUCK_S: f64 = 15.0;
/// Seconds without an answer of the metadata service: the session is renewed more often.
const META_S: f64 = 6.0;

/// What mounting needs of the machine.
pub(super) fn kernel(seen: &Gathered) -> Vec<Finding> {
    let machine = &seen.machine;
    let mut found = Vec::new();
    if !machine.has_fuse {
        found.push(Finding::warning("/dev/fuse is missing: nothing can be mounted here", "modprobe fuse"));
    }
    if !machine.has_fusermount && !machine.is_root {
        let sentence = "fusermount3 is missing: only root can mount here";
        found.push(Finding::warning(sentence, "apt-get install fuse3"));
    }
    if release(&machine.kernel).is_some_and(|version| version < KERNEL_MIN) {
        let (major, minor) = KERNEL_MIN;
        let sentence =
            format!("the kernel is {}; mounts were never tried on one before {major}.{minor}", machine.kernel);
        found.push(Finding::warning(sentence, "uname -r  # install a newer kernel of your distribution, and restart"));
    }
    found
}

/// Major and minor number of a release such as `6.1.0-18-amd64`.
fn release(text: &str) -> Option<(u32, u32)> {
    let mut words = text.split(|letter: char| !letter.is_ascii_digit());
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// Mounts that hang, are dead, or could not keep what they promised.
pub(super) fn mounts(seen: &Gathered) -> Vec<Finding> {
    let mut found = Vec::new();
    for mount in &seen.mounts {
        let (path, word) = (&mount.path, shell_word(&mount.path));
        match &mount.life {
            Life::Answers | Life::Untold(_) => {}
            Life::Hangs => {
                found.push(Finding::error(format!("the mount at {path} does not answer"), let_go(path, mount.pid)))
            }
            Life::Dead(sentence) => {
                found.push(Finding::error(sentence, format!("dgfs umount {word}, then mount again")));
            }
        }
        let Some(numbers) = &mount.numbers else { continue };
        let oldest = numbers.sum("dgfs_mount_oldest_request_seconds");
        if oldest > STUCK_S {
            let sentence = format!("a request at {path} has waited for {oldest:.0} s");
            found.push(Finding::error(sentence, format!("dgfs logs {word} --since 10m --level warn; dgfs top {word}")));
        }
        if numbers.sum("dgfs_client_session_ended") > 0.0 {
            let sentence =
                format!("the metadata service has ended the session of the mount at {path}: nothing works there");
            found.push(Finding::error(sentence, format!("dgfs umount --lazy {word}, then mount again")));
        }
        let silent = numbers.sum("dgfs_client_meta_silent_seconds");
        if silent > META_S {
            let sentence = format!("the metadata service has not answered the mount at {path} for {silent:.0} s");
            found.push(Finding::error(sentence, format!("dgfs logs {word} --since 10m --level warn")));
        }
        let lost = numbers.sum("dgfs_client_write_errors_total")
            + numbers.sum("dgfs_client_kept_back_refused_total")
            + numbers.sum("dgfs_client_kept_back_otherwise_total");
        if lost > 0.0 {
            let sentence = format!("{lost:.0} writes or changes at {path} failed after they were accepted");
            found.push(Finding::error(
                sentence,
                format!("dgfs logs {word} --level warn  # names the files; it is told until the mount ends"),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{kernel, mounts, release};
    use crate::cli::doctor::gather::testing::{gathered, mount};
    use crate::cli::doctor::gather::{Gathered, Life};

    fn with(change: impl FnOnce(&mut Gathered)) -> Gathered {
        let mut seen = gathered(Vec::new());
        change(&mut seen);
        seen
    }

    #[test]
    fn a_machine_that_can_mount_is_silent() {
        assert_eq!(kernel(&with(|_| {})), []);
        assert_eq!((release("6.1.0-18-amd64"), release("odd")), (Some((6, 1)), None));
        assert_eq!(kernel(&with(|seen| seen.machine.kernel = "odd".to_owned())), []);
    }

    #[test]
    fn what_is_missing_for_mounts_is_told() {
        assert_eq!(kernel(&with(|seen| seen.machine.has_fuse = false)).len(), 1);
        assert_eq!(kernel(&with(|seen| (seen.machine.has_fusermount, seen.machine.is_root) = (false, false))).len(), 1);
        assert_eq!(kernel(&with(|seen| (seen.machine.has_fusermount, seen.machine.is_root) = (false, true))), []);
        let old = kernel(&with(|seen| seen.machine.kernel = "4.19.0".to_owned()));
        assert!(old[0].sentence.contains("4.19.0"), "{old:?}");
    }

    #[test]
    fn a_mount_that_answers_is_silent_and_one_that_hangs_or_is_dead_is_told() {
        let of = |life| {
            let mut one = mount("/mnt/x", "dgfs_mount_oldest_request_seconds 1\ndgfs_client_write_errors_total 0\n");
            one.life = life;
            mounts(&with(|seen| seen.mounts.push(one)))
        };
        assert_eq!(of(Life::Answers), []);
        assert_eq!(of(Life::Untold("only root".to_owned())), []);
        assert!(of(Life::Hangs)[0].command.as_deref().unwrap().contains("umount --lazy /mnt/x"));
        assert_eq!(of(Life::Dead("the mount at /mnt/x is dead".to_owned())).len(), 1);
    }

    #[test]
    fn what_a_mount_tells_of_itself_is_judged() {
        for (numbers, words) in [
            ("dgfs_mount_oldest_request_seconds 20\n", "has waited for 20 s"),
            ("dgfs_client_meta_silent_seconds 20\n", "has not answered the mount"),
            ("dgfs_client_session_ended 1\n", "has ended the session of the mount"),
            ("dgfs_client_write_errors_total 2\n", "2 writes or changes"),
            ("dgfs_client_kept_back_refused_total 1\n", "1 writes or changes"),
        ] {
            let found = mounts(&with(|seen| seen.mounts.push(mount("/mnt/x", numbers))));
            assert!(found.len() == 1 && found[0].sentence.contains(words), "{found:?}");
        }
    }
}
