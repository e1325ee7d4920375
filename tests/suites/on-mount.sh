#!/usr/bin/env bash
# on-mount.sh embedded|cluster [SUITE…]: makes a mount of its own (or two of one cluster, with a Redis server of its own),
# runs pjdfstest, fsx, fsstress, apps and real (source trees, git, builds, large files) on it, takes everything away again. Root.
# DGFS_LONG=1: minutes instead of seconds, and for `real` 10,000 files and more, and a file of 4 GiB.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kind=${1:?embedded or cluster}
shift
suites=${*:-pjdfstest fsx fsstress apps real}
dgfs=${DGFS_BIN:?the dgfs binary}
secs=20 size=small
[ "${DGFS_LONG:-0}" = 1 ] && secs=900 size=large
work=$(mktemp -d "${TMPDIR:-/tmp}/dgfs-suites.XXXXXX")
a=$work/a b=$work/b
chmod 755 "$work"
mkdir "$a" "$b"
redis=
cleanup() {
  for m in "$a" "$b"; do mountpoint -q "$m" && { "$dgfs" umount "$m" || umount -l "$m"; }; done
  [ -d "$work/cluster" ] && "$dgfs" down "$work/cluster"
  [ -n "$redis" ] && kill "$redis" 2>/dev/null && wait "$redis" 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT
if [ "$kind" = embedded ]; then
  from=(--data-dir "$work/data")
  second=
else
  port=$(python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')
  mkdir "$work/redis"
  redis-server --port "$port" --bind 127.0.0.1 --dir "$work/redis" --appendonly yes --appendfsync always --save '' \
    --maxmemory-policy noeviction >"$work/redis.log" 2>&1 &
  redis=$!
  for _ in $(seq 100); do redis-cli -p "$port" ping >/dev/null 2>&1 && break; sleep 0.1; done
  "$dgfs" up --servers 2 --redis "redis://127.0.0.1:$port" "$work/cluster" || exit 1
  from=(--config "$work/cluster/client.toml")
  second=$b
fi
"$dgfs" mount --background "${from[@]}" "$a" || exit 1
bad=0
for suite in $suites; do
  case $suite in
    pjdfstest) "$here/pjdfstest.sh" "$a" || bad=1 ;;
    fsx) "$here/fsx.sh" "$a" "$secs" || bad=1 ;;
    fsstress) "$here/fsstress.sh" "$a" "$secs" || bad=1 ;;
    apps)
      if [ -n "$second" ]; then "$dgfs" mount --background "${from[@]}" "$b" || bad=1; fi
      "$here/apps.sh" "$a" ${second:+"$b"} || bad=1
      if [ -n "$second" ]; then "$dgfs" umount "$b" || bad=1; fi
      ;;
    real)
      again=$(printf '%q ' "$dgfs" umount "$a")"&& "$(printf '%q ' "$dgfs" mount --background "${from[@]}" "$a")
      REMOUNT=$again "$here/real.sh" "$a" "$size" || bad=1
      ;;
    *) echo "no suite $suite"; bad=1 ;;
  esac
done
exit $bad
