#!/usr/bin/env python3
"""What it costs that every call is counted and timed: the rows of `./run bench`, with and without, in one run.

    ./run bench-instruments [--quick] [--only NAME,…] [--rounds N] [--json FILE]

The same program twice, once with DGFS_INSTRUMENTS=off, embedded and as a cluster on loopback. Each row is measured on both by
turns, N times, first one and then the other first. The numbers of the cluster with
instruments are fetched every five seconds, as Prometheus does.
Printed for each row: the median of the rounds' ratios on/off of processor time of all DGFS processes, and of the time that
passed; below, the geometric mean of each over all rows, with the least and greatest of the rounds' means.
"""

import argparse
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import run as bench

VARIABLE = "DGFS_INSTRUMENTS"
SCRAPE_S = 5
TICKS = os.sysconf("SC_CLK_TCK")


class Environment:
    """While it lasts, processes that are started have instruments or not."""

    def __init__(self, on):
        self.on = on

    def __enter__(self):
        if not self.on:
            os.environ[VARIABLE] = "off"

    def __exit__(self, *_):
        os.environ.pop(VARIABLE, None)


class Side:
    """A system with or without instruments. What starts processes goes through here."""

    def __init__(self, kind, work, on):
        self.on = on
        self.work = os.path.join(work, f"{kind.name}-{'on' if on else 'off'}")
        os.makedirs(self.work)
        with Environment(on):
            self.system = kind(self.work)

    @property
    def path(self):
        return self.system.path

    @property
    def name(self):
        return self.system.name

    def remount(self):
        with Environment(self.on):
            self.system.remount()

    def cpu(self):
        """Seconds of processor time that its DGFS processes used so far."""
        return sum(cpu_of(pid) for role, pid in self.system.pids().items() if role != "redis")


def settle(pair):
    """Waits until neither side works on anything any more, such as an index that follows what was just done."""
    def is_still():
        before = sum(side.cpu() for side in pair)
        time.sleep(0.3)
        return sum(side.cpu() for side in pair) - before <= 2 / TICKS
    bench.wait_for("that nothing is worked on", is_still, 120)


def cpu_of(pid):
    """Nanoseconds are in schedstat of each thread; those of threads that ended are lost there, so stat's ticks are taken."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Scraper(threading.Thread):
    """Fetches the numbers of a system as Prometheus would."""

    def __init__(self, addresses):
        super().__init__(daemon=True)
        self.addresses = addresses
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(SCRAPE_S):
            for address in self.addresses:
                with urllib.request.urlopen(f"http://{address}/metrics", timeout=SCRAPE_S) as answer:
                    answer.read()


class Pairs:
    def __init__(self, options, work, kinds):
        self.options = options
        self.bench = bench.Bench(argparse.Namespace(quick=options.quick, only=options.only), work)
        self.pairs = [(Side(kind, work, True), Side(kind, work, False)) for kind in kinds]
        self.figures = {}
        self.amounts = {}
        self.round = 0

    def row(self, name, unit, measure, _systems, prepare=None):
        if not self.bench.wanted(name):
            return
        for pair in self.pairs:
            try:
                self.compare((name, unit), measure, pair, prepare)
            except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
                print(f"  {name} on {pair[0].name}: {error} {getattr(error, 'stderr', '')}", file=sys.stderr)

    def compare(self, name_unit, measure, pair, prepare):
        (name, unit), spent = name_unit, {}
        for side in pair if self.round % 2 == 0 else reversed(pair):
            if prepare:
                prepare(side)
            settle(pair)
            cpu, begin = side.cpu(), time.perf_counter()
            amount = measure(side)
            # What was put off belongs to it.
            os.sync()
            # Some rows do as much as they can in a given time.
            of = self.amounts.setdefault((side.name, name), amount) / amount if unit != "s" else 1
            spent[side.on] = ((side.cpu() - cpu) * of, (time.perf_counter() - begin) * of)
        self.figures.setdefault((pair[0].name, name), []).append((spent[True], spent[False]))

    def run(self):
        self.bench.row = self.row
        for self.round in range(self.options.rounds):
            self.bench.all([])
            print(f"round {self.round + 1} of {self.options.rounds} done", file=sys.stderr, flush=True)
            for pair in self.pairs:
                for side in pair:
                    for entry in os.scandir(side.path):
                        if entry.is_dir(follow_symlinks=False):
                            shutil.rmtree(entry.path)
                        else:
                            os.remove(entry.path)

    def report(self):
        rows = []
        for (system, name), rounds in self.figures.items():
            ratios = [[ratio(on[at], off[at]) for on, off in rounds] for at in (0, 1)]
            rows.append({"system": system, "row": name, "cpu": ratios[0], "time": ratios[1],
                         "cpu_s": [off[0] for _, off in rounds]})
            cpu, passed = (median(values) for values in ratios)
            print(f"{system:<14} {name:<28} processor time {cpu}  time {passed}")
        for system in {row["system"] for row in rows}:
            # All rows of a round together: a row of some milliseconds of processor time says nothing by itself.
            rounds = range(self.options.rounds)
            of = [figures for (name, _), figures in self.figures.items() if name == system]
            for at, what in ((0, "processor time"), (1, "time")):
                totals = [ratio(sum(row[n][0][at] for row in of), sum(row[n][1][at] for row in of)) for n in rounds]
                means = [geometric([r for row in of if (r := ratio(row[n][0][at], row[n][1][at]))]) for n in rounds]
                print(f"{system}: {what} of all rows {spread(totals)}, geometric mean of the rows {spread(means)}")
        return rows


def ratio(on, off):
    """None where there is too little to compare."""
    return on / off if off >= 0.05 else None


def median(values):
    values = [value for value in values if value is not None]
    return f"{statistics.median(values):.3f}" if values else "–"


def geometric(values):
    return math.exp(statistics.fmean(map(math.log, values))) if values else None


def spread(values):
    values = [value for value in values if value]
    if not values:
        return "–"
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def addresses(side):
    """Where the numbers of a cluster's daemons are (`meta-1.toml`, `stored-1.toml`, …)."""
    found = []
    directory = getattr(side.system, "dir", None)
    for name in sorted(os.listdir(directory)) if directory else []:
        if name.endswith(".toml") and name.rpartition("-")[2].removesuffix(".toml").isdigit():
            with open(os.path.join(directory, name)) as lines:
                found += [line.split('"')[1] for line in lines if line.startswith("metrics_listen")]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the sizes")
    parser.add_argument("--only", default="", help="rows whose names contain one of these words")
    parser.add_argument("--systems", default="dgfs,dgfs-cluster")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="write the ratios here too")
    options = parser.parse_args()
    work = tempfile.mkdtemp(prefix="dgfs-bench.")
    kinds = {kind.name: kind for kind in (bench.Embedded, bench.Cluster)}
    pairs = None
    try:
        pairs = Pairs(options, work, [kinds[name] for name in options.systems.split(",")])
        scraped = [address for on, _ in pairs.pairs for address in addresses(on)]
        scraper = Scraper(scraped)
        scraper.start()
        pairs.run()
        scraper.ended.set()
        rows = pairs.report()
        if options.json:
            with open(options.json, "w") as out:
                json.dump(rows, out, indent=1)
    finally:
        for side in [side for pair in (pairs.pairs if pairs else []) for side in pair]:
            try:
                side.system.stop()
            except (OSError, subprocess.CalledProcessError) as error:
                print(f"stopping {side.name}: {error}", file=sys.stderr)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
