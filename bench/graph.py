#!/usr/bin/env python3
"""What finding costs: answers at the index and through a mount, how soon a new file is found, and what taggers cost who writes.

    ./run bench-graph [--files N] [--scale N] [--seconds S] [--mib M] [--parts index,mount,lag,cost] [--json FILE]

  index   an index of --scale synthetic inodes and 1,000 tags, skewed as people's are, without a volume (example `scale` of dgfs-index)
  mount   an embedded volume of --files real files with such tags: time to the first entry of `ls .tags/a/b/c`, never the same query
          twice; questions to the index for each `ls`, and for each entry of `ls -l`
  lag     100 files a second are written for --seconds: from the close of a file until .tags/type=text/NAME is there, and until
          .tags/text:WORD/NAME is
  cost    --mib of large files, and small files, written while taggers look, and while they are paused; by turns, three times. The ratio
          is that of the medians
Times are wall-clock; next to those of the index stands the processor time of its process. Half an hour with a million files.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zlib

from storage import DGFS, free_port, run

SCALE = os.environ.get("SCALE_BIN") or "target/release/examples/scale"
RATE = 100
# Files tagged by one request: as many as one change takes.
GROUP = 512
PER_DIRECTORY = 500
ROUNDS = 200
# Seconds after which a file is given up that was not found.
PATIENCE = 120
WORDS = "harbour lantern orchard granite velvet thunder meadow copper silver walnut compass feather marble saddle".split()


class Volume:
    def __init__(self, work, name):
        self.path, self.metrics = os.path.join(work, name), f"127.0.0.1:{free_port()}"
        os.makedirs(self.path)
        run(DGFS, "mount", "--background", "--data-dir", os.path.join(work, f"{name}-data"), "--metrics", self.metrics, self.path)

    def number(self, metric):
        text = urllib.request.urlopen(f"http://{self.metrics}/metrics").read().decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == metric)

    def ask(self, request):
        handle = os.open(f"{self.path}/.tags/@ask", os.O_RDWR)
        try:
            os.write(handle, json.dumps(request).encode())
            answer = b""
            while part := os.read(handle, 1 << 20):
                answer += part
        finally:
            os.close(handle)
        lines = [json.loads(line) for line in answer.splitlines()]
        if lines and "error" in lines[0]:
            raise RuntimeError(f"{request}: {lines[0]['error']}")
        return lines

    def wait(self, taggers=False):
        run(DGFS, "index", "wait", *(["--taggers"] if taggers else []), "--timeout", "3600", self.path)

    def end(self):
        subprocess.run([DGFS, "umount", self.path], capture_output=True)


def percentiles(times):
    ordered = sorted(times)
    at = lambda permille: round(ordered[min(len(ordered) - 1, len(ordered) * permille // 1000)] * 1e3, 2)
    return {"count": len(ordered), "p50_ms": at(500), "p99_ms": at(990), "max_ms": at(1000)}


def show(part, what, figures):
    print(f"{part:<6} {what:<44} " + "  ".join(f"{key} {value}" for key, value in figures.items()), flush=True)
    return {"part": part, "what": what, **figures}


def index(args):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        subprocess.run([SCALE, str(args.scale), out.name], check=True, stdout=sys.stderr)
        figures = json.load(open(out.name))
    rows = []
    for what, value in figures.items():
        value = value if isinstance(value, dict) else {"value": value}
        rows.append(show("index", what, {key: round(number, 3) for key, number in value.items()}))
    return rows


def fill(volume, files):
    """Empty files with tags: `a` on 30 %, `b` on 10 %, `c` on 2 %, one of a thousand by Zipf's law on each."""
    for tag in range(1, 1001):
        os.mkdir(f"{volume.path}/.tags/t{tag}")
    began, chance = time.monotonic(), random.Random(1)
    groups = {}
    for first in range(0, files, PER_DIRECTORY):
        directory = f"{volume.path}/d{first // PER_DIRECTORY}"
        os.mkdir(directory)
        for at in range(first, min(files, first + PER_DIRECTORY)):
            os.mknod(f"{directory}/file-number-{at}.txt")
        for entry in os.scandir(directory):
            tags = [tag for tag, share in (("a", 0.3), ("b", 0.1), ("c", 0.02)) if chance.random() < share]
            tags.append(f"t{min(1000, int(1001 ** chance.random()))}")
            for tag in tags:
                groups.setdefault(tag, []).append(entry.inode())
    made = time.monotonic() - began
    for tag, inos in groups.items():
        for first in range(0, len(inos), GROUP):
            volume.ask({"tag": {"inos": inos[first:first + GROUP], "add": [tag]}})
    tagged = time.monotonic() - began - made
    volume.wait()
    pairs = sum(map(len, groups.values()))
    return {"files": files, "made_s": round(made, 1), "tags": pairs, "tags_per_s": round(pairs / tagged)}


def first_entry(path):
    """What ls(1) does before it has a name to show: stat, open, the first part of the listing."""
    began = time.monotonic()
    os.stat(path)
    with os.scandir(path) as entries:
        for entry in entries:
            if not entry.name.startswith("@"):
                return time.monotonic() - began
    return time.monotonic() - began


def mount(args, work):
    volume, rows = Volume(work, "tagged"), []
    try:
        rows.append(show("mount", "volume", fill(volume, args.files)))
        asked = lambda: volume.number("dgfs_index_queries_total")
        # The tags from t40 on are on few files: leaving one out makes each query another one and changes little.
        for what, path in (("first entry, a/b/c", "a/b/c/not:t{}"), ("first entry, a (30 % of the files)", "a/not:t{}")):
            before = asked()
            times = [first_entry(f"{volume.path}/.tags/{path.format(40 + at)}") for at in range(ROUNDS)]
            rows.append(show("mount", what, {**percentiles(times), "questions": round((asked() - before) / ROUNDS, 2)}))
        path, before, began = f"{volume.path}/.tags/a/b/c", asked(), time.monotonic()
        names = [name for name in os.listdir(path) if not name.startswith("@")]
        for name in names:
            os.lstat(f"{path}/{name}")
            os.readlink(f"{path}/{name}")
        seconds, count = time.monotonic() - began, max(1, len(names))
        rows.append(show("mount", "ls -l a/b/c", {"entries": len(names), "ms_per_entry": round(seconds / count * 1e3, 3),
                                                  "questions_per_entry": round((asked() - before) / count, 3)}))
        rows.append(show("mount", "index", {"memory_mib": round(volume.number("dgfs_index_memory_bytes") / 2**20)}))
    finally:
        volume.end()
    return rows


def text(at, size):
    """Words that say little, and one that only this file has."""
    chance = random.Random(at)
    words, length = [f"kelpie{at}qz"] * 5, 0
    while length < size:
        words.append(chance.choice(WORDS))
        length += len(words[-1]) + 1
    chance.shuffle(words)
    return " ".join(words).encode()


def appears(path, since, times, pause):
    """Notes how long it takes until `path` is there; None if it takes longer than two minutes."""
    while (waited := time.monotonic() - since) < PATIENCE:
        if os.path.lexists(path):
            times.append(time.monotonic() - since)
            return
        # Less often the longer it takes: on a slow machine looking must not be what keeps it busy.
        time.sleep(max(pause, waited / 20))
    times.append(None)


def waits(times, seconds, written):
    there = [time for time in times if time is not None]
    figures = percentiles(there) if there else {"count": 0}
    return {**figures, "never": len(times) - len(there), "files_per_s": round(written / seconds)}


def lag(args, work):
    volume, by_type, by_word, watchers, written = Volume(work, "lag"), [], [], [], 0
    try:
        os.mkdir(f"{volume.path}/in")
        os.mkdir(f"{volume.path}/.tags/warm")
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < args.seconds:
            if written >= elapsed * RATE:
                time.sleep(0.001)
                continue
            name = f"note-{written}.txt"
            with open(f"{volume.path}/in/{name}", "wb") as out:
                out.write(text(written, 2000 + written * 997 % 30_000))
            closed = time.monotonic()
            # One of twenty is watched: to look is work, too.
            if written % 20 == 0:
                for kind, times, pause in ((f"type=text/{name}", by_type, 0.002), (f"text:kelpie{written}qz/{name}", by_word, 0.05)):
                    watcher = threading.Thread(target=appears, args=(f"{volume.path}/.tags/{kind}", closed, times, pause))
                    watcher.start()
                    watchers.append(watcher)
            written += 1
        seconds = time.monotonic() - began
        for watcher in watchers:
            watcher.join()
        return [show("lag", "close to .tags/type=text/NAME", waits(by_type, seconds, written)),
                show("lag", "close to .tags/text:WORD/NAME", waits(by_word, seconds, written))]
    finally:
        volume.end()


def write_large(directory, mib, block):
    began = time.monotonic()
    for at in range(4):
        with open(f"{directory}/large-{at}", "wb") as out:
            for number in range(mib // 4):
                # No block twice.
                out.write(number.to_bytes(8, "big") + block[8:])
            os.fsync(out.fileno())
    return mib / (time.monotonic() - began)


def write_small(directory, files):
    began = time.monotonic()
    for at in range(files):
        with open(f"{directory}/small-{at}.txt", "wb") as out:
            out.write(text(at % 100, 4096))
    return files / (time.monotonic() - began)


def cost(args, work):
    volume, speeds = Volume(work, "cost"), {}
    block = random.Random(2).randbytes(1 << 20)
    try:
        for turn in range(6):
            state = ("on", "off", "off", "on", "on", "off")[turn]
            volume.ask({"tagger": "resume" if state == "on" else "pause"})
            for what, write in (("large files, MiB/s", lambda at: write_large(at, args.mib, block)),
                                ("small files of 4 KiB, files/s", lambda at: write_small(at, args.mib * 4))):
                directory = f"{volume.path}/{turn}-{zlib.crc32(what.encode())}"
                os.mkdir(directory)
                speeds.setdefault(what, {}).setdefault(state, []).append(write(directory))
            # What is left over must not be looked at in the next turn.
            volume.ask({"tagger": "resume"})
            volume.wait(taggers=True)
    finally:
        volume.end()
    rows = []
    for what, by_state in speeds.items():
        on, off = (statistics.median(by_state[state]) for state in ("on", "off"))
        rows.append(show("cost", what, {"on": round(on), "off": round(off), "ratio": round(on / off, 2)}))
    return rows


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    load = os.getloadavg()[0]
    return {"cores": os.cpu_count(), "cpu": model, "load_before": round(load, 2), "busy": load > 0.5}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--scale", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--parts", default="index,mount,lag,cost")
    parser.add_argument("--json")
    args = parser.parse_args()
    before, rows = machine(), []
    print(f"{before}", flush=True)
    with tempfile.TemporaryDirectory(prefix="dgfs-bench-") as work:
        parts = {"index": lambda: index(args), "mount": lambda: mount(args, work), "lag": lambda: lag(args, work),
                 "cost": lambda: cost(args, work)}
        for part in args.parts.split(","):
            if part not in parts:
                parser.error(f"--parts: no part {part!r}; there are {', '.join(parts)}")
            rows += parts[part]()
    if args.json:
        with open(args.json, "w") as out:
            json.dump({"machine": before, "rows": rows}, out, indent=1)


if __name__ == "__main__":
    main()
