#!/usr/bin/env python3
"""What it costs to add a server, to lose one, and to get one back: seconds, bytes and memory, by size of the volume.

    ./run bench-storage [--files N,N,…] [--bytes B] [--servers S] [--replicas R] [--json FILE]

For each number of files a fresh cluster on loopback (daemons are processes, Redis at `everysec`) is filled with files of B
bytes; then, each time until every partition is full again:
  add     one storage daemon more: about 1/(S+1) of the copies move
  back    one killed, a hundredth of the files written meanwhile, started again: what it missed is made up
  lost    one killed and its disk removed, its grace time over: its copies are rebuilt on the others
The cost per version moved should not grow with what is stored: the last column says microseconds per version.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

DGFS = os.environ.get("DGFS_BIN") or "dgfs"
GRACE = 8


def run(*words):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


def wait_for(what, condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} did not happen in {seconds} s")
        time.sleep(0.1)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    def __init__(self, work, servers, replicas):
        self.work, self.directory = work, os.path.join(work, "up")
        port = free_port()
        os.makedirs(os.path.join(work, "redis"))
        words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", os.path.join(work, "redis"),
                 "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]
        self.redis = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        wait_for("redis", lambda: subprocess.run(["redis-cli", "-p", str(port), "ping"], capture_output=True).returncode
                 == 0, 30)
        run(DGFS, "up", "--servers", servers, "--replicas", replicas, "--grace", GRACE, "--durability", "everysec",
            "--redis", f"redis://127.0.0.1:{port}", self.directory)
        self.config = os.path.join(self.directory, "client.toml")
        self.mount = os.path.join(work, "mnt")
        os.makedirs(self.mount)
        run(DGFS, "mount", "--background", "--config", self.config, self.mount)

    def pids(self):
        with open(os.path.join(self.directory, "pids")) as lines:
            return {role: int(pid) for role, pid in (line.split() for line in lines)}

    def servers(self):
        return json.loads(run(DGFS, "server", "ls", "--json", "--config", self.config))

    def sum(self, name):
        return sum(server["server"]["upkeep"][name] for server in self.servers())

    def settled(self):
        servers = self.servers()
        return all(one["server"]["places_left"] == 0 for one in servers) and all(
            one["server"]["extras"] == 0 for one in servers)

    def memory(self):
        peaks = {}
        for role, pid in self.pids().items():
            try:
                with open(f"/proc/{pid}/status") as status:
                    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
            except (FileNotFoundError, ProcessLookupError):
                continue
            kind = role.split("-")[0]
            peaks[kind] = max(peaks.get(kind, 0), peak // 1024)
        return peaks

    def kill(self, role):
        os.kill(self.pids()[role], signal.SIGKILL)

    def end(self):
        subprocess.run([DGFS, "umount", self.mount], capture_output=True)
        subprocess.run([DGFS, "down", self.directory], capture_output=True)
        self.redis.terminate()
        self.redis.wait()


def fill(directory, files, size):
    os.makedirs(directory)
    data = os.urandom(size)
    for at in range(files):
        if at % 1000 == 0:
            os.makedirs(f"{directory}/{at // 1000}")
        # Each file has other bytes, at no cost.
        with open(f"{directory}/{at // 1000}/{at}", "wb", buffering=0) as file:
            file.write(at.to_bytes(8, "little") + data[8:])


def measure(cluster, what, files, act, begun):
    versions, moved = cluster.sum("fetched"), cluster.sum("fetched_bytes")
    act()
    wait_for(f"{what}: the cluster notices", begun, 120)
    began = time.monotonic()
    wait_for(f"{what}: every partition full", cluster.settled, 3600)
    seconds = time.monotonic() - began
    # A server that was started again counts from 0.
    versions = max(cluster.sum("fetched") - versions, 0)
    moved = max(cluster.sum("fetched_bytes") - moved, 0)
    each = seconds * 1e6 / versions if versions else 0
    row = {"files": files, "what": what, "seconds": round(seconds, 2), "versions": versions, "mib": moved >> 20,
           "us_per_version": round(each), "memory_mib": cluster.memory()}
    print(f"{files:>8} files  {what:<5} {seconds:8.2f} s  {versions:>8} versions  {moved >> 20:>7} MiB  {each:7.0f} us each"
          f"  memory MiB {row['memory_mib']}", flush=True)
    return row


def bench(work, files, args):
    cluster = Cluster(work, args.servers, args.replicas)
    try:
        began = time.monotonic()
        fill(os.path.join(cluster.mount, "files"), files, args.bytes)
        print(f"{files:>8} files  filled in {time.monotonic() - began:.1f} s", flush=True)
        up = lambda: run(DGFS, "up", cluster.directory)
        rows = [measure(cluster, "add", files, lambda: run(DGFS, "up", "--add", cluster.directory),
                        lambda: not cluster.settled())]

        def miss():
            cluster.kill("stored-1")
            wait_for("a server is down", lambda: any(one["state"] == "down" for one in cluster.servers()), 60)
            fill(os.path.join(cluster.mount, "more"), max(files // 100, 1), args.bytes)
            up()

        rows.append(measure(cluster, "back", files, miss, lambda: True))

        def lose():
            cluster.kill("stored-2")
            shutil.rmtree(os.path.join(cluster.directory, "stored-2"))

        rows.append(measure(cluster, "lost", files, lose,
                            lambda: any(one["state"] == "out" for one in cluster.servers())))
        return rows
    finally:
        cluster.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", default="5000,20000")
    parser.add_argument("--bytes", type=int, default=64 << 10)
    parser.add_argument("--servers", type=int, default=5)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--json", help="write the figures here too")
    args = parser.parse_args()
    rows = []
    for files in map(int, args.files.split(",")):
        with tempfile.TemporaryDirectory(prefix="dgfs-storage-") as work:
            rows += bench(work, files, args)
    if args.json:
        with open(args.json, "w") as out:
            json.dump(rows, out, indent=1)


if __name__ == "__main__":
    main()
