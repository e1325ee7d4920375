#!/usr/bin/env python3
"""groups.py PROGRAM [AT_ONCE]: runs a test program's modules as processes of their own, AT_ONCE (2) of them side by side.

Inside a process tests run one at a time: a process that one test starts must not hold another test's mount busy. Two processes
do not have each other's descriptors, and most of what whole-system tests do is wait. Prints each module's output when it ends,
then the seconds that each took. Exit code: 0 when all passed."""
import concurrent.futures
import os
import subprocess
import sys
import time

# What takes longest begins first, so that both hands end together. A name that is not there any more does no harm.
FIRST = ["agreement", "model", "storage::added", "storage::coded", "storage::lost", "ancestors", "taggers", "outage"]


def module(test):
    parts = test.split("::")
    return "::".join(parts[:2]) if parts[0] == "storage" and len(parts) > 2 else parts[0]


def run(program, tests):
    start = time.monotonic()
    done = subprocess.run(
        [program, "--exact", "--test-threads=1", *tests], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    return done.returncode, time.monotonic() - start, done.stdout


def main():
    program, at_once = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2
    listed = subprocess.run([program, "--list", "--format", "terse"], stdout=subprocess.PIPE, text=True, check=True).stdout
    groups = {}
    for line in listed.splitlines():
        if line.endswith(": test"):
            test = line.removesuffix(": test")
            groups.setdefault(module(test), []).append(test)
    if not groups:
        sys.exit(f"{program} has no tests")
    order = sorted(groups, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    failed, took = [], {}
    with concurrent.futures.ThreadPoolExecutor(at_once) as hands:
        running = {hands.submit(run, program, groups[name]): name for name in order}
        for one in concurrent.futures.as_completed(running):
            code, took[running[one]], output = one.result()
            print(f"--- {running[one]}: {'ok' if code == 0 else 'FAILED'}, {took[running[one]]:.0f} s\n{output}", flush=True)
            if code != 0:
                failed.append(running[one])
    print("seconds:", ", ".join(f"{name} {took[name]:.0f}" for name in sorted(took, key=took.get, reverse=True)))
    if failed:
        sys.exit("failed: " + ", ".join(failed))


main()
