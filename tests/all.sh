#!/usr/bin/env bash
# All tests, one heavy thing at a time: form, unit and integration tests, then the suites on an embedded mount and on a
# QUIC + Redis one. DGFS_BIN names the binary; DGFS_LONG=1 takes the long forms.
set -uo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 2
failed=()
step() { # NAME COMMAND…
  local name=$1 start=$SECONDS
  shift
  echo "=== $name"
  if "$@"; then echo "=== $name: ok, $((SECONDS - start)) s"; else
    echo "=== $name: FAILED, $((SECONDS - start)) s"
    failed+=("$name")
  fi
}
# The short form draws the model's operations from a fixed seed, so that a red run means a change; the long form draws anew.
if [ "${DGFS_LONG:-0}" = 1 ]; then limit=24h; else limit=50m; export DGFS_MODEL_SEED=${DGFS_MODEL_SEED:-20261122}; fi
programs=$(mktemp)
trap 'rm -f "$programs"' EXIT
build() { tests/build.py >"$programs"; }
# The tests of the crates, each program in its package's directory, as cargo would.
crates() {
  local bad=0 directory program
  while IFS=$'\t' read -r directory program; do
    [[ $directory = "$top/tests" && $program = */all-* ]] && continue
    echo "--- ${program##*/}"
    (cd "$directory" && "$program" --test-threads=2) || bad=1
  done <"$programs"
  return $bad
}
export -f crates
export programs top
# Whole systems: see groups.py.
whole() { (cd tests && ./groups.py "$(awk -F '\t' -v "of=$top/tests" '$1 == of && $2 ~ /\/all-/ { print $2 }' "$programs")"); }
export -f whole
step format cargo fmt --all --check
step build build
step clippy cargo clippy --quiet --workspace --all-targets --release --locked -- -D warnings
step crates timeout $limit bash -c crates
step whole-system timeout $limit bash -c whole
step suites-embedded timeout $limit tests/suites/on-mount.sh embedded
step suites-cluster timeout $limit tests/suites/on-mount.sh cluster
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}"
  exit 1
fi
echo "all steps passed"
