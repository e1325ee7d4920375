#!/usr/bin/env python3
"""What instruments cost in instructions: the same work with and without them, every instruction of DGFS counted.

    ./run bench-instructions [--files N] [--rounds N] [--systems dgfs,dgfs-cluster] [--profile DIRECTORY]

Processor time on a shared machine differs from one second to the next by more than what is looked for; instructions do not. All
DGFS processes run below valgrind's callgrind (some fifty times slower), which counts while the work is done: N files of 4 KiB are
created and written, looked at, read again after a new mount, renamed, and removed, and a file of 16 MiB is written and read; until
the index has followed; taggers are paused. What all of them do by time alone (heartbeats, looks at the cluster) takes fifty times its
share here, because the work takes so long: it is counted for a while in which nothing is asked, and taken off. What the kernel does is not counted: of all that a call costs, instruments are a smaller part than is said here.
Printed: instructions with and without (DGFS_INSTRUMENTS=off), and their ratio, by system. With --profile, callgrind's files are
kept there, for callgrind_annotate.
"""

import argparse
import glob
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import run as bench

BIG = 16 << 20
# For so long nothing is asked.
IDLE_S = 30
# Everything is slow below valgrind.
PATIENCE_S = 300


class Counted:
    """DGFS processes below callgrind."""

    def __init__(self, work, on):
        self.work = work
        self.processes = {}
        self.counted_s = 0.0
        self.counted_since = None
        self.env = dict(os.environ) if on else os.environ | {"DGFS_INSTRUMENTS": "off"}

    def start(self, role, *words):
        out = os.path.join(self.work, f"callgrind.{role}.{len(self.processes)}")
        with open(out + ".log", "w") as log:
            self.processes[role] = subprocess.Popen(
                ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}", bench.DGFS, *words],
                env=self.env, stdout=log, stderr=subprocess.STDOUT)

    def stop(self, role):
        process = self.processes.pop(role)
        process.terminate()
        process.wait(PATIENCE_S)

    def count(self, on):
        for process in self.processes.values():
            bench.run("callgrind_control", "-i", "on" if on else "off", process.pid)
        if on:
            self.counted_since = time.monotonic()
        else:
            self.counted_s += time.monotonic() - self.counted_since

    def written(self):
        """Instructions counted so far."""
        for process in self.processes.values():
            bench.run("callgrind_control", "-d", process.pid)
        return self.total()

    def idle(self):
        """Instructions in a second in which nothing is asked."""
        before, counted_s = self.written(), self.counted_s
        self.count(True)
        time.sleep(IDLE_S)
        self.count(False)
        idle = (self.written() - before) / (self.counted_s - counted_s)
        self.counted_s = counted_s
        return idle

    def total(self):
        """Instructions that were written down."""
        total = 0
        for path in glob.glob(os.path.join(self.work, "callgrind.*")):
            if not path.endswith(".log"):
                with open(path) as file:
                    total += sum(int(n) for n in re.findall(r"^totals: (\d+)", file.read(), re.MULTILINE))
        return total


class Embedded(Counted):
    name = "dgfs"

    def __init__(self, work, on):
        super().__init__(work, on)
        self.path = os.path.join(work, "mounted")
        os.makedirs(self.path)
        self.mount()

    def words(self):
        return ("--data-dir", os.path.join(self.work, "data"))

    def mount(self):
        self.start("mount", "mount", *self.words(), self.path)
        bench.wait_for("the mount", self.is_mounted, PATIENCE_S)
        # Taggers are processes of their own, which cannot be started below valgrind.
        bench.run(bench.DGFS, "tagger", "pause", "--in", self.path)

    def is_mounted(self):
        if self.processes["mount"].poll() is not None:
            raise RuntimeError(f"the mount ended: look into {self.work}")
        return os.path.ismount(self.path)

    def umount(self):
        bench.run(bench.DGFS, "umount", self.path)
        self.processes.pop("mount").wait(PATIENCE_S)

    def end(self):
        self.umount()


class Cluster(Embedded):
    name = "dgfs-cluster"

    def __init__(self, work, on):
        self.redis = bench.Redis(os.path.join(work, "redis"))
        self.dir = os.path.join(work, "cluster")
        # Made by `up`, stopped, and started again below valgrind.
        bench.run(bench.DGFS, "up", "--servers", 1, "--redis", self.redis.url(), "--durability", "everysec", self.dir)
        bench.run(bench.DGFS, "down", self.dir)
        super().__init__(work, on)

    def words(self):
        return ("--config", os.path.join(self.dir, "client.toml"))

    def mount(self):
        if "meta" not in self.processes:
            for role in ("meta", "stored", "index"):
                self.start(role, role, "--config", os.path.join(self.dir, f"{role}-1.toml"))
            bench.wait_for("the cluster", self.is_up, PATIENCE_S)
        super().mount()

    def is_up(self):
        words = [bench.DGFS, "server", "ls", "--config", os.path.join(self.dir, "client.toml")]
        return subprocess.run(words, capture_output=True).returncode == 0

    def end(self):
        super().end()
        for role in ("index", "stored", "meta"):
            self.stop(role)
        self.redis.stop()


def work_on(system, files):
    """The row of operations, counted. The mount in between is not."""
    system.count(True)
    names = [os.path.join(system.path, f"file-{n}") for n in range(files)]
    for name in names:
        with open(name, "wb") as file:
            file.write(os.urandom(4096))
    with open(os.path.join(system.path, "big"), "wb") as file:
        for _ in range(BIG >> 20):
            file.write(os.urandom(1 << 20))
        os.fsync(file.fileno())
    for name in names:
        os.stat(name)
    bench.run(bench.DGFS, "index", "wait", system.path)
    system.count(False)
    system.umount()
    bench.drop_caches()
    system.mount()
    system.count(True)
    for name in [*names, os.path.join(system.path, "big")]:
        with open(name, "rb") as file:
            while file.read(1 << 20):
                pass
    for name in names:
        os.rename(name, name + "-renamed")
    for name in names:
        os.unlink(name + "-renamed")
    bench.run(bench.DGFS, "index", "wait", system.path)
    system.count(False)


def measure(kind, on, options):
    directory = tempfile.mkdtemp(prefix="dgfs-bench.")
    system = None
    try:
        system = kind(directory, on)
        work_on(system, options.files)
        work, idle = system.written(), system.idle()
        by_time = idle * system.counted_s
        print(f"{kind.name} {'with' if on else 'without'} instruments: {work / 1e6:.1f} million in {system.counted_s:.0f} s, "
              f"of them {by_time / 1e6:.1f} by time", file=sys.stderr)
        system.end()
        total = work - by_time
        if options.profile:
            for path in glob.glob(os.path.join(directory, "callgrind.*")):
                shutil.copy(path, os.path.join(options.profile, f"{kind.name}-{'on' if on else 'off'}-{os.path.basename(path)}"))
        return total
    finally:
        if system is not None:
            subprocess.run(["umount", "--lazy", system.path], stderr=subprocess.DEVNULL)
            for process in system.processes.values():
                process.kill()
                process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=300, help="small files (default 300)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", default="dgfs,dgfs-cluster")
    parser.add_argument("--profile", help="keep callgrind's files here")
    options = parser.parse_args()
    if options.profile:
        os.makedirs(options.profile, exist_ok=True)
    kinds = {kind.name: kind for kind in (Embedded, Cluster)}
    for name in options.systems.split(","):
        ratios = []
        for turn in range(options.rounds):
            began = time.monotonic()
            counts = {}
            for on in (True, False) if turn % 2 == 0 else (False, True):
                counts[on] = measure(kinds[name], on, options)
            ratios.append(counts[True] / counts[False])
            print(f"{name}: with instruments {counts[True] / 1e6:.1f} million instructions, without {counts[False] / 1e6:.1f}: "
                  f"{ratios[-1]:.4f}", flush=True)
            print(f"round {turn + 1} took {time.monotonic() - began:.0f} s", file=sys.stderr)
        print(f"{name}: instructions with/without {statistics.median(ratios):.4f} ({min(ratios):.4f} to {max(ratios):.4f})", flush=True)


if __name__ == "__main__":
    main()
