#!/usr/bin/env python3
"""Precision of our keywords against YAKE and TF-IDF, on texts whose authors have named keywords.

The texts are those that package managers leave on a machine that builds DGFS: the READMEs of Rust crates with the `keywords` of their
Cargo.toml, and the descriptions of Python packages with the `Keywords` of their METADATA. A keyword counts if the text has it. Precision at
5: how many of a method's first five keywords the author has named, plural and case aside.

    python3 -m venv /tmp/kw && /tmp/kw/bin/pip install yake scikit-learn
    cargo build --release -p dgfs-taggers --example keywords
    /tmp/kw/bin/python bench/keywords.py
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

AT = 5
TEXT_MIN, TEXT_MAX = 500, 60_000
# Subjects that say where a package belongs and not what its text is about.
TOO_BROAD = {"rust", "python", "library", "async", "no-std", "no_std"}


def normal(phrase):
    words = re.findall(r"[a-z0-9+#]+", phrase.lower())
    return " ".join(word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words)


def document(name, kind, text, keywords):
    text = text.strip()[:TEXT_MAX]
    whole = f" {normal(text)} "
    named = {normal(keyword) for keyword in keywords if keyword.lower() not in TOO_BROAD}
    named = {keyword for keyword in named if keyword and f" {keyword} " in whole}
    if len(text) < TEXT_MIN or len(named) < 2:
        return None
    return {"name": f"{name}.md", "kind": kind, "text": text, "named": named}


def crates():
    seen = set()
    for manifest in sorted(Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo")).glob("registry/src/*/*/Cargo.toml")):
        try:
            package = tomllib.loads(manifest.read_text()).get("package", {})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            continue
        readme = next((path for path in manifest.parent.glob("README*") if path.is_file()), None)
        if readme is None or package.get("name") in seen or not package.get("keywords"):
            continue
        seen.add(package["name"])
        yield document(package["name"], "crates", readme.read_text(errors="replace"), package["keywords"])


def python_packages():
    paths = sys.path + [str(path) for pattern in ("lib/python3*/site-packages", "lib/python3/dist-packages")
                        for root in ("/usr", "/usr/local", os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv")))
                        for path in [*Path(root).glob(pattern), *Path(root).glob(f"versions/*/{pattern}")]]
    seen = set()
    for distribution in metadata.distributions(path=list(dict.fromkeys(paths))):
        about = distribution.metadata
        name, keywords = about.get("Name", ""), about.get("Keywords") or ""
        if name in seen or not keywords:
            continue
        seen.add(name)
        listed = re.split(r"[,;]", keywords) if re.search(r"[,;]", keywords) else keywords.split()
        yield document(name, "python", about.get_payload() or about.get("Description") or "", listed)


def ours(binary, documents):
    lines = "".join(json.dumps({"name": item["name"], "text": item["text"]}) + "\n" for item in documents)
    output = subprocess.run([binary], input=lines, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def prose(text):
    """What a reader of Markdown sees, so that the other methods are not misled by marks that we do not see either."""
    text = re.sub(r"```.*?```", " ", text, flags=re.S)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"<[^>]+>|https?://\S+", " ", text)
    return re.sub(r"[*`#|]", " ", text)


def yake_keywords(documents):
    import yake
    extractor = yake.KeywordExtractor(lan="en", n=3, top=10)
    return [[keyword for keyword, _ in extractor.extract_keywords(prose(item["text"]))] for item in documents]


def tfidf_keywords(documents):
    from sklearn.feature_extraction.text import TfidfVectorizer
    vectorizer = TfidfVectorizer(ngram_range=(1, 3), stop_words="english", sublinear_tf=False, max_df=0.5)
    matrix = vectorizer.fit_transform([prose(item["text"]) for item in documents])
    names = vectorizer.get_feature_names_out()
    return [[names[column] for column in row.toarray()[0].argsort()[::-1][:10]] for row in matrix]


def precision(documents, found):
    hits = 0
    for item, keywords in zip(documents, found, strict=True):
        hits += len({normal(keyword) for keyword in keywords[:AT]} & item["named"])
    return hits / (AT * len(documents))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/examples/keywords")
    parser.add_argument("--only-ours", action="store_true", help="for tuning: YAKE takes minutes")
    parser.add_argument("--show", type=int, default=0, help="print the keywords of so many texts")
    options = parser.parse_args()
    documents = [item for item in [*crates(), *python_packages()] if item]
    # Half of the texts are for tuning; the other half says whether it helped.
    methods = {"ours": ours(options.binary, documents)}
    if not options.only_ours:
        methods |= {"yake": yake_keywords(documents), "tf-idf": tfidf_keywords(documents)}
    print(f"{'method':8} {'all':>7} {'crates':>7} {'python':>7} {'tuned':>7} {'unseen':>7}   of {len(documents)} texts")
    for method, found in methods.items():
        row = []
        for keep in (lambda at, item: True, lambda at, item: item["kind"] == "crates", lambda at, item: item["kind"] == "python",
                     lambda at, item: at % 2 == 0, lambda at, item: at % 2 == 1):
            chosen = [at for at, item in enumerate(documents) if keep(at, item)]
            score = precision([documents[at] for at in chosen], [found[at] for at in chosen]) if chosen else float("nan")
            row.append(f"{score:7.3f}")
        print(f"{method:8}", *row)
    for at, item in list(enumerate(documents))[:options.show]:
        print(item["name"], sorted(item["named"]), *(f"\n   {method}: {found[at][:8]}" for method, found in methods.items()))


if __name__ == "__main__":
    main()
