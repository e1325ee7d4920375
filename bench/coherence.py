#!/usr/bin/env python3
"""The price of coherence: what a second mount costs the first, and what two mounts at one place cost each other.

    ./run bench-coherence [--ops N] [--json FILE]

One cluster on loopback (Redis at `everysec`), two mounts a and b. For each row operations a second, calls to the metadata
service for each operation (of both mounts, acknowledgements of recalls among them), and names that all had to expire.
  alone      a makes and removes empty files; b is not mounted
  watched    the same with b mounted, which never looked
  known      the same in a directory that b has listed and lists again after each 50
  turns      a and b make files in one directory, strictly by turns
  at once    both at the same time, as fast as they can
  stat       b stats 1,000 files that it knows, again and again, while a rests
  stat busy  the same while a makes files in another directory
  log        a appends 100 bytes to an open file, b reads the new bytes from a file it has open
"""

import argparse
import json
import os
import subprocess
import tempfile
import threading
import time
import urllib.request

from storage import DGFS, Cluster, free_port, run


class Mount:
    def __init__(self, cluster, name):
        self.path = os.path.join(cluster.work, name)
        os.makedirs(self.path)
        self.metrics = f"127.0.0.1:{free_port()}"
        run(DGFS, "mount", "--background", "--config", cluster.config, "--metrics", self.metrics, self.path)

    def numbers(self):
        text = urllib.request.urlopen(f"http://{self.metrics}/metrics").read().decode()
        calls = expiries = 0
        for line in text.splitlines():
            if line.startswith("dgfs_client_meta_calls_total{"):
                calls += float(line.rsplit(" ", 1)[1])
            elif line.startswith("dgfs_mount_name_expiries_total"):
                expiries += float(line.rsplit(" ", 1)[1])
        return calls, expiries

    def end(self):
        subprocess.run([DGFS, "umount", self.path], capture_output=True)


def make(directory, at):
    os.close(os.open(f"{directory}/{at}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))


def measure(rows, what, mounts, ops, act):
    before = [mount.numbers() for mount in mounts]
    began = time.monotonic()
    act()
    seconds = time.monotonic() - began
    after = [mount.numbers() for mount in mounts]
    calls = sum(a[0] - b[0] for a, b in zip(after, before))
    expiries = sum(a[1] - b[1] for a, b in zip(after, before))
    rows.append({"what": what, "ops_s": round(ops / seconds), "calls_per_op": round(calls / ops, 2),
                 "expiries": int(expiries)})
    print("{what:<10} {ops_s:>8} ops/s {calls_per_op:>6} calls/op {expiries:>6} expiries".format(**rows[-1]), flush=True)


def make_and_remove(directory, ops, between=lambda: None):
    for at in range(ops // 2):
        make(directory, at)
        if at % 50 == 49:
            between()
    for at in range(ops // 2):
        os.unlink(f"{directory}/{at}")


def by_turns(a, b, ops):
    for at in range(ops):
        make(a if at % 2 else b, at)


def at_once(a, b, ops):
    def work(directory, mine):
        for at in range(ops // 2):
            make(directory, f"{mine}{at}")
    threads = [threading.Thread(target=work, args=pair) for pair in ((a, "a"), (b, "b"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def stats(directory, ops):
    for at in range(ops):
        os.stat(f"{directory}/{at % 1000}")


def bench(work, args):
    cluster, rows = Cluster(work, 1, 1), []
    subprocess.run([DGFS, "umount", cluster.mount], check=True, capture_output=True)
    a = Mount(cluster, "a")
    mounts = [a]
    try:
        for name in ("d", "stat", "busy", "log"):
            os.mkdir(f"{a.path}/{name}")
        measure(rows, "alone", mounts, args.ops, lambda: make_and_remove(f"{a.path}/d", args.ops))
        b = Mount(cluster, "b")
        mounts.append(b)
        measure(rows, "watched", mounts, args.ops, lambda: make_and_remove(f"{a.path}/d", args.ops))
        look = lambda: os.listdir(f"{b.path}/d")
        look()
        measure(rows, "known", mounts, args.ops, lambda: make_and_remove(f"{a.path}/d", args.ops, look))
        measure(rows, "turns", mounts, args.ops, lambda: by_turns(f"{a.path}/d", f"{b.path}/d", args.ops))
        os.mkdir(f"{a.path}/e")
        measure(rows, "at once", mounts, args.ops, lambda: at_once(f"{a.path}/e", f"{b.path}/e", args.ops))
        for at in range(1000):
            make(f"{a.path}/stat", at)
        stats(f"{b.path}/stat", 2000)
        many = args.ops * 20
        measure(rows, "stat", mounts, many, lambda: stats(f"{b.path}/stat", many))
        busy = threading.Thread(target=lambda: make_and_remove(f"{a.path}/busy", args.ops))
        busy.start()
        measure(rows, "stat busy", mounts, many, lambda: stats(f"{b.path}/stat", many))
        busy.join()
        with open(f"{a.path}/log/f", "wb", buffering=0) as writer, open(f"{b.path}/log/f", "rb", buffering=0) as reader:
            def log():
                for at in range(args.ops):
                    record = f"{at:099}\n".encode()
                    writer.write(record)
                    assert reader.read(100) == record, at
            measure(rows, "log", mounts, args.ops, log)
    finally:
        for mount in mounts:
            mount.end()
        cluster.end()
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", type=int, default=2000)
    parser.add_argument("--json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dgfs-bench-") as work:
        rows = bench(work, args)
    if args.json:
        with open(args.json, "w") as out:
            json.dump(rows, out, indent=1)


if __name__ == "__main__":
    main()
