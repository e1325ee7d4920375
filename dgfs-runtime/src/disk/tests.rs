//! Promises of files and locks.

use std::fs;

use crate::disk::{
    DirectoryLock, LockError, create_dir_durably, disk_space, mode_of, write_atomically, write_atomically_with_mode,
};
use crate::quic::tests::support::TestDirectory;

#[test]
fn a_file_is_replaced_whole_and_leaves_no_temporary() {
    let directory = TestDirectory::new();
    let path = directory.0.join("state");
    write_atomically(&path, b"old and long").unwrap();
    write_atomically(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1);
}

#[test]
fn a_temporary_left_by_a_crash_does_not_lend_its_mode_to_a_key() {
    let directory = TestDirectory::new();
    let path = directory.0.join("key");
    fs::write(directory.0.join("key.tmp"), b"half").unwrap();
    write_atomically_with_mode(&path, b"secret", 0o600).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"secret");
    assert_eq!(mode_of(&path).unwrap(), 0o600);
}

#[test]
fn a_directory_path_is_no_file_to_write() {
    assert!(write_atomically(std::path::Path::new("/"), b"x").is_err());
}

#[test]
fn a_second_lock_is_refused_with_the_name_of_the_holder() {
    let directory = TestDirectory::new();
    let lock = DirectoryLock::acquire(&directory.0, "dgfs-stored 3").unwrap();
    let refused = DirectoryLock::acquire(&directory.0, "dgfs-stored 4").unwrap_err();
    assert!(matches!(refused, LockError::Held { .. }));
    let sentence = refused.to_string();
    assert!(sentence.contains(&format!("dgfs-stored 3 (process {})", std::process::id())), "{sentence}");
    drop(lock);
    DirectoryLock::acquire(&directory.0, "dgfs-stored 4").unwrap();
}

#[test]
fn a_lock_in_a_missing_directory_is_refused() {
    let directory = TestDirectory::new();
    let refused = DirectoryLock::acquire(&directory.0.join("none"), "x").unwrap_err();
    assert!(matches!(refused, LockError::Io { .. }));
}

#[test]
fn parents_are_made_and_making_them_again_is_fine() {
    let directory = TestDirectory::new();
    let deep = directory.0.join("a/b/c");
    create_dir_durably(&deep).unwrap();
    create_dir_durably(&deep).unwrap();
    assert!(deep.is_dir());
    assert_eq!(mode_of(&deep).unwrap(), 0o700);
}

#[test]
fn a_file_in_the_way_of_a_directory_is_an_error() {
    let directory = TestDirectory::new();
    fs::write(directory.0.join("a"), b"x").unwrap();
    assert!(create_dir_durably(&directory.0.join("a")).is_err());
}

#[test]
fn disk_space_is_known_and_free_is_within_capacity() {
    let directory = TestDirectory::new();
    let space = disk_space(&directory.0).unwrap();
    assert!(space.capacity_bytes > 0 && space.free_bytes <= space.capacity_bytes);
    assert!(disk_space(&directory.0.join("none")).is_err());
}
