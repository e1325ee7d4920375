//! `dgfs policy`: how redundantly the files of a directory are stored, and what they are compressed with.
//!
//! Never decides: a policy is an extended attribute of the directory, checked by the metadata service.

mod list;
mod target;
mod usage;

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use dgfs_proto::class::Class;

use crate::cli::Failure;
use crate::cli::args::policy::{PolicyArgs, PolicyCommand};
use crate::cli::files::read_attribute;
use crate::cli::mounted::refuse_silent;
use crate::mount::table::mounts;

/// The attributes.
const REDUNDANCY: &str = "dgfs.policy.redundancy";
const APPLY: &str = "dgfs.policy.apply";
const AVAILABILITY: &str = "dgfs.policy.availability";
const COMPRESSION: &str = "dgfs.policy.compression";
const APPLY_COMPRESSION: &str = "dgfs.policy.apply.compression";

/// Runs the command.
pub(crate) fn run(args: &PolicyArgs) -> Result<(), Failure> {
    match &args.command {
        PolicyCommand::Get { path, .. }
        | PolicyCommand::Ls { path, .. }
        | PolicyCommand::Set { path, .. }
        | PolicyCommand::Usage { path, .. }
        | PolicyCommand::Unset { path, .. } => refuse_silent(path)?,
    }
    match &args.command {
        PolicyCommand::Get { path, json } => get(path, *json),
        PolicyCommand::Ls { path, json } => list::run(path, *json),
        PolicyCommand::Set { path, redundancy, availability, compression, apply } => {
            if redundancy.is_some() || availability.is_some() {
                change_class(path, *redundancy, *availability)?;
                if *apply {
                    set(path, APPLY, "1")?;
                }
            }
            if let Some(compression) = compression {
                // What was asked of old data before does not hold for the new one.
                remove(path, APPLY_COMPRESSION)?;
                set(path, COMPRESSION, compression.name())?;
                if *apply {
                    set(path, APPLY_COMPRESSION, "1")?;
                }
            }
            Ok(())
        }
        PolicyCommand::Usage { path, wait, json } => usage::run(path, *wait, *json),
        PolicyCommand::Unset { path, redundancy, compression } => unset(path, *redundancy, *compression),
    }
}

/// Takes away what was named, or everything.
fn unset(path: &Path, redundancy: bool, compression: bool) -> Result<(), Failure> {
    let (has_class, has_compression) = (has_class(path), own(path, COMPRESSION).is_some());
    let all = !redundancy && !compression;
    if redundancy && !has_class || compression && !has_compression || all && !has_class && !has_compression {
        return Err(explained(path, "none", &io::Error::from_raw_os_error(libc::ENODATA)));
    }
    if all || redundancy {
        [APPLY, AVAILABILITY, REDUNDANCY].into_iter().try_for_each(|name| remove(path, name))?;
    }
    if all || compression {
        [APPLY_COMPRESSION, COMPRESSION].into_iter().try_for_each(|name| remove(path, name))?;
    }
    Ok(())
}

fn has_class(path: &Path) -> bool {
    own(path, REDUNDANCY).or_else(|| own(path, AVAILABILITY)).is_some()
}

/// A word of a policy, and where it is set.
struct Followed {
    word: String,
    from: String,
}

impl Followed {
    fn of(path: &Path, answer: &str, has_one: impl Fn(&Path) -> bool) -> Result<Self, Failure> {
        let root = mount_of(path)?;
        let from = path.ancestors().take_while(|at| at.starts_with(&root)).find(|at| has_one(at));
        let word = own(path, answer).ok_or_else(|| Failure::new("the mount does not tell its policies"))?;
        Ok(Self { word, from: from.map_or_else(|| "the volume".to_owned(), |at| at.display().to_string()) })
    }
}

/// The compression of what lies at `path`, and where it is set.
fn compression_of(path: &Path) -> Result<Followed, Failure> {
    Followed::of(path, "dgfs.compression", |at| own(at, COMPRESSION).is_some())
}

/// The class of what lies at `path`, and where it is set.
fn class_of(path: &Path) -> Result<Followed, Failure> {
    Followed::of(path, "dgfs.policy", has_class)
}

fn get(path: &Path, json: bool) -> Result<(), Failure> {
    let path = canonical(path)?;
    let (class, compression) = (class_of(&path)?, compression_of(&path)?);
    if json {
        println!(
            "{}",
            json!({ "path": path, "redundancy": class.word, "from": class.from,
                    "compression": compression.word, "compression_from": compression.from })
        );
        return Ok(());
    }
    println!("redundancy {} (set for {})", class.word, class.from);
    if let Some(target) = own(Path::new(&class.from), AVAILABILITY) {
        println!("which follows from the availability target of {target} %");
    }
    println!("compression {} (set for {})", compression.word, compression.from);
    Ok(())
}

fn canonical(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

/// The DGFS mount that `path` lies on.
fn mount_of(path: &Path) -> Result<PathBuf, Failure> {
    let mounts = mounts().map_err(Failure::new)?;
    let on = mounts.into_iter().filter(|mount| path.starts_with(&mount.mount_point));
    let nearest = on.max_by_key(|mount| mount.mount_point.as_os_str().len());
    match nearest.filter(crate::mount::table::Mounted::is_dgfs) {
        Some(mount) => Ok(mount.mount_point),
        None => Err(Failure::new(format!("{} is not on a DGFS mount", path.display()))),
    }
}

fn own(path: &Path, name: &str) -> Option<String> {
    let bytes = read_attribute(path, name).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What was asked of old data before does not hold for the new class.
fn change_class(path: &Path, class: Option<Class>, target: Option<f64>) -> Result<(), Failure> {
    if let Some(percent) = target {
        print!("{}", target::explain(&mount_of(&canonical(path)?)?, percent)?);
        set(path, AVAILABILITY, &percent.to_string())?;
        remove(path, REDUNDANCY)?;
    }
    if let Some(class) = class {
        set(path, REDUNDANCY, &class.to_string())?;
        remove(path, AVAILABILITY)?;
    }
    remove(path, APPLY)
}

fn set(path: &Path, name: &str, value: &str) -> Result<(), Failure> {
    let (at, name) = words(path, name)?;
    // SAFETY: both strings end with a NUL, and the value's length is its own.
    let code = unsafe { libc::setxattr(at.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if code == 0 { Ok(()) } else { Err(explained(path, value, &io::Error::last_os_error())) }
}

/// Removes an attribute that may not be there.
fn remove(path: &Path, name: &str) -> Result<(), Failure> {
    let (at, name) = words(path, name)?;
    // SAFETY: both strings end with a NUL.
    let code = unsafe { libc::removexattr(at.as_ptr(), name.as_ptr()) };
    let error = io::Error::last_os_error();
    if code == 0 || error.raw_os_error() == Some(libc::ENODATA) { Ok(()) } else { Err(explained(path, "none", &error)) }
}

fn words(path: &Path, name: &str) -> Result<(CString, CString), Failure> {
    let at = CString::new(path.as_os_str().as_bytes()).map_err(Failure::new)?;
    let name = CString::new(name).map_err(Failure::new)?;
    Ok((at, name))
}

fn explained(path: &Path, value: &str, error: &io::Error) -> Failure {
    let at = path.display();
    match error.raw_os_error() {
        Some(libc::ERANGE) => Failure::new(format!(
            "{value} needs more storage servers in different places than there are: `dgfs server ls` shows them; add some, \
             or choose a class that is less wide"
        )),
        Some(libc::ENOSPC) => {
            Failure::new("too many directories have a policy of their own, or too many classes are in use")
        }
        Some(libc::ENODATA) => Failure::new(format!("{at} has no policy of its own")),
        Some(libc::EOPNOTSUPP) => Failure::new(format!("{at} is not on a DGFS mount")),
        _ => Failure::new(format!("{at}: {error}")),
    }
}
