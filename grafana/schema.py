#!/usr/bin/env python3
"""schema.py DIR [DASHBOARDS]: checks dashboards against the types of Grafana's own @grafana/schema with the TypeScript compiler, which npm
installs into DIR (26 MB, once). Says which field is unknown, missing or of another type. Exit code 0: all are valid."""
import glob
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGES = ["@grafana/schema@13.2.3", "typescript@5.9.3"]
# Enumerations are written as their values in JSON; everything else stays as strict as it is.
PLAIN = """import type {{ Dashboard }} from '@grafana/schema';
type Plain<T> = T extends string ? `${{T}}` : T extends number | boolean | null | undefined ? T
  : T extends Array<infer U> ? Array<Plain<U>> : T extends object ? {{ [K in keyof T]: Plain<T[K]> }} : T;
export const dashboard: Plain<Dashboard> = {json};
"""


def main():
    room = os.path.abspath(sys.argv[1])
    os.makedirs(room, exist_ok=True)
    compiler = os.path.join(room, "node_modules", ".bin", "tsc")
    if not os.path.exists(compiler) or not os.path.isdir(os.path.join(room, "node_modules", "@grafana", "schema")):
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", room, *PACKAGES], check=True)
    files = []
    for source in sorted(glob.glob(os.path.join(sys.argv[2] if len(sys.argv) > 2 else os.path.join(HERE, "dashboards"), "*.json"))):
        file = os.path.join(room, os.path.basename(source).removesuffix(".json") + ".ts")
        with open(source, encoding="utf-8") as read, open(file, "w", encoding="utf-8") as write:
            write.write(PLAIN.format(json=read.read()))
        files.append(file)
    words = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext", "--moduleResolution", "nodenext"]
    sys.exit(subprocess.run([compiler, *words, *files], cwd=room, check=False).returncode)


main()
