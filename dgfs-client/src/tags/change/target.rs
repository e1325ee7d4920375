//! Which inode a symlink's target means, when the link is made below `.tags`.
//!
//! Never leaves the volume: a path that leads out is `CrossDevice`. A target is read as the kernel would read it from where the
//! link is to stand; where that leads to nothing, from `.tags` and then from the directory that has the `.tags`, because that is
//! where people type it: `cd D; ln -s f .tags/a/`.

use std::collections::VecDeque;
use std::sync::Arc;

use dgfs_proto::attr::FileKind;
use dgfs_proto::ids::Ino;
use dgfs_proto::name::Name;
use dgfs_proto::permission::Wanted;
use dgfs_proto::status::Status;

use crate::tags::lookup::View;
use crate::tags::nodes::Node;
use crate::tags::path::Spot;

/// Components walked for one target, those of links in it included.
const STEPS_MAX: usize = 4096;
/// Links followed in one target, as Linux does (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// Where a walk is.
#[derive(Clone)]
enum At {
    Real(Ino),
    Virtual(Arc<Spot>),
}

impl View<'_> {
    /// The inode that `target` means in a link that is made at `link`.
    pub(crate) async fn resolve(&self, link: &Arc<Spot>, target: &[u8]) -> Result<Ino, Status> {
        if target.starts_with(b"/") {
            let inside = self.inside(target).ok_or(Status::CrossDevice)?;
            return self.walk(At::Real(Ino::ROOT), inside).await;
        }
        let refused = match self.walk(At::Virtual(Arc::clone(link)), target).await {
            // Among tags the target may be no component at all.
            Err(Status::Invalid) => Status::NotFound,
            Err(status @ (Status::NotFound | Status::NotDirectory)) => status,
            found => return found,
        };
        let top = Arc::new(Spot::root(link.scope));
        for start in [At::Virtual(top), At::Real(link.scope)] {
            match self.walk(start, target).await {
                Err(Status::NotFound | Status::NotDirectory | Status::Invalid | Status::CrossDevice) => {}
                found => return found,
            }
        }
        Err(refused)
    }

    /// The inode at a path of the volume, from a directory of it; absolute ones begin with the mount point.
    pub(crate) async fn resolve_from(&self, directory: Ino, path: &[u8]) -> Result<Ino, Status> {
        match path.strip_prefix(b"/") {
            Some(_) => self.walk(At::Real(Ino::ROOT), self.inside(path).ok_or(Status::CrossDevice)?).await,
            None => self.walk(At::Real(directory), path).await,
        }
    }

    /// An absolute path's part inside the mount.
    fn inside<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let point = self.core.config.client.mount_point.trim_end_matches('/').as_bytes();
        let inside = path.strip_prefix(point).filter(|_| !point.is_empty())?;
        (inside.is_empty() || inside.starts_with(b"/")).then_some(inside)
    }

    async fn walk(&self, start: At, path: &[u8]) -> Result<Ino, Status> {
        let mut at = start;
        let mut left: VecDeque<Vec<u8>> = components(path).collect();
        let (mut steps, mut links) = (0, 0);
        while let Some(component) = left.pop_front() {
            steps += 1;
            if steps > STEPS_MAX {
                return Err(Status::NameTooLong);
            }
            at = match (at, component.as_slice()) {
                (at, b".") => at,
                (At::Virtual(spot), b"..") => up(&spot),
                (At::Real(ino), b"..") => At::Real(self.above(ino).await?),
                (At::Virtual(spot), name) => self.step_virtual(spot, name).await?,
                (At::Real(ino), name) => match self.step_real(ino, name).await? {
                    Stepped::At(at) => at,
                    Stepped::Link(directory, target) if !left.is_empty() => {
                        links += 1;
                        if links > LINKS_MAX || target.starts_with(b"/") {
                            return Err(if links > LINKS_MAX { Status::Invalid } else { Status::CrossDevice });
                        }
                        components(&target).rev().for_each(|component| left.push_front(component));
                        At::Real(directory)
                    }
                    // The last one itself: a link can be tagged.
                    Stepped::Link(directory, _) => At::Real(self.child(directory, name).await?),
                },
            };
        }
        match at {
            At::Real(ino) => Ok(ino),
            At::Virtual(_) => Err(Status::NotFound),
        }
    }

    async fn step_virtual(&self, spot: Arc<Spot>, name: &[u8]) -> Result<At, Status> {
        match self.lookup(&Node::Directory(spot), &Name::new(name)?).await? {
            Node::Directory(spot) => Ok(At::Virtual(spot)),
            Node::Entry { ino, .. } => Ok(At::Real(ino)),
            Node::Refinement { .. } | Node::Saved { .. } | Node::File { .. } => Err(Status::NotFound),
        }
    }

    async fn step_real(&self, directory: Ino, name: &[u8]) -> Result<Stepped, Status> {
        let attr = self.core.getattr(directory).await?.attr;
        if attr.kind != FileKind::Directory {
            return Err(Status::NotDirectory);
        }
        // The kernel does not walk this path: what it would check is checked here.
        self.check_permits(&attr, self.viewer, Wanted::SEARCH).await?;
        let name = Name::new(name)?;
        if self.core.is_tags_name(&name) {
            return Ok(Stepped::At(At::Virtual(Arc::new(Spot::root(directory)))));
        }
        let found = self.core.lookup(directory, name).await?.attr.ok_or(Status::NotFound)?;
        if found.kind == FileKind::Symlink {
            return Ok(Stepped::Link(directory, self.core.readlink(found.ino).await?));
        }
        Ok(Stepped::At(At::Real(found.ino)))
    }

    async fn child(&self, directory: Ino, name: &[u8]) -> Result<Ino, Status> {
        let found = self.core.lookup(directory, Name::new(name)?).await?;
        found.attr.map(|attr| attr.ino).ok_or(Status::NotFound)
    }

    async fn above(&self, ino: Ino) -> Result<Ino, Status> {
        let attr = self.core.getattr(ino).await?.attr;
        match attr.kind {
            FileKind::Directory if ino == Ino::ROOT => Err(Status::CrossDevice),
            FileKind::Directory => Ok(attr.parent),
            _ => Err(Status::NotDirectory),
        }
    }
}

enum Stepped {
    At(At),
    Link(Ino, Vec<u8>),
}

fn up(spot: &Spot) -> At {
    let Some((_, rest)) = spot.components.split_last() else { return At::Real(spot.scope) };
    let above = rest.iter().try_fold(Spot::root(spot.scope), |spot, component| spot.child(component));
    // They were read once already.
    At::Virtual(Arc::new(above.unwrap_or(Spot::root(spot.scope))))
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty()).map(<[u8]>::to_vec)
}
