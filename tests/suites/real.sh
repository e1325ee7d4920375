#!/bin/bash
# real.sh MOUNT [small|large]
# Real input on the mount, each thing compared with a copy on the local disk: a source tree (the crates this machine builds with;
# large: all of them, 10,000 files and more) extracted and compared by checksum, cp -a, rsync -aHAX and tar with hard links, ACLs,
# xattrs, owners and times, git (clone, fsck, status, gc) of that tree, a Rust build, SQLite in WAL mode with a writer that is
# killed, a file of 4 GiB (small: 256 MiB), rm -rf.
#   TREE     another source tree to use        ONLY="name name" limits it (what a step needs of an earlier one must be there)
#   REMOUNT  a command that mounts MOUNT anew: contents are then compared from storage and not from caches
# Last line: "real: passed N failed M"
set -u
[ $# -ge 1 ] || { sed -n 2,10p "$0"; exit 2; }
top=$(cd "$(dirname "$0")/../.." && pwd)
m=$(realpath "$1") size=${2:-small}
case $size in small) crates=25 mib=256 kills=4 ;; large) crates=100000 mib=4096 kills=25 ;; *) echo "small or large, not $size"; exit 2 ;; esac
tree=${TREE:-$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/ 2>/dev/null | head -1)}
[ -d "$tree" ] || { echo "no source tree: build DGFS first, or set TREE"; exit 2; }
l=$(mktemp -d "${TMPDIR:-/tmp}/dgfs-real.XXXXXX")
d=$m/real.$$
mkdir "$d" || exit 2
trap 'rm -rf "$l"' EXIT
export LC_ALL=C GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=n GIT_CONFIG_KEY_1=user.email GIT_CONFIG_VALUE_1=a@b
echo "on: $(df --output=source,fstype "$m" | tail -1), $size"
P=0 F=0
remount() {
  [ -n "${REMOUNT:-}" ] || return 0
  local try
  # A process that was just killed may still be giving its files back.
  for try in 1 2 3 4 5 6 7 8; do
    (cd / && eval "$REMOUNT") >>"$l/remount" 2>&1 && return 0
    fuser -vm "$m" >>"$l/remount" 2>&1
    sleep 0.5
  done
  tail -20 "$l/remount"; echo "the mount does not come back"
  return 1
}
t() { # NAME FUNCTION: runs it with set -e in the work directory
  local name=$1 start=$SECONDS
  case " ${ONLY:-$name} " in *" $name "*) ;; *) return 0 ;; esac
  cd / && remount
  # Not as the condition of an `if`: there set -e has no effect.
  (set -eu; cd "$d"; "$2") >"$l/$name.log" 2>&1
  if [ $? = 0 ]; then
    P=$((P + 1)); echo "pass $name $((SECONDS - start)) s $(sed -n 's/^# //p' "$l/$name.log" | tail -1)"
  else
    F=$((F + 1)); echo "FAIL $name $((SECONDS - start)) s: $(tail -5 "$l/$name.log" | tr '\n' '|' | cut -c1-400)"
  fi
}
anew() { cd / && remount && cd "$d"; }
# What a tree is, a line each: kind, mode, owner, size (not of directories), links, time (rsync sets none of FIFOs and devices),
# target; then xattrs, ACLs, contents.
facts() { # TREE
  (cd "$1" && find . -type d -printf '%p %y %m %U:%G %T@\n' -o -type f,l -printf '%p %y %m %U:%G %s %n %T@ %l\n' \
    -o -printf '%p %y %m %U:%G %n\n' | sort
    find . -not -type l -print0 | sort -z | xargs -0 getfattr -h -d -m '^(user|trusted)\.' -e hex --absolute-names
    find . -not -type l -print0 | sort -z | xargs -0 getfacl -n --absolute-names
    find . -type f -print0 | sort -z | xargs -0 sha256sum)
}

extract() {
  (cd "$tree" && find . -mindepth 1 -maxdepth 1 | sort | head -n $crates >"$l/crates" && tar cf "$l/tree.tar" -T "$l/crates"
    xargs -a "$l/crates" -I{} find {} -type f -print0 | xargs -0 sha256sum >"$l/sums")
  echo "# $(wc -l <"$l/sums") files, $(du -m "$l/tree.tar" | cut -f1) MiB"
  [ $size = small ] || [ "$(wc -l <"$l/sums")" -ge 10000 ]
  mkdir tree && tar xf "$l/tree.tar" -C tree
  anew
  (cd tree && sha256sum --quiet -c "$l/sums")
  [ "$(find tree -type f | wc -l)" = "$(wc -l <"$l/sums")" ]
  tar df "$l/tree.tar" -C tree
}
copy() {
  cp -a tree copy
  anew
  diff -r --no-dereference tree copy
  rm -rf copy && [ ! -e copy ]
}
# A tree with everything a copy may lose.
special() { # WHERE
  mkdir -p "$1/sub/deep" "$1/empty"
  local i
  for i in $(seq 200); do head -c $((i * i * 7 % 90000)) /dev/urandom >"$1/sub/f$i"; done
  for i in $(seq 1 10 200); do ln "$1/sub/f$i" "$1/sub/deep/link$i"; ln -s "../f$i" "$1/sub/deep/sym$i"; done
  for i in $(seq 2 10 200); do
    chown $i:$((i + 1)) "$1/sub/f$i"; chmod $((i % 8))$((i % 7))44 "$1/sub/f$i"
    setfattr -n user.note -v "value $i" "$1/sub/f$i"; setfattr -n trusted.t -v 0x00ff$(printf %02x $i) "$1/sub/f$i"
    setfacl -m u:$i:rw,g:$((i + 5)):r "$1/sub/f$i"
  done
  setfacl -d -m u:1000:rwx "$1/sub/deep"
  setfattr -n user.xdg.tags -v a,b "$1/empty"
  mkfifo "$1/sub/fifo"; mknod "$1/sub/null" c 1 3; ln -s nowhere "$1/dangling"
  truncate -s 10M "$1/sub/sparse"; printf x | dd of="$1/sub/sparse" bs=1 seek=7000000 conv=notrunc status=none
  printf y >"$1/$(printf 'odd\nname \xff')"
  touch -h -d '1999-12-31 23:59:59.123456789' "$1/sub/f7" "$1/dangling" "$1/empty"
}
# -@-1: rsync takes times of one second for equal otherwise.
by_rsync() {
  special "$l/special"
  rsync -aHAX -@-1 --numeric-ids "$l/special/" here/
  anew
  diff <(facts "$l/special") <(facts here)
  [ -z "$(rsync -aHAXn -@-1 --numeric-ids --checksum --delete --itemize-changes "$l/special/" here/)" ]
  rsync -aHAX -@-1 --numeric-ids here/ "$l/back/"
  diff <(facts "$l/special") <(facts "$l/back")
  cp -a here here2
  diff <(facts here) <(facts here2)
  rm -rf here2
}
by_tar() {
  [ -d "$l/special" ] || special "$l/special"
  tar --numeric-owner --xattrs --xattrs-include='*' --acls -C "$l/special" -cf all.tar .
  mkdir untarred && tar --numeric-owner --same-owner -p --xattrs --xattrs-include='*' --acls -C untarred -xf all.tar
  anew
  diff <(facts "$l/special") <(facts untarred)
  tar --numeric-owner --xattrs --xattrs-include='*' --acls -C untarred -cf - . >"$l/again.tar"
  mkdir "$l/untarred" && tar --numeric-owner --same-owner -p --xattrs --xattrs-include='*' --acls -C "$l/untarred" -xf "$l/again.tar"
  diff <(facts "$l/special") <(facts "$l/untarred")
}
by_git() {
  # The crates' own ignore files must not leave anything out.
  git init -q "$l/repository" && tar xf "$l/tree.tar" -C "$l/repository"
  (cd "$l/repository" && git add -Af . && git commit -qm all)
  git clone -q --no-hardlinks "$l/repository" clone
  anew
  git -C clone fsck --full --strict; [ -z "$(git -C clone status --porcelain)" ]
  (cd clone && sha256sum --quiet -c "$l/sums")
  (cd clone && git gc -q --prune=now && git fsck --full) && [ -z "$(git -C clone status --porcelain)" ]
  # A history, too: this project's, where its sources are a repository.
  if git -C "$top" rev-parse -q --verify HEAD >/dev/null; then
    git clone -q "file://$top" project
    git -C project fsck --full; [ -z "$(git -C project status --porcelain)" ]
    [ "$(git -C project rev-parse "HEAD^{tree}")" = "$(git -C "$top" rev-parse "HEAD^{tree}")" ]
    echo "# $(git -C clone ls-files | wc -l) files; a history of $(git -C project rev-list --count HEAD) commits"
  fi
  rm -rf clone "$l/repository"
}
by_cargo() {
  mkdir build && (cd "$top" && tar cf - --exclude=./target --exclude=./.git .) | tar xf - -C build
  cd build
  local crate=dgfs-proto
  [ $size = small ] || crate=dgfs-runtime
  CARGO_TARGET_DIR=$PWD/target cargo build --quiet --offline --locked -p $crate
  anew
  cd build
  # Nothing to do: the times that Cargo compares are the ones it saw.
  CARGO_TARGET_DIR=$PWD/target cargo build --offline --locked -p $crate 2>&1 | tee "$l/second" | tail -1
  grep -q Finished "$l/second"
  if grep -q Compiling "$l/second"; then return 1; fi
  CARGO_TARGET_DIR=$PWD/target cargo test --quiet --offline --locked -p dgfs-proto
  echo "# $crate and its dependencies; the tests of dgfs-proto; $(find target -type f | wc -l) files, $(du -sm target | cut -f1) MiB"
  cd .. && rm -rf build
}
by_sqlite() {
  cat >"$l/writer.py" <<'Q'
import os, sqlite3, sys
b = sqlite3.connect("wal.db", isolation_level=None, timeout=60)
b.execute("pragma journal_mode=wal"); b.execute("pragma synchronous=full")
b.execute("create table if not exists t(a integer primary key, b blob)")
n = b.execute("select coalesce(max(a), 0) from t").fetchone()[0]
out = open(sys.argv[1], "a")
while True:
    b.execute("begin")
    for _ in range(1 + n % 5):
        n += 1; b.execute("insert into t values (?, ?)", (n, bytes([n % 251]) * (n * 37 % 9000)))
    b.execute("commit")
    out.write("%d\n" % n); out.flush()
Q
  local round
  : >"$l/done"
  for round in $(seq $kills); do
    local before writer
    before=$(wc -l <"$l/done")
    python3 "$l/writer.py" "$l/done" & writer=$!
    for _ in $(seq 600); do [ "$(wc -l <"$l/done")" -gt "$before" ] && break; sleep 0.1; done
    sleep "0.$((RANDOM % 10))$((RANDOM % 10))"
    kill -9 $writer 2>/dev/null; wait $writer 2>/dev/null || true
    [ $((round % 2)) = 0 ] || anew
    python3 - "$(tail -n1 "$l/done")" <<'Q'
import sqlite3, sys
b = sqlite3.connect("wal.db"); last = int(sys.argv[1] or 0)
assert b.execute("pragma integrity_check").fetchone()[0] == "ok"
n = 0
for a, data in b.execute("select a, b from t order by a"):
    n += 1; assert a == n and data == bytes([n % 251]) * (n * 37 % 9000), n
assert n >= last, (n, last)
Q
  done
  echo "# $kills kills, $(tail -n1 "$l/done") rows"
  [ "$(tail -n1 "$l/done")" -gt 0 ]
}
large_file() {
  # Any bytes that do not repeat: a stream of a cipher.
  local bytes=$((mib << 20))
  openssl enc -aes-128-ctr -pass pass:x -nosalt -pbkdf2 </dev/zero 2>/dev/null | head -c $bytes | tee large | sha256sum >"$l/large"
  [ "$(stat -c %s large)" = $bytes ]
  anew
  sha256sum <large | cmp - "$l/large"
  cp large large2 && cmp large large2
  truncate -s $((bytes / 2 + 1)) large2 && cmp -n $((bytes / 2 + 1)) large large2
  echo "# $mib MiB"
  rm large large2
}
remove() {
  anew
  echo "# $(find . | wc -l) entries"
  cd "$m" && rm -rf "$d" && [ ! -e "$d" ] && mkdir "$d"
}

t extract extract
t cp-a copy
t rsync-aHAX by_rsync
t tar by_tar
t git by_git
t rust-build by_cargo
t sqlite-wal by_sqlite
t large-file large_file
t rm-rf remove
cd / && remount
rmdir "$d" || { F=$((F + 1)); echo "FAIL removing the work directory"; }
echo "real: passed $P failed $F"
[ $F = 0 ]
