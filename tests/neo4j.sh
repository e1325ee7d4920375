#!/usr/bin/env bash
# Brings Neo4j Community from Maven Central under target/neo4j, once, and prints its class path.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
place=${CARGO_TARGET_DIR:-$here/../target}/neo4j
mkdir -p "$place"
place=$(cd "$place" && pwd)
# One at a time: two test programs may ask at once.
exec 9>"$place/lock"
flock 9
stamp="$place/$(cat "$here/neo4j/pom.xml" "$here/neo4j/ServeNeo4j.java" | cksum | tr ' ' -).ready"
if [ ! -e "$stamp" ]; then
  rm -rf "$place/lib" "$place/classes" "$place"/*.ready
  mkdir -p "$place/classes"
  mvn --quiet --batch-mode --file "$here/neo4j/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$place/lib" >&2
  javac -cp "$place/lib/*" -d "$place/classes" "$here/neo4j/ServeNeo4j.java" >&2
  touch "$stamp"
fi
printf '%s\n' "$place/classes:$place/lib/*"
