#!/usr/bin/env python3
"""What copies and erasure coding cost, side by side in one cluster: space, throughput, and with two servers lost.

    ./run bench-coding [--classes r1,r3,ec:4+2] [--mib N] [--servers S] [--compression HOW] [--json FILE]

A fresh cluster of S storage daemons on loopback; a directory for each class, in it one file of N MiB of noise. For each:
  space    bytes on the servers' disks for each byte of the file
  write    MiB/s, with fsync
  read     MiB/s, by a fresh mount and with the kernel's pages dropped
  less 2   the same with two storage daemons killed (not for classes that cannot lose two)
  rebuilt  seconds until everything is full again without them, and the bytes fetched for it (all classes together)
"""

import argparse
import json
import os
import subprocess
import tempfile
import time

from storage import DGFS, Cluster, run, wait_for

BLOCK = 1 << 20


def losable(name):
    return int(name.split("+")[1]) if name.startswith("ec:") else int(name[1:]) - 1


def noise(path, mib):
    data = os.urandom(64 << 20)
    began = time.monotonic()
    with open(path, "wb", buffering=0) as file:
        for at in range(mib):
            # Never the same MiB twice: it is turned by a prime.
            start = at * 7919 % (63 << 20)
            file.write(data[start:start + BLOCK])
        os.fsync(file.fileno())
    return mib / (time.monotonic() - began)


def read(path, mib):
    with open("/proc/sys/vm/drop_caches", "w") as drop:
        drop.write("3")
    began = time.monotonic()
    with open(path, "rb", buffering=0) as file:
        while file.read(BLOCK):
            pass
    return mib / (time.monotonic() - began)


def read_cold(cluster, classes, mib):
    """Each file by a mount that has seen nothing."""
    found = {}
    for name in classes:
        subprocess.run([DGFS, "umount", cluster.mount], check=True, capture_output=True)
        run(DGFS, "mount", "--background", "--config", cluster.config, cluster.mount)
        found[name] = read(os.path.join(cluster.mount, name, "file"), mib)
    return found


def bench(work, args):
    cluster = Cluster(work, args.servers, 1)
    classes = args.classes.split(",")
    rows = {name: {"class": name} for name in classes}
    try:
        for name in classes:
            directory = os.path.join(cluster.mount, name)
            os.makedirs(directory)
            run(DGFS, "policy", "set", directory, "--redundancy", name, "--compression", args.compression)
        for name in classes:
            rows[name]["write_mib_s"] = round(noise(os.path.join(cluster.mount, name, "file"), args.mib))
        for name in classes:
            usage = json.loads(run(DGFS, "policy", "usage", "--json", os.path.join(cluster.mount, name)))
            assert usage["left"] == 0, usage
            on_disk = sum(kind["disk_bytes"] for kind in usage["kinds"])
            rows[name]["space"] = round(on_disk / (args.mib << 20), 3)
        for name, speed in read_cold(cluster, classes, args.mib).items():
            rows[name]["read_mib_s"] = round(speed)
        before = cluster.sum("fetched_bytes")
        gone = ["stored-2", "stored-5"]
        for role in gone:
            cluster.kill(role)
        wait_for("two servers are down", lambda: sum(one["state"] in ("down", "out") for one in cluster.servers()) == 2, 60)
        for name, speed in read_cold(cluster, [name for name in classes if losable(name) >= 2], args.mib).items():
            rows[name]["less_2_mib_s"] = round(speed)
        wait_for("two servers are given up", lambda: sum(one["state"] == "out" for one in cluster.servers()) == 2, 120)
        began = time.monotonic()
        wait_for("full again", lambda: settled(cluster, classes), 600)
        rebuilt = {"seconds": round(time.monotonic() - began, 1),
                   "mib": (cluster.sum("fetched_bytes") - before) >> 20}
        return {"rows": list(rows.values()), "rebuilt": rebuilt, "memory_mib": cluster.memory()}
    finally:
        cluster.end()


def settled(cluster, classes):
    """What only a lost server had is never full again."""
    status = json.loads(run(DGFS, "status", "--json", "--config", cluster.config))
    health = {one["class"]: one for one in status["meta"]["health"]}
    return all(health[name]["degraded"] == 0 for name in classes if losable(name) >= 2)


def show(result):
    print(f"{'class':<8} {'space':>6} {'write':>7} {'read':>7} {'less 2':>7}   (bytes for each; MiB/s)")
    for row in result["rows"]:
        print(f"{row['class']:<8} {row['space']:>6} {row['write_mib_s']:>7} {row['read_mib_s']:>7}"
              f" {row.get('less_2_mib_s', '-'):>7}")
    print(f"rebuilt without two servers: {result['rebuilt']['seconds']} s, {result['rebuilt']['mib']} MiB fetched;"
          f" memory MiB {result['memory_mib']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", default="r1,r3,ec:4+2")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--servers", type=int, default=8)
    parser.add_argument("--compression", default="none")
    parser.add_argument("--json", help="write the figures here too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dgfs-coding-") as work:
        result = bench(work, args)
    show(result)
    if args.json:
        with open(args.json, "w") as out:
            json.dump(result, out, indent=1)


if __name__ == "__main__":
    main()
