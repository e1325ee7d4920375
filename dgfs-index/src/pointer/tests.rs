//! What targets mean, and what means nothing here.

use super::{Place, Pointer, Start, keys_of};

fn shown(place: &Place) -> String {
    let path: Vec<String> = place.path.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    match place.start {
        Start::Root => format!("/{}", path.join("/")),
        Start::Up(up) => format!("{}{}", "^".repeat(up), path.join("/")),
    }
}

#[test]
fn paths_and_urls() {
    for (target, places) in [
        ("b.html", vec!["b.html"]),
        ("./a/../b.html#top", vec!["./a/../b.html", "./a/../b.html#top"]),
        ("/a/b", vec!["/a/b"]),
        ("a%20b.txt?x=1", vec!["a b.txt", "a%20b.txt?x=1"]),
        ("100%.txt", vec!["100%.txt"]),
        ("file:///a/b%C3%A9", vec!["/a/bé", "/a/b%C3%A9"]),
        ("file://host/a", vec!["/a"]),
        ("dir/", vec!["dir"]),
        ("http://example.org/a", vec![]),
        ("mailto:a@b", vec![]),
        ("//example.org/a", vec![]),
        ("#top", vec![]),
        ("", vec![]),
        ("C:\\a.txt", vec![]),
        ("a%2Fb", vec!["a%2Fb"]),
    ] {
        let found: Vec<String> = Pointer::path(target)
            .map(|pointer| pointer.places(b"x.html").iter().map(shown).collect())
            .unwrap_or_default();
        assert_eq!(found, places, "{target}");
    }
    assert_eq!(Pointer::path(".."), None, "nothing that it could be found by");
    assert_eq!(Pointer::path(&"x".repeat(2000)), None);
    assert!(Pointer::path(&"a/".repeat(200)).is_none(), "deeper than any path that is looked at");
}

#[test]
fn imports_by_language() {
    for (file, target, first) in [
        ("main.rs", "x", vec!["x.rs", "x/mod.rs"]),
        ("graph.rs", "x", vec!["graph/x.rs", "graph/x/mod.rs"]),
        ("graph.rs", "super::x", vec!["x.rs", "x/mod.rs"]),
        ("mod.rs", "super::x", vec!["^x.rs", "^x/mod.rs"]),
        ("graph.rs", "crate::a::B", vec!["a/B.rs", "a/B/mod.rs", "^a/B.rs"]),
        ("a.py", "b.c", vec!["b/c.py", "b/c/__init__.py", "^b/c.py"]),
        ("a.py", ".c", vec!["c.py", "c/__init__.py"]),
        ("a.py", "..c", vec!["^c.py", "^c/__init__.py"]),
        ("a.c", "x/y.h", vec!["x/y.h", "include/x/y.h", "^x/y.h"]),
        ("a.ts", "./b.js", vec!["./b.js", "./b.js.js"]),
        ("a.ts", "react", vec![]),
        ("a.rb", "./b", vec!["./b", "./b.rb"]),
        ("Makefile", "x", vec!["x"]),
    ] {
        let places: Vec<String> = Pointer::import(target)
            .unwrap()
            .places(file.as_bytes())
            .iter()
            .take(first.len().max(1))
            .map(shown)
            .collect();
        assert_eq!(places, first, "{target} in {file}");
    }
    assert!(Pointer::import("./b.js").unwrap().places(b"a.ts").iter().any(|place| shown(place) == "./b.ts"));
    assert!(Pointer::import("..........").is_none());
    assert!(Pointer::import(&"super::".repeat(100)).is_none());
}

/// From both ends the same names are asked for: otherwise `linked-from` would not be the converse of `links-to`.
#[test]
fn whatever_place_is_meant_its_keys_are_known() {
    for (file, pointer) in [
        ("a.html", Pointer::path("x/y%20z.png#a")),
        ("a.rs", Pointer::import("crate::a::b::C")),
        ("a.rs", Pointer::import("x")),
        ("a.py", Pointer::import("a.b")),
        ("a.py", Pointer::import("..b")),
        ("a.c", Pointer::import("a/b.h")),
        ("a.ts", Pointer::import("./a/b.js")),
        ("a.ts", Pointer::import("../b")),
        ("a.tex", Pointer::import("chapters/one")),
    ] {
        let pointer = pointer.unwrap();
        let keys = pointer.keys();
        for place in pointer.places(file.as_bytes()) {
            let (last, before) = place.path.split_last().unwrap();
            let found = keys_of(last, before.last().map_or(&[], Vec::as_slice));
            assert!(!keys.is_disjoint(&found), "{}: {found:?} of {keys:?}", shown(&place));
        }
    }
}
