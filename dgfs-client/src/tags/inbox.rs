//! Files that are made in a tag's directory: they are made in the inbox, a directory of the volume, and tagged.
//!
//! Never replaces a file: where the inbox has one of that name, the new one gets a number. Always: what could not be tagged is
//! taken away again, so that whoever asked finds either a tagged file or none.

use dgfs_proto::attr::FileKind;
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::NAME_BYTES_MAX;
use dgfs_proto::meta::{RemoveKind, TagEdit};
use dgfs_proto::name::Name;
use dgfs_proto::permission::Wanted;
use dgfs_proto::status::Status;

use crate::tags::lookup::View;
use crate::tags::nodes::Node;
use crate::vfs::{Create, Opened, Seen};

/// Files of one name that an inbox takes: `x`, `x (2)` and so on.
const SAME_NAME_MAX: u32 = 1000;

impl View<'_> {
    /// Makes and opens a file in the inbox, and tags it with all tags of `parent`; that of `request` is not looked at.
    ///
    /// # Errors
    /// `NotPermitted` where there is no inbox, or `parent` is no directory of tags; `NotFound` for an inbox that is not there;
    /// else those of making a file there and of tagging.
    pub(crate) async fn make_in_inbox(&self, parent: &Node, request: Create) -> Result<(Seen, Opened), Status> {
        let Node::Directory(at) = parent else { return Err(Status::NotDirectory) };
        let inbox = self.core.config.inbox.as_deref().ok_or(Status::NotPermitted)?;
        let tags = at.tags().map_err(|_| Status::NotPermitted)?;
        let directory = self.inbox(inbox).await?;
        let (name, made) = self.make_numbered(directory, request).await?;
        let ino = made.0.attr.ino;
        match self.change_tags(TagEdit { inos: vec![ino], add: tags, ..TagEdit::default() }).await {
            Ok(()) => Ok(made),
            Err(status) => {
                // Nobody has seen it. Whether it can be taken away or not, the answer is why it is not tagged.
                self.core.release(made.1.handle, None).await;
                let _ = self.core.remove(directory, name, RemoveKind::Unlink).await;
                Err(status)
            }
        }
    }

    /// The inbox, if the viewer may make files there: the kernel does not walk this path, so what it would check is checked here.
    async fn inbox(&self, path: &[u8]) -> Result<Ino, Status> {
        let ino = self.resolve_from(Ino::ROOT, path).await?;
        let attr = self.core.getattr(ino).await?.attr;
        if attr.kind != FileKind::Directory {
            return Err(Status::NotDirectory);
        }
        self.check_permits(&attr, self.viewer, Wanted::WRITE.and(Wanted::SEARCH)).await?;
        Ok(ino)
    }

    async fn make_numbered(&self, directory: Ino, request: Create) -> Result<(Name, (Seen, Opened)), Status> {
        for number in 1..=SAME_NAME_MAX {
            let name = numbered(&request.name, number)?;
            let create = Create { parent: directory, name: name.clone(), exclusive: true, ..request.clone() };
            match self.core.create(create).await {
                Err(Status::Exists) => {}
                made => return made.map(|made| (name, made)),
            }
        }
        Err(Status::Exists)
    }
}

/// `stem (NUMBER).ext`; the first has the name as it is.
fn numbered(name: &Name, number: u32) -> Result<Name, Status> {
    if number == 1 {
        return Ok(name.clone());
    }
    let bytes = name.as_bytes();
    // A leading dot begins a hidden name, no extension.
    let dot = bytes.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0).unwrap_or(bytes.len());
    let (stem, extension) = bytes.split_at(dot);
    let number = format!(" ({number})");
    let room = NAME_BYTES_MAX.saturating_sub(number.len() + extension.len());
    let kept = whole_characters(stem, room);
    Name::new(&[kept, number.as_bytes(), extension].concat())
}

/// At most `room` bytes, without a part of a UTF-8 character at the end.
fn whole_characters(bytes: &[u8], room: usize) -> &[u8] {
    let is_inside = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let mut end = room.min(bytes.len());
    while end > 0 && is_inside(end) {
        end -= 1;
    }
    bytes.get(..end).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::numbered;
    use dgfs_proto::name::Name;

    #[test]
    fn numbers_stand_before_the_extension_and_names_stay_in_bounds() {
        let rows = [
            ("a.txt", 1, "a.txt"),
            ("a.txt", 2, "a (2).txt"),
            ("a.tar.gz", 3, "a.tar (3).gz"),
            (".profile", 2, ".profile (2)"),
            ("plain", 12, "plain (12)"),
        ];
        for (name, number, expected) in rows {
            let name = Name::new(name.as_bytes()).unwrap();
            assert_eq!(numbered(&name, number).unwrap(), Name::new(expected.as_bytes()).unwrap());
        }
        let long = Name::new("ä".repeat(127).as_bytes()).unwrap();
        let cut = numbered(&long, 2).unwrap();
        assert!(cut.as_bytes().len() <= 255 && std::str::from_utf8(cut.as_bytes()).is_ok());
    }
}
