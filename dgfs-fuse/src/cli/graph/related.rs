//! `dgfs related`, `similar` and `versions`: what a file has to do with.
//!
//! Never computes a relation: the graph has them. Paths below the current directory are shown from there, others from the root.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use dgfs_proto::limits::GRAPH_PAGE_MAX;

use crate::cli::args::graph::RelatedArgs;
use crate::cli::graph::ask::{Ask, Mount};
use crate::cli::graph::output::{Output, bytes, text};
use crate::cli::graph::places::{Links, Named};
use crate::cli::graph::{Ended, Outcome, refused};
use crate::mount::table::{Mounted, mounts};

/// Runs the command; `only` is the one relation that is shown.
pub(crate) fn run(args: &RelatedArgs, only: Option<&str>, out: &mut Output<'_>) -> Ended {
    let links = Links::new(args.no_dereference);
    let named = Named::new(&args.file, links)?;
    let root = mount_root(&args.file, links)?;
    let here = std::env::current_dir().ok();
    let show = Show { only, limit: args.limit, root: &root, here: here.as_deref(), null: args.null, json: args.json };
    // Of one relation so many are to be shown, whatever others come before them.
    let limit = if only.is_some() { GRAPH_PAGE_MAX } else { args.limit };
    show.run(&Mount::at(&root)?, &json!({ "related": named.ino, "limit": limit }), out)
}

/// Where the mount of `path` begins: from there every path of the volume is seen.
pub(crate) fn mount_root(path: &Path, links: Links) -> Result<PathBuf, crate::cli::Failure> {
    let failed = |error| refused(format!("{}: {error}", path.display()));
    let path = match links {
        Links::Followed => path.canonicalize().map_err(failed)?,
        Links::Themselves => std::path::absolute(path).map_err(failed)?,
    };
    let all = mounts().map_err(refused)?;
    root_among(&all, &path).ok_or_else(|| refused(format!("{} is not on a DGFS mount", path.display())))
}

/// The nearest mount above `path`, if it is one of ours. Of several at one place the last one hides the others.
fn root_among(all: &[Mounted], path: &Path) -> Option<PathBuf> {
    let above = all.iter().filter(|mount| path.starts_with(&mount.mount_point));
    let nearest = above.max_by_key(|mount| mount.mount_point.as_os_str().len())?;
    nearest.is_dgfs().then(|| nearest.mount_point.clone())
}

/// How relations are shown.
struct Show<'a> {
    only: Option<&'a str>,
    limit: u32,
    root: &'a Path,
    here: Option<&'a Path>,
    null: bool,
    json: bool,
}

impl Show<'_> {
    fn run(&self, mount: &impl Ask, request: &Value, out: &mut Output<'_>) -> Ended {
        let mut shown = 0;
        mount.ask(request, &mut |line| {
            let relation = text(&line, "relation");
            if self.only.is_some_and(|only| only != relation) || shown >= self.limit {
                return Ok(());
            }
            shown += 1;
            let path = bytes(&line, "path").map(|path| self.seen_from_here(&path));
            if self.json {
                return out.json(&line);
            }
            if self.null {
                return path.map_or(Ok(()), |path| out.zero(&path));
            }
            let confidence = line.get("confidence").and_then(Value::as_f64).unwrap_or(0.0) * 100.0;
            let before = match self.only {
                Some(_) => format!("{confidence:>5.1} %  "),
                None => format!("{relation:<12} {confidence:>5.1} %  {:<8}  ", text(&line, "source")),
            };
            // What may be seen and has no path from here is named by its id.
            out.named(&before, &path.unwrap_or_else(|| text(&line, "id").as_bytes().to_vec()))
        })?;
        Ok(Outcome::of(shown > 0))
    }

    /// A path of the volume as the shell of the user would name it.
    fn seen_from_here(&self, path: &[u8]) -> Vec<u8> {
        let whole = self.root.join(std::ffi::OsStr::from_bytes(path));
        let below = self.here.and_then(|here| whole.strip_prefix(here).ok());
        below.filter(|below| !below.as_os_str().is_empty()).unwrap_or(&whole).as_os_str().as_bytes().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde_json::{Value, json};

    use super::{Show, root_among};
    use crate::cli::graph::Outcome;
    use crate::cli::graph::ask::testing::Fake;
    use crate::cli::graph::output::testing::printed;
    use crate::mount::table::Mounted;

    fn mounted(mount_point: &str, kind: &str) -> Mounted {
        let (device, source) = ("0:1".to_owned(), "x".to_owned());
        Mounted { device, mount_point: mount_point.into(), kind: kind.to_owned(), source }
    }

    #[test]
    fn the_nearest_mount_must_be_one_of_ours() {
        let all = [mounted("/", "ext4"), mounted("/m", "fuse.dgfs"), mounted("/m/in", "tmpfs")];
        assert_eq!(root_among(&all, Path::new("/m/a/b")), Some(PathBuf::from("/m")));
        assert_eq!(root_among(&all, Path::new("/m/in/b")), None);
        assert_eq!(root_among(&all, Path::new("/mm")), None);
    }

    fn related() -> (Value, Vec<Value>) {
        let line = |relation: &str, path: &str| json!({ "relation": relation, "ino": 5, "id": "~5", "source": "user", "path": path, "confidence": 0.25 });
        let mut hidden = line("versions", "");
        hidden.as_object_mut().unwrap().remove("path");
        (json!({ "related": 7 }), vec![line("links-to", "a/b"), line("similar", "c"), hidden])
    }

    #[test]
    fn one_relation_or_all_are_shown_with_how_strong_they_are() {
        let show = |only, null, limit| {
            let (request, answer) = related();
            let fake = Fake::new([(request.clone(), answer)]);
            let here = Some(Path::new("/m/a"));
            let show = Show { only, limit, root: Path::new("/m"), here, null, json: false };
            printed(|out| show.run(&fake, &request, out))
        };
        let (text, _) = show(None, false, 9);
        assert_eq!(
            text,
            "links-to      25.0 %  user      b\nsimilar       25.0 %  user      /m/c\nversions      25.0 %  user      ~5\n"
        );
        assert_eq!(show(Some("similar"), false, 1).0, " 25.0 %  /m/c\n");
        assert_eq!(show(None, true, 2).0, "b\0/m/c\0");
        assert_eq!(show(Some("derived"), false, 9).1.unwrap(), Outcome::Nothing);
    }
}
