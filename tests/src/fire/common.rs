//! What all workers do to the same few names: who comes first nobody can know.
//!
//! Never expects success. Always: a failure is one of those that another worker can be the reason of.

use std::fs;
use std::path::Path;

use super::mount_calls::{Failed, set_tags};
use crate::rng::Rng;

/// Names in each of the two directories.
const NAMES: u64 = 8;
/// What another worker can be the reason of.
const EXCUSED: &[i32] =
    &[libc::ENOENT, libc::EEXIST, libc::ENOTEMPTY, libc::ENOTDIR, libc::EISDIR, libc::EINVAL, libc::ENODATA];

/// Does one thing, as two mounts see it.
///
/// # Errors
/// A failure that nobody can be the reason of.
pub(super) fn step(root: &Path, other: &Path, rng: &mut Rng) -> Result<&'static str, String> {
    let name = |rng: &mut Rng| format!("common/{}/same{}.txt", rng.below(2), rng.below(NAMES));
    let (one, two) = (root.join(name(rng)), root.join(name(rng)));
    let tag = format!("race{}", rng.below(3));
    let entry = format!("same{}.txt", rng.below(NAMES));
    let (kind, done) = match rng.below(10) {
        0..3 => ("common: write", make(&one, rng)),
        3 => ("common: rename", fs::rename(&one, &two).map_err(Failed::from)),
        4 => ("common: unlink", fs::remove_file(&one).map_err(Failed::from)),
        5..7 => ("common: set attribute", set_tags(&one, &[tag, "beach".to_owned()].into())),
        7 => ("common: ln", fs::hard_link(&one, root.join(".tags").join(tag).join(entry)).map_err(Failed::from)),
        8 => {
            ("common: rm of an entry", fs::remove_file(other.join(".tags").join(tag).join(entry)).map_err(Failed::from))
        }
        _ => ("common: rename directory", swap(root)),
    };
    match done {
        Err(Failed::Refused(error)) if !error.raw_os_error().is_some_and(|errno| EXCUSED.contains(&errno)) => {
            Err(format!("{kind}: {} and {}: {error}", one.display(), two.display()))
        }
        _ => Ok(kind),
    }
}

fn make(file: &Path, rng: &mut Rng) -> Result<(), Failed> {
    fs::create_dir_all(file.parent().expect("a directory"))?;
    Ok(fs::write(file, format!("harbour lighthouse garden {}\n", rng.below(4)))?)
}

/// Away and back, under the others' feet.
fn swap(root: &Path) -> Result<(), Failed> {
    fs::rename(root.join("common"), root.join("common-away"))?;
    Ok(fs::rename(root.join("common-away"), root.join("common"))?)
}
