#!/usr/bin/env python3
"""How good our relations are: `similar` against TF-IDF, and the distance at which pictures count as alike.

Texts are those of bench/keywords.py; two are on one matter if their authors gave them a category (crates) or a topic (Python packages) in
common. Precision at 5: how many of the first five similar texts are on the same matter. Only texts that share a matter with five others are
asked for. Ours is the index itself (`dgfs-index/examples/similar.rs`): taggers, tables and the query; the others are a cosine over YAKE's
keywords, weighted and cut as ours are, and over all words by TF-IDF. Pictures are those that scikit-image and scikit-learn ship, each against copies
made by Pillow and against every other.

    python3 -m venv /tmp/kw && /tmp/kw/bin/pip install yake scikit-learn scikit-image pillow
    cargo build --release -p dgfs-taggers --examples && cargo build --release -p dgfs-index --example similar
    /tmp/kw/bin/python bench/relations.py
"""
import argparse
import collections
import io
import json
import math
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

import keywords

AT = 5
# As dgfs-index/src/query/related/similar.rs has it.
COSINE_MIN = 0.05


def labelled():
    """The texts of keywords.py, each with the set of its matters."""
    matters = {}
    home = keywords.os.environ.get("CARGO_HOME", Path.home() / ".cargo")
    for manifest in sorted(Path(home).glob("registry/src/*/*/Cargo.toml")):
        try:
            package = tomllib.loads(manifest.read_text()).get("package", {})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            continue
        listed = package.get("categories")
        if isinstance(listed, list):
            matters[("crates", f"{package.get('name')}.md")] = {name for name in listed if name not in ("no-std", "rust-patterns")}
    paths = sys.path + [str(path) for pattern in ("lib/python3*/site-packages", "lib/python3/dist-packages")
                        for root in ("/usr", "/usr/local") for path in Path(root).glob(pattern)]
    for distribution in metadata.distributions(path=list(dict.fromkeys(paths))):
        topics = [line.removeprefix("Topic :: ") for line in distribution.metadata.get_all("Classifier") or [] if line.startswith("Topic ::")]
        matters[("python", f"{distribution.metadata.get('Name')}.md")] = {topic for topic in topics if topic != "Software Development :: Libraries"}
    documents = [item for item in [*keywords.crates(), *keywords.python_packages()] if item]
    for item in documents:
        item["matters"] = {f"{item['kind']}: {matter}" for matter in matters.get((item["kind"], item["name"]), ())}
    documents = [item for item in documents if item["matters"]]
    carriers = collections.Counter(matter for item in documents for matter in item["matters"])
    for item in documents:
        item["asked"] = any(carriers[matter] > AT for matter in item["matters"])
    return documents


def ours(binary, documents):
    lines = "".join(json.dumps({"name": item["name"], "text": item["text"]}) + "\n" for item in documents)
    output = subprocess.run([binary], input=lines, capture_output=True, text=True, check=True).stdout
    answers = [json.loads(line) for line in output.splitlines()]
    assert len(answers) == len(documents)
    return {f"ours: {way}": [answer[way] for answer in answers] for way in ("similar", "text", "keywords", "related")}


def by_cosine(vectors):
    carriers = collections.Counter(word for vector in vectors for word in vector)
    weights = {word: math.log((1 + len(vectors)) / (1 + count)) for word, count in carriers.items()}
    lengths = [math.sqrt(sum(weights[word] ** 2 for word in vector)) or 1.0 for vector in vectors]
    ranked = []
    for one, vector in enumerate(vectors):
        scores = [(sum(weights[word] ** 2 for word in vector & other) / lengths[one] / lengths[at], at)
                  for at, other in enumerate(vectors) if at != one]
        ranked.append([at for score, at in sorted(scores, key=lambda pair: (-pair[0], pair[1]))[:AT] if score >= COSINE_MIN])
    return ranked


def by_tfidf(documents):
    from sklearn.feature_extraction.text import TfidfVectorizer
    matrix = TfidfVectorizer(stop_words="english", sublinear_tf=True, max_df=0.5).fit_transform([keywords.prose(item["text"]) for item in documents])
    likeness = (matrix @ matrix.T).toarray()
    ranked = []
    for one, row in enumerate(likeness):
        row[one] = -1
        ranked.append([int(at) for at in row.argsort()[::-1][:AT] if row[at] > 0])
    return ranked


def texts(options):
    documents = labelled()
    methods = ours(options.binary, documents)
    tags = keywords.ours(options.keywords_binary, documents)
    methods["our keywords, in Python"] = by_cosine([{tag for tag in found if "=" not in tag} for found in tags])
    if not options.no_yake:
        methods["YAKE's keywords"] = by_cosine([set(map(str.lower, found)) for found in keywords.yake_keywords(documents)])
    methods["TF-IDF of all words"] = by_tfidf(documents)
    asked = [at for at, item in enumerate(documents) if item["asked"]]
    print(f"{len(documents)} texts, {len(asked)} asked; precision at {AT}, of those named and of {AT}, and how many are named at all")
    for method, ranked in methods.items():
        hits = sum(bool(documents[at]["matters"] & documents[other]["matters"]) for at in asked for other in ranked[at][:AT])
        named = sum(len(ranked[at][:AT]) for at in asked)
        print(f"{method:26} {hits / max(named, 1):6.3f} {hits / (AT * len(asked)):6.3f} {named / (AT * len(asked)):6.3f}")


def copies(picture):
    from PIL import Image, ImageEnhance, ImageFilter
    half = (max(picture.width // 2, 16), max(picture.height // 2, 16))
    yield "half size", picture.resize(half, Image.LANCZOS), "PNG", {}
    yield "thumbnail of 128", (lambda copy: (copy.thumbnail((128, 128)), copy)[1])(picture.copy()), "PNG", {}
    yield "JPEG, quality 75", picture, "JPEG", {"quality": 75}
    yield "JPEG, quality 20", picture, "JPEG", {"quality": 20}
    yield "half and JPEG 50", picture.resize(half, Image.BILINEAR), "JPEG", {"quality": 50}
    yield "brighter by a fifth", ImageEnhance.Brightness(picture).enhance(1.2), "PNG", {}
    yield "more contrast", ImageEnhance.Contrast(picture).enhance(1.3), "PNG", {}
    yield "blurred", picture.filter(ImageFilter.GaussianBlur(2)), "PNG", {}
    yield "gray", picture.convert("L").convert("RGB"), "PNG", {}
    edge = (picture.width // 50, picture.height // 50)
    yield "2 % cut off each side", picture.crop((*edge, picture.width - edge[0], picture.height - edge[1])), "PNG", {}


def pictures(options):
    import skimage.data
    import sklearn.datasets
    from PIL import Image
    paths = [path for package in (Path(skimage.data.__file__).parent, Path(sklearn.datasets.__file__).parent / "images")
             for path in sorted(package.iterdir()) if path.suffix in (".png", ".jpg")]
    with tempfile.TemporaryDirectory() as directory:
        names, bits = [], []
        for path in paths:
            picture = Image.open(path).convert("RGB")
            for way, copy, kind, settings in [("original", picture, "PNG", {}), *copies(picture)]:
                name = Path(directory) / f"{len(names)}.{kind.lower()}"
                stream = io.BytesIO()
                copy.save(stream, kind, **settings)
                name.write_bytes(stream.getvalue())
                names.append((path.stem, way, str(name)))
        output = subprocess.run([options.findings_binary, *(name for _, _, name in names)], capture_output=True, text=True, check=True).stdout
    decoder, at = json.JSONDecoder(), 0
    while at < len(output.rstrip()):
        answer, at = decoder.raw_decode(output, at)
        at += 1
        found = [one["findings"]["fingerprints"]["image"] for one in answer["findings"]]
        bits.append(next((value for value in found if value is not None), None))
    prints = {(stem, way): value for (stem, way, _), value in zip(names, bits, strict=True)
              if value is not None and (value & (2**63 - 1)).bit_count() >= 16}
    originals = {stem: value for (stem, way), value in prints.items() if way == "original"}
    print(f"\n{len(originals)} pictures of {len(paths)} with enough shape; bits in which copies differ from them, sorted")
    for way in dict.fromkeys(way for _, way in prints):
        if way != "original":
            print(f"{way:24}", *sorted((prints[stem, way] ^ value).bit_count() for stem, value in originals.items() if (stem, way) in prints))
    pairs = sorted(((one ^ other).bit_count(), first, second) for first, one in originals.items() for second, other in originals.items() if first < second)
    print(f"{len(pairs)} pairs of different pictures; the closest:", *(f"{first}/{second} {count}," for count, first, second in pairs[:6]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/examples/similar")
    parser.add_argument("--keywords-binary", default="target/release/examples/keywords")
    parser.add_argument("--findings-binary", default="target/release/examples/findings")
    parser.add_argument("--no-yake", action="store_true", help="YAKE takes minutes")
    parser.add_argument("--only", choices=["texts", "pictures"])
    options = parser.parse_args()
    if options.only != "pictures":
        texts(options)
    if options.only != "texts":
        pictures(options)


if __name__ == "__main__":
    main()
