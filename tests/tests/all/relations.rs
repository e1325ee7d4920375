//! Relations between files on a real mount: found by taggers and the index, shown by commands and below `.tags`.
//!
//! Never tells the index anything: files are written as people write them. Always: a test waits for the taggers by
//! `dgfs index wait --taggers`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use dgfs_tests::mount::Mount;
use dgfs_tests::process::{Outcome, run};
use dgfs_tests::program::dgfs;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);

fn examined(mount: &Mount) {
    let path = mount.path().to_str().unwrap();
    let _ = run(dgfs(), &["index", "wait", "--taggers", "--timeout", "60", path], PATIENCE).expect_success("wait");
}

fn ask(command: &str, file: &Path) -> Outcome {
    run(dgfs(), &[command, "--json", file.to_str().unwrap()], PATIENCE)
}

/// Relation, name and source of what a command finds, in its order.
fn found(command: &str, file: &Path) -> Vec<(String, String, String)> {
    let output = ask(command, file).expect_success(command);
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| line[key].as_str().unwrap_or_else(|| panic!("{key} in {line}")).to_owned();
        let name = text("path").rsplit('/').next().unwrap_or_default().to_owned();
        (text("relation"), name, text("source"))
    };
    output.lines().map(line).collect()
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with('@'));
    names.sort();
    names
}

fn tie(relation: &str, name: &str, source: &str) -> (String, String, String) {
    (relation.to_owned(), name.to_owned(), source.to_owned())
}

/// A text of many different words.
fn essay(changed: &str) -> String {
    let sentence = |at: u32| format!("In year {at} the harvest of field {} was {} sacks. ", at * 7 % 31, at * 13 % 97);
    let body: String = (0..120).map(sentence).collect();
    format!("{body}{changed}\n")
}

fn checksum(bytes: &[u8]) -> u32 {
    // CRC-32 as the PNG specification has it (annex D), bit by bit.
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

fn chunk(png: &mut Vec<u8>, name: &[u8], content: &[u8]) {
    png.extend((content.len() as u32).to_be_bytes());
    let named = [name, content].concat();
    png.extend(&named);
    png.extend(checksum(&named).to_be_bytes());
}

/// A scene that looks the same in any size, as a PNG whose data are not compressed.
fn picture(width: u32, height: u32) -> Vec<u8> {
    let mut rows = Vec::new();
    for y in 0..height {
        rows.push(0);
        for x in 0..width {
            let (u, v) = (f64::from(x) / f64::from(width), f64::from(y) / f64::from(height));
            let light = 128.0 + 60.0 * (9.0 * u + 4.0 * v * v).sin() + 50.0 * (7.0 * v - 5.0 * u * u).cos();
            rows.extend([light as u8, (light * 0.8) as u8, (light * 0.6) as u8]);
        }
    }
    let (low, high) = rows.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65521;
        (low, (high + low) % 65521)
    });
    let mut data = vec![0x78, 0x01];
    let mut blocks = rows.chunks(65535).peekable();
    while let Some(block) = blocks.next() {
        data.push(u8::from(blocks.peek().is_none()));
        data.extend((block.len() as u16).to_le_bytes());
        data.extend((!(block.len() as u16)).to_le_bytes());
        data.extend(block);
    }
    data.extend((high << 16 | low).to_be_bytes());
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    chunk(&mut png, b"IHDR", &header);
    chunk(&mut png, b"IDAT", &data);
    chunk(&mut png, b"IEND", &[]);
    png
}

fn filled() -> Mount {
    let mount = Mount::embedded();
    fs::create_dir(mount.join("site")).unwrap();
    fs::create_dir(mount.join("pics")).unwrap();
    fs::write(mount.join("harvest.txt"), essay("The last barn burnt down.")).unwrap();
    fs::write(mount.join("barns.txt"), essay("The last barn stands to this day.")).unwrap();
    fs::write(mount.join("letter.txt"), "Dear Ann, thank you for the flowers and for the long letter. Yours, Bob.\n")
        .unwrap();
    fs::write(mount.join("pics/scene.png"), picture(640, 480)).unwrap();
    fs::write(mount.join("pics/icon.png"), picture(160, 120)).unwrap();
    let page = "<html><body><p>See <a href=\"../pics/scene.png#top\">it</a> and <a href=\"https://example.org/x\">more</a>.</p></body></html>";
    fs::write(mount.join("site/page.html"), page).unwrap();
    fs::write(mount.join("report.txt"), "one\n").unwrap();
    fs::write(mount.join("report-v2.txt"), "two and more\n").unwrap();
    fs::copy(mount.join("pics/scene.png"), mount.join("pics/taken.png")).unwrap();
    examined(&mount);
    mount
}

#[test]
fn files_are_related_by_what_they_hold_and_are_called() {
    let mount = filled();
    assert_eq!(found("similar", &mount.join("harvest.txt"))[0], tie("similar", "barns.txt", "text"));
    assert_eq!(names(&mount.join(".tags/@of/harvest.txt/similar")), ["barns.txt"]);
    assert_eq!(found("versions", &mount.join("report.txt")), [tie("versions", "report-v2.txt", "names")]);
    assert_eq!(names(&mount.join(".tags/@of/report-v2.txt/versions")), ["report.txt"]);
    let pics = mount.join("pics/.tags/@of");
    assert_eq!(names(&pics.join("scene.png/similar")), ["icon.png"]);
    assert_eq!(names(&pics.join("scene.png/same-content")), ["taken.png"]);
    assert_eq!(names(&pics.join("scene.png/derived")), ["icon.png", "taken.png"], "a thumbnail and a copy");
    assert_eq!(names(&pics.join("taken.png/sources")), ["scene.png"]);
    let related = found("related", &mount.join("pics/scene.png"));
    assert_eq!(related[0], tie("same-content", "taken.png", "content"), "the strongest first: {related:?}");
    for expected in [tie("derived", "icon.png", "picture"), tie("linked-from", "page.html", "links")] {
        assert!(related.contains(&expected), "{expected:?} in {related:?}");
    }
    assert_eq!(names(&mount.join("pics/.tags/@of/scene.png/related")), ["icon.png", "taken.png"], "below pics");
    let nothing = ask("versions", &mount.join("letter.txt"));
    assert_eq!((nothing.status.code(), nothing.output.as_str()), (Some(1), ""), "nothing was found");
    assert_eq!(ask("similar", &mount.join("none.txt")).status.code(), Some(3), "and this is not there");
}

#[test]
fn a_link_leads_where_its_text_says_at_any_time() {
    let mount = filled();
    let links = mount.join("site/.tags/@of/page.html/links-to");
    let from_root = mount.join(".tags/@of/~ID/links-to");
    let id = run(
        "getfattr",
        &["--only-values", "-n", "user.dgfs.id", mount.join("site/page.html").to_str().unwrap()],
        PATIENCE,
    )
    .expect_success("id");
    let from_root = from_root.to_str().unwrap().replace("ID", id.trim().trim_start_matches('~'));
    let from_root = Path::new(&from_root);
    assert_eq!(names(from_root), ["scene.png"]);
    assert_eq!(names(&links), Vec::<String>::new(), "the picture does not lie below site");
    fs::rename(mount.join("pics/scene.png"), mount.join("pics/renamed.png")).unwrap();
    assert_eq!(names(from_root), Vec::<String>::new(), "nothing has that name now");
    fs::rename(mount.join("pics/taken.png"), mount.join("pics/scene.png")).unwrap();
    assert_eq!(names(from_root), ["scene.png"], "another file has it");
    fs::rename(mount.join("site/page.html"), mount.join("page.html")).unwrap();
    fs::rename(mount.join("pics"), mount.join("site/pics")).unwrap();
    assert_eq!(names(from_root), Vec::<String>::new());
    let linked = run(
        dgfs(),
        &["link", mount.join("page.html").to_str().unwrap(), "links-to", mount.join("letter.txt").to_str().unwrap()],
        PATIENCE,
    );
    let _ = linked.expect_success("link");
    assert_eq!(names(from_root), ["letter.txt"], "what people say holds wherever the file lies");
}
