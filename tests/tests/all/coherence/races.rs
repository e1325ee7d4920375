//! Two mounts at once at the same name: one wins.

use std::fs::{self, File};
use std::io::ErrorKind;

use super::{Trio, at_once, names, rounds};

#[test]
fn of_two_mounts_at_one_name_exactly_one_wins() {
    let trio = Trio::new();
    trio.stirred("d", |a, b| {
        fs::write(a.join("kept"), b"kept").unwrap();
        for round in 0..rounds(60) {
            println!("round {round}");
            let (one, other) =
                at_once(|| File::create_new(a.join("x")).map(drop), || File::create_new(b.join("x")).map(drop));
            assert!(one.is_ok() != other.is_ok(), "O_EXCL: {one:?} {other:?}");
            assert_eq!(one.and(other).unwrap_err().kind(), ErrorKind::AlreadyExists);
            let (one, other) = at_once(|| fs::remove_file(a.join("x")), || fs::remove_file(b.join("x")));
            assert!(one.is_ok() != other.is_ok(), "unlink: {one:?} {other:?}");
            assert_eq!(one.and(other).unwrap_err().kind(), ErrorKind::NotFound);
            let (one, other) = at_once(|| fs::create_dir(a.join("x")), || fs::create_dir(b.join("x")));
            assert!(one.is_ok() != other.is_ok(), "mkdir: {one:?} {other:?}");
            let (one, other) = at_once(|| fs::remove_dir(a.join("x")), || fs::remove_dir(b.join("x")));
            assert!(one.is_ok() != other.is_ok(), "rmdir: {one:?} {other:?}");
            let link = |directory: &std::path::Path| fs::hard_link(directory.join("kept"), directory.join("x"));
            let (one, other) = at_once(|| link(a), || link(b));
            assert!(one.is_ok() != other.is_ok(), "link: {one:?} {other:?}");
            let (one, other) =
                at_once(|| fs::rename(a.join("x"), a.join("of-a")), || fs::rename(b.join("x"), b.join("of-b")));
            // `x` is another name of `kept`; whoever renames it second finds it gone.
            assert!(one.is_ok() != other.is_ok(), "rename: {one:?} {other:?}");
            let won = if one.is_ok() { "of-a" } else { "of-b" };
            assert_eq!((names(a), names(b)), (vec!["kept".to_owned(), won.to_owned()], names(a)));
            fs::remove_file(a.join(won)).unwrap();
        }
    });
}
