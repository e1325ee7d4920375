//! Looking: what names lead to, what is listed, and that nothing comes of it.

use std::sync::atomic::Ordering;

use dgfs_proto::attr::FileKind;
use dgfs_proto::ids::Ino;
use dgfs_proto::query::entry::ino_id;
use dgfs_proto::status::Status;

use super::{ROOT, USER, World, name};
use crate::tags::is_virtual;

async fn world() -> World {
    let world = World::new().await;
    world.truth.file("photos/a.jpg", &["beach", "year=2020"]);
    world.truth.file("photos/b.jpg", &["beach", "sun", "year=2021"]);
    world.truth.file("docs/report.txt", &["office", "place:cn:hefei"]);
    world.truth.file("docs/plain.txt", &[]);
    world
}

#[tokio::test]
async fn the_top_lists_tags_once_keys_and_further_ways() {
    let world = world().await;
    let listed = world.ls(".tags", ROOT).await.unwrap();
    let further = ["@all/", "@counts", "@date/", "@recent/", "@saved/", "@untagged/"];
    let tags = ["beach/", "office/", "place/", "sun/", "year=/"];
    assert_eq!(listed, [&further[..], &tags[..]].concat());
    assert_eq!(
        world.ls("docs/.tags", ROOT).await.unwrap(),
        [&further[..], &tags[..]].concat(),
        "made tags are everywhere"
    );
}

#[tokio::test]
async fn every_listed_name_leads_to_what_it_is_listed_as() {
    let world = world().await;
    for (tag, path) in [("50%", "x/50%"), ("-dash", "x/dash"), ("@at", "x/at"), ("a.b", "x/a.b"), ("k=a,b", "x/k")] {
        if let Ok(tag) = dgfs_proto::tag::Tag::parse(tag) {
            world.truth.file(path, &[tag.as_str()]);
        }
    }
    world.truth.volume.lock().saved.insert("lost & found".to_owned(), "beach -sun".to_owned());
    world.truth.volume.lock().saved.insert("either".to_owned(), "@untagged or beach".to_owned());
    let mut left = vec![".tags".to_owned()];
    let mut seen = 0;
    while let Some(path) = left.pop() {
        for entry in world.entries(&path, ROOT).await.unwrap() {
            let below = format!("{path}/{}", String::from_utf8(entry.name).unwrap());
            let found = world.at(&below, ROOT).await;
            let found = found.unwrap_or_else(|status| panic!("{below} is listed, but {status}"));
            assert_eq!((found.ino, found.kind), (entry.ino, entry.kind), "{below}");
            seen += 1;
            assert!(seen < 1000, "the namespace has an end");
            if entry.kind == FileKind::Directory {
                left.push(below);
            }
        }
    }
    assert!(seen > 30, "{seen}");
}

#[tokio::test]
async fn a_query_lists_what_fits_and_leads_to_it() {
    let world = world().await;
    let rows: [(&str, &[&str]); 12] = [
        (".tags/beach", &["@counts", "@refine/", "a.jpg@", "b.jpg@"]),
        (".tags/beach/sun", &["@counts", "@refine/", "b.jpg@"]),
        (".tags/beach/-sun", &["@counts", "@refine/", "a.jpg@"]),
        (".tags/beach/not:sun", &["@counts", "@refine/", "a.jpg@"]),
        (".tags/sun,office", &["@counts", "@refine/", "b.jpg@", "report.txt@"]),
        (".tags/place", &["@counts", "@refine/", "report.txt@"]),
        (".tags/place:cn", &["@counts", "@refine/", "report.txt@"]),
        (".tags/year=2020", &["@counts", "@refine/", "a.jpg@"]),
        (".tags/year=", &["2020/", "2021/"]),
        (".tags/year=/2021", &["@counts", "@refine/", "b.jpg@"]),
        (".tags/beach/office", &["@counts", "@refine/"]),
        ("docs/.tags/beach", &["@counts", "@refine/"]),
    ];
    for (path, expected) in rows {
        assert_eq!(world.ls(path, ROOT).await.as_deref(), Ok(expected.map_owned().as_slice()), "{path}");
    }
    let targets = [
        (".tags/beach/a.jpg", "../../photos/a.jpg"),
        (".tags/beach/-sun/a.jpg", "../../../photos/a.jpg"),
        ("photos/.tags/beach/a.jpg", "../../a.jpg"),
        (".tags/beach/a~3.jpg", "../../photos/a.jpg"),
        (".tags/beach/@refine/sun", "../sun"),
        (".tags/beach/@refine/year=2020", "../year=2020"),
    ];
    for (path, expected) in targets {
        assert_eq!(world.readlink(path).await.as_deref(), Ok(expected), "{path}");
        let ino = world.at(path, ROOT).await.unwrap().ino;
        let attr = world.tags().getattr(ino, ROOT).await.unwrap();
        assert_eq!((attr.kind, attr.mode, attr.size), (FileKind::Symlink, 0o777, expected.len() as u64), "{path}");
    }
}

trait MapOwned {
    fn map_owned(&self) -> Vec<String>;
}

impl MapOwned for &[&str] {
    fn map_owned(&self) -> Vec<String> {
        self.iter().map(|text| (*text).to_owned()).collect()
    }
}

#[tokio::test]
async fn what_is_not_there_is_refused_with_its_reason() {
    let world = world().await;
    let deep = format!(".tags{}", "/beach".repeat(33));
    let wide = format!(".tags/{}", vec!["a"; 65].join(","));
    let rows = [
        (".tags/nobody", Status::NotFound),
        (".tags/beach/nobody", Status::NotFound),
        (".tags/beach/.hidden", Status::NotFound),
        (".tags/.tags", Status::NotFound),
        (".tags/beach/.tags", Status::NotFound),
        (".tags/a,,b", Status::Invalid),
        (".tags/@nothing", Status::Invalid),
        (".tags/size=big", Status::Invalid),
        (".tags/%zz", Status::Invalid),
        (".tags/beach/@refine/office", Status::NotFound),
        (".tags/@of/nothing", Status::NotFound),
        (".tags/@saved/nothing", Status::NotFound),
        (".tags/@file/~zzz", Status::NotFound),
        (".tags/beach/a.jpg/x", Status::NotDirectory),
        (&deep, Status::XattrTooBig),
        (&wide, Status::XattrTooBig),
    ];
    for (path, expected) in rows {
        assert_eq!(world.at(path, ROOT).await.map(|attr| attr.ino), Err(expected), "{path}");
    }
}

#[tokio::test]
async fn of_several_files_of_one_name_each_is_found() {
    let world = World::new().await;
    let first = world.truth.file("one/f.txt", &["t"]);
    let second = world.truth.file("two/f.txt", &["t"]);
    let with_id = format!("f~{}.txt", ino_id(second));
    assert_eq!(world.ls(".tags/t", ROOT).await.unwrap(), ["@counts", "@refine/", "f.txt@", &format!("{with_id}@")]);
    assert_eq!(world.readlink(".tags/t/f.txt").await.unwrap(), "../../one/f.txt");
    assert_eq!(world.readlink(&format!(".tags/t/{with_id}")).await.unwrap(), "../../two/f.txt");
    let unique = format!(".tags/t/f~{}.txt", ino_id(first));
    assert_eq!(world.readlink(&unique).await.unwrap(), "../../one/f.txt");
}

#[tokio::test]
async fn an_entry_comes_before_a_tag_of_its_name_and_refinement_still_reaches_the_tag() {
    let world = World::new().await;
    world.truth.file("sun", &["beach"]);
    world.truth.file("other", &["beach", "sun"]);
    assert_eq!(world.at(".tags/beach/sun", ROOT).await.unwrap().kind, FileKind::Symlink);
    assert_eq!(world.readlink(".tags/beach/@refine/sun").await.unwrap(), "../sun,sun");
    assert_eq!(world.ls(".tags/beach/sun,sun", ROOT).await.unwrap(), ["@counts", "@refine/", "other@"]);
    assert_eq!(world.readlink(".tags/sun/@refine/beach").await.unwrap(), "../beach");
}

#[tokio::test]
async fn answers_are_read_and_have_their_length() {
    let world = world().await;
    assert_eq!(world.cat(".tags/sun/@counts").await.unwrap(), "1\tbeach\n1\tsun\n1\tyear=2021\n");
    let explained = world.cat(".tags/sun/@explain").await.unwrap();
    assert!(explained.starts_with("looks at everything for sun\nanswered from the change log up to "), "{explained}");
    let ino = world.at(".tags/sun/@counts", ROOT).await.unwrap().ino;
    let attr = world.tags().getattr(ino, ROOT).await.unwrap();
    assert_eq!((attr.size, attr.mode, attr.kind), (26, 0o444, FileKind::File));
    assert_eq!(
        world.tags().getattr(world.at(".tags/sun", ROOT).await.unwrap().ino, ROOT).await.unwrap().mtime.secs,
        77
    );
}

/// Time stands still where answers are kept for some of it.
#[tokio::test(start_paused = true)]
async fn each_component_costs_one_question_and_is_then_known() {
    let world = world().await;
    let asked = || world.truth.asked.load(Ordering::Acquire);
    let paths = [
        (".tags", 0),
        (".tags/beach", 1),
        (".tags/beach", 0),
        (".tags/beach/a.jpg", 1),
        (".tags/beach/sun", 1),
        (".tags/beach/sun/year=2021", 1),
        (".tags/beach/sun/year=2021", 0),
        (".tags/beach/a.jpg", 0),
    ];
    for (path, questions) in paths {
        let before = asked();
        let _ = world.at(path, ROOT).await.unwrap();
        assert_eq!(asked() - before, questions, "{path}");
    }
    // What is refused is asked for anew, and so is what others ask.
    for (path, who) in [(".tags/beach/nobody", ROOT), (".tags/beach/nobody", ROOT), (".tags/beach", USER)] {
        let before = asked();
        let _ = world.at(path, who).await;
        assert_eq!(asked() - before, 1, "{path}");
    }
}

/// What ls(1) asks the kernel for: `stat` of the directory, open, a listing to its end; with `-l` also `stat` and the target of each
/// entry.
async fn ls_l(world: &World, path: &str) -> usize {
    // Before the kernel goes through a directory it looks at its rights.
    for (end, _) in path.match_indices('/').skip(1).chain([(path.len(), "")]) {
        let directory = world.at(&path[..end], ROOT).await.unwrap().ino;
        let _ = world.tags().getattr(directory, ROOT).await.unwrap();
    }
    let entries = world.entries(path, ROOT).await.unwrap();
    let links = entries.iter().filter(|entry| entry.kind == FileKind::Symlink);
    let mut count = 0;
    for entry in links {
        let path = format!("{path}/{}", String::from_utf8_lossy(&entry.name));
        let ino = world.at(&path, ROOT).await.unwrap().ino;
        let attr = world.tags().getattr(ino, ROOT).await.unwrap();
        assert_eq!(world.readlink(&path).await.unwrap().len() as u64, attr.size);
        count += 1;
    }
    count
}

#[tokio::test(start_paused = true)]
async fn a_listing_with_all_attributes_costs_a_question_for_each_page_and_for_each_64_targets() {
    let world = World::new().await;
    for number in 0..500 {
        world.truth.file(&format!("d{}/f{number}", number % 7), &["t", "u"]);
    }
    let asked = || world.truth.asked.load(Ordering::Acquire);
    let before = asked();
    assert_eq!(ls_l(&world, ".tags/t/u").await, 500);
    // Two components; when anything changed last, once; two pages; the targets.
    assert_eq!(asked() - before, 2 + 1 + 2 + 500_u64.div_ceil(64));
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_a_listing_is_asked_anew_after_any_change_of_this_mount() {
    let world = world().await;
    let asked = || world.truth.asked.load(Ordering::Acquire);
    assert_eq!(world.readlink(".tags/beach/a.jpg").await.unwrap(), "../../photos/a.jpg");
    world.rm(".tags/beach/a.jpg", ROOT).await.unwrap();
    assert_eq!(world.at(".tags/beach/a.jpg", ROOT).await.map(|_| ()), Err(Status::NotFound));
    let _ = world.at(".tags/beach/b.jpg", ROOT).await.unwrap();
    let before = asked();
    let _ = world.at(".tags/beach/b.jpg", ROOT).await.unwrap();
    assert_eq!(asked() - before, 0);
    // A change that has nothing to do with it: which ones have is not found out.
    world.mkdir(".tags/elsewhere").await.unwrap();
    let before = asked();
    let _ = world.at(".tags/beach/b.jpg", ROOT).await.unwrap();
    assert_eq!(asked() - before, 2, "every change counts");
}

#[tokio::test(start_paused = true)]
async fn what_is_known_is_asked_anew_after_a_second_and_never_kept_beside_other_mounts() {
    let world = world().await;
    let asked = || world.truth.asked.load(Ordering::Acquire);
    let _ = world.at(".tags/beach", ROOT).await.unwrap();
    tokio::time::advance(std::time::Duration::from_millis(1001)).await;
    let before = asked();
    let _ = world.at(".tags/beach", ROOT).await.unwrap();
    assert_eq!(asked() - before, 1, "taggers may have said something else meanwhile");
    world.tags().core.link.set_sole(false);
    for _ in 0..2 {
        let before = asked();
        let _ = world.at(".tags/beach/a.jpg", ROOT).await.unwrap();
        assert_eq!(asked() - before, 2, "another mount may have changed it");
    }
    assert_eq!(world.readlink(".tags/beach/a.jpg").await.unwrap(), "../../photos/a.jpg");
}

#[tokio::test]
async fn looking_changes_nothing_and_leaves_nothing() {
    let world = world().await;
    let paths = [".tags", ".tags/beach", ".tags/nobody", ".tags/beach/nobody", ".tags/@saved/x", ".tags/year=1900"];
    for path in paths {
        let _ = world.at(path, ROOT).await;
        let _ = world.ls(path, ROOT).await;
    }
    assert!(world.truth.volume.lock().changes.is_empty());
    assert_eq!(world.at(".tags/nobody", ROOT).await.map(|_| ()), Err(Status::NotFound));
}

#[tokio::test]
async fn what_the_kernel_forgets_is_forgotten_here() {
    let world = world().await;
    let attr = world.at(".tags/beach", ROOT).await.unwrap();
    assert!(is_virtual(attr.ino));
    world.tags().forget(attr.ino, 1);
    assert_eq!(world.tags().getattr(attr.ino, ROOT).await.map(|_| ()), Err(Status::Stale));
    let top = world.at(".tags", ROOT).await.unwrap();
    world.tags().forget(top.ino, 99);
    assert_eq!(world.tags().nodes.len(), 0);
}

#[tokio::test]
async fn nobody_sees_names_that_he_cannot_reach() {
    let world = world().await;
    let docs = world.at("docs", ROOT).await.unwrap().ino;
    world.truth.edit(docs, |docs| docs.attr.mode = 0o700);
    assert_eq!(world.ls(".tags/office", USER).await.unwrap(), ["@counts", "@refine/"]);
    assert_eq!(world.at(".tags/office/report.txt", USER).await.map(|_| ()), Err(Status::NotFound));
    assert_eq!(world.ls(".tags/office", ROOT).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_listing_goes_on_behind_its_cookie_while_entries_come_and_go() {
    let world = World::new().await;
    let inos: Vec<Ino> = (0..600).map(|number| world.truth.file(&format!("f{number}"), &["t"])).collect();
    let handle = world.tags().opendir(world.at(".tags/t", ROOT).await.unwrap().ino, ROOT).unwrap();
    let (mut cookie, mut names) = (0, Vec::new());
    loop {
        let page = world.tags().readdir(handle, cookie).await.unwrap();
        let taken = page.len().min(40);
        let Some(last) = page[..taken].last() else { break };
        cookie = last.cookie;
        for entry in page[..taken].iter().filter(|entry| entry.kind == FileKind::Symlink) {
            let name = String::from_utf8(entry.name.clone()).unwrap();
            // As `rm -r` does.
            world.rm(&format!(".tags/t/{name}"), ROOT).await.unwrap();
            names.push(name);
        }
    }
    let mut expected: Vec<String> = (0..inos.len()).map(|number| format!("f{number}")).collect();
    expected.sort();
    names.sort();
    assert_eq!(names, expected, "each once");
}

#[tokio::test]
async fn saved_queries_are_links_to_their_path() {
    let world = world().await;
    world.truth.volume.lock().saved.insert("best".to_owned(), "beach (sun or office) -place".to_owned());
    world.truth.volume.lock().saved.insert("either".to_owned(), "@untagged or sun".to_owned());
    assert_eq!(world.ls(".tags/@saved", ROOT).await.unwrap(), ["best@", "either/"]);
    assert_eq!(world.readlink(".tags/@saved/best").await.unwrap(), "../beach/sun,office/-place");
    assert!(world.ls(".tags/@saved/either", ROOT).await.unwrap().contains(&"b.jpg@".to_owned()));
}

#[tokio::test]
async fn relations_are_directories_of_an_entry() {
    let world = world().await;
    let (a, b) = (world.truth.make("a", FileKind::File), world.truth.make("b", FileKind::File));
    world.truth.edit(a, |a| a.related.push((dgfs_proto::graph::HandRelation::LinksTo, b)));
    assert!(world.ls(".tags/@of/a", ROOT).await.unwrap().contains(&"links-to/".to_owned()));
    assert_eq!(world.ls(".tags/@of/a/links-to", ROOT).await.unwrap(), ["@counts", "@refine/", "b@"]);
    let by_id = format!(".tags/@of/~{}/linked-from", ino_id(b));
    assert_eq!(world.ls(&by_id, ROOT).await.unwrap(), ["@counts", "@refine/", "a@"]);
    assert_eq!(world.readlink(".tags/@of/a/links-to/b").await.unwrap(), "../../../../b");
}

#[tokio::test(start_paused = true)]
async fn without_an_index_questions_end_and_files_go_on() {
    let world = world().await;
    world.truth.index_away.store(true, Ordering::Release);
    assert_eq!(world.at(".tags/beach", ROOT).await.map(|_| ()), Err(Status::Unavailable));
    assert!(world.at(".tags", ROOT).await.is_ok() && world.at("photos/a.jpg", ROOT).await.is_ok());
}

#[tokio::test]
async fn the_name_can_be_another_one_or_none_and_it_can_be_shown() {
    let world = World::with(|config| config.tags_name = Some(b"_by".to_vec())).await;
    world.truth.file("f", &["t"]);
    assert_eq!(world.ls("_by/t", ROOT).await.unwrap(), ["@counts", "@refine/", "f@"]);
    assert_eq!(world.tags().visible_in(Ino::ROOT, 3), None);
    let world = World::with(|config| config.tags_name = None).await;
    assert!(world.vfs.tags().is_none());
    assert_eq!(world.vfs.lookup(Ino::ROOT, name(".tags")).await.unwrap().attr, None);
    let world = World::with(|config| config.tags_visible = true).await;
    let shown = world.tags().visible_in(Ino::ROOT, 3).unwrap();
    let ino = world.at(".tags", ROOT).await.unwrap().ino;
    assert_eq!((shown.name.as_slice(), shown.ino, shown.cookie), (&b".tags"[..], ino, 3));
    assert_eq!(world.tags().told(&shown), Ok(ino));
    world.tags().forget(ino, 1);
    assert!(world.tags().getattr(ino, ROOT).await.is_ok(), "told twice, forgotten once");
}

#[tokio::test]
async fn a_file_called_as_a_view_is_listed_with_its_id() {
    let world = world().await;
    for name in ["@counts", "@refine", "@explain", "@ask"] {
        world.truth.file(&format!("odd/{name}"), &["odd"]);
    }
    let listed = world.ls(".tags/odd", ROOT).await.unwrap();
    let files: Vec<&String> = listed.iter().filter(|name| name.contains('~')).collect();
    assert_eq!((listed.len(), files.len()), (6, 4), "{listed:?}");
    for name in files {
        let name = name.trim_end_matches('@');
        let target = world.readlink(&format!(".tags/odd/{name}")).await.unwrap();
        assert_eq!(format!("../../odd/{}", name.split('~').next().unwrap()), target);
    }
    assert_eq!(world.rm(".tags/odd/@refine", ROOT).await, Err(Status::IsDirectory), "no file was meant");
}

#[tokio::test]
async fn values_that_taggers_say_may_have_commas_and_sizes_are_ranges() {
    let world = world().await;
    let ino = world.truth.file("photos/hefei.jpg", &["odd"]);
    world
        .truth
        .edit(ino, |thing| thing.said = vec!["place=Hefei, Anhui Sheng, CN".to_owned(), "type=image".to_owned()]);
    world.truth.edit(ino, |thing| thing.attr.size = 5000);
    assert_eq!(world.ls(".tags/place=", ROOT).await.unwrap(), ["Hefei%2C Anhui Sheng%2C CN/"]);
    let refine = world.ls(".tags/odd/@refine", ROOT).await.unwrap();
    assert_eq!(refine, ["odd@", "place=Hefei%2C Anhui Sheng%2C CN@", "type=image@"]);
    let found = world.ls(".tags/place=/Hefei%2C Anhui Sheng%2C CN", ROOT).await.unwrap();
    assert_eq!(found, ["@counts", "@refine/", "hefei.jpg@"]);
    assert_eq!(world.ls(".tags/size=", ROOT).await.unwrap(), ["1K..1M/"]);
    assert_eq!(world.ls(".tags/size=/1K..1M", ROOT).await.unwrap(), ["@counts", "@refine/", "hefei.jpg@"]);
}

#[tokio::test]
async fn dates_list_their_years_months_and_days() {
    let world = world().await;
    assert_eq!(world.ls(".tags/@date", ROOT).await.unwrap(), ["1970/"]);
    assert_eq!(world.ls(".tags/-@date", ROOT).await.unwrap(), Vec::<String>::new());
    let files = ["a.jpg@", "b.jpg@"];
    let rows: [(&str, &[&str]); 4] = [
        (".tags/beach/@date/1970", &["01/", "@counts", "@refine/"]),
        (".tags/beach/@date/1970/01", &["01/", "@counts", "@refine/"]),
        (".tags/beach/@date/1970/01/01", &["@counts", "@refine/"]),
        (".tags/@date/1970/01/01/beach", &["@counts", "@refine/"]),
    ];
    for (path, first) in rows {
        assert_eq!(world.ls(path, ROOT).await.unwrap(), [first, &files].concat(), "{path}");
    }
    assert_eq!(world.ls(".tags/beach/@date/1971", ROOT).await.unwrap(), ["@counts", "@refine/"]);
}

#[tokio::test]
async fn without_an_unknown_tag_is_a_plain_question() {
    let world = world().await;
    let all = ["@counts", "@refine/", "a.jpg@", "b.jpg@"];
    assert_eq!(world.ls(".tags/beach/-draft", ROOT).await.unwrap(), all);
    assert_eq!(world.ls(".tags/beach/not:draft", ROOT).await.unwrap(), all);
    assert_eq!(world.ls(".tags/beach/draft", ROOT).await, Err(Status::NotFound));
}
