#!/usr/bin/env python3
"""build.py: builds the workspace once (binaries, tests, examples: one set of features) and prints a line for each test program:
its package's directory, a tab, the program. What the compiler says goes to standard error. Exit code: cargo's."""
import json
import os
import subprocess
import sys

COMMAND = ["cargo", "build", "--release", "--locked", "--workspace", "--all-targets", "--message-format=json-render-diagnostics"]
cargo = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True)
for line in cargo.stdout:
    message = json.loads(line)
    if message.get("executable") and message.get("profile", {}).get("test"):
        print(os.path.dirname(message["manifest_path"]), message["executable"], sep="\t", flush=True)
sys.exit(cargo.wait())
