#!/usr/bin/env bash
# Runs inside of the container that boot.sh boots, once everything was started: looks whether it is as it should be, kills and
# hangs daemons, stops and starts all. Its output is the result; the last line says whether all passed.
set -uo pipefail
units=(dgfs-meta.service dgfs-stored@a.service dgfs-stored@b.service dgfs-index.service dgfs-mount@mnt-graph.service)
WAIT_SECONDS_MAX=90

say() { echo "boot: $*"; }
fail() {
  say "FAILED: $*"
  systemctl --no-pager --full status 'dgfs*' redis-server.service 2>&1 | tail -80
  journalctl --no-pager -b -o short-monotonic -u 'dgfs*' 2>&1 | tail -80
  exit 1
}
show() { systemctl show --property="$2" --value "$1"; }
until_so() { # WHAT COMMAND…
  local what=$1 end=$((SECONDS + WAIT_SECONDS_MAX))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || fail "not within $WAIT_SECONDS_MAX s: $what"
    sleep 0.1
  done
}
is_active() { [ "$(show "$1" ActiveState)" = active ]; }
is_inactive() { [ "$(show "$1" ActiveState)" = inactive ]; }
# EARLIER PROPERTY LATER PROPERTY: was the one before the other?
before() {
  local earlier later
  earlier=$(show "$1" "$2Monotonic") later=$(show "$3" "$4Monotonic")
  [ "$earlier" -gt 0 ] && [ "$later" -gt 0 ] && [ "$earlier" -le "$later" ] || fail "$1 $2 ($earlier) is not before $3 $4 ($later)"
}
restarted() { [ "$(show "$1" NRestarts)" -gt "$2" ] && is_active "$1"; }

all_started_in_order() {
  local unit disk
  for unit in "${units[@]}"; do until_so "$unit is active" is_active "$unit"; done
  before redis-server.service ActiveEnterTimestamp dgfs-meta.service InactiveExitTimestamp
  for disk in a b; do
    before dgfs-meta.service ActiveEnterTimestamp "dgfs-stored@$disk.service" InactiveExitTimestamp
    before "dgfs-stored@$disk.service" ActiveEnterTimestamp dgfs-mount@mnt-graph.service InactiveExitTimestamp
    before "dgfs-stored@$disk.service" ActiveEnterTimestamp dgfs-index.service InactiveExitTimestamp
  done
}

all_started_in_order
say "started in order: Redis, metadata, storage, index, mount"

for unit in "${units[@]}"; do
  status=$(show "$unit" StatusText)
  [ -n "$status" ] || fail "$unit says nothing of itself"
  user=$(stat -c %U "/proc/$(show "$unit" MainPID)")
  case $unit in dgfs-mount*) [ "$user" = root ] ;; *) [ "$user" = dgfs ] ;; esac || fail "$unit runs as $user"
done
say "daemons run as dgfs, the mount as root; each says what it is at"

if setpriv --reuid=nobody --regid=nogroup --clear-groups cat /run/credentials/dgfs-meta.service/key.pem >/dev/null 2>&1; then
  fail "nobody can read the key"
fi
[ -d /run/credentials/dgfs-meta.service ] || fail "there are no credentials"
say "keys are credentials that nobody else reads"

findmnt --noheadings /mnt/graph >/dev/null || fail "/mnt/graph is not mounted for others"
head -c 3000000 /dev/urandom >/mnt/graph/first && sync -f /mnt/graph/first || fail "write and sync"
sum=$(sha256sum </mnt/graph/first)
say "files are written through the mount that everybody sees"

systemctl kill --signal=KILL --kill-whom=main dgfs-stored@a.service
until_so "a killed storage daemon is started again" restarted dgfs-stored@a.service 0
[ "$(sha256sum </mnt/graph/first)" = "$sum" ] || fail "what was written reads otherwise after a kill"
say "kill -9 of a storage daemon: started again, files read as before"

systemctl kill --signal=STOP --kill-whom=main dgfs-stored@b.service
until_so "a hung storage daemon is started again" restarted dgfs-stored@b.service 0
journalctl -b -u dgfs-stored@b.service | grep -q "Watchdog timeout" || fail "it was not the watchdog"
say "SIGSTOP of a storage daemon: the watchdog ends it, started again"

mkdir -p /mnt/other
sed 's|/mnt/graph|/mnt/other|' /usr/share/doc/dgfs/examples/mnt-graph.mount >/etc/systemd/system/mnt-other.mount
systemctl daemon-reload
systemctl start mnt-other.mount || fail "the example of a mount unit does not mount"
[ "$(sha256sum </mnt/other/first)" = "$sum" ] || fail "a file reads otherwise through the mount unit"
echo "by the other" >/mnt/other/second
systemctl stop mnt-other.mount || fail "the example of a mount unit does not unmount"
[ "$(cat /mnt/graph/second)" = "by the other" ] || fail "what was written through the mount unit is lost"
say "the example of a mount unit mounts by mount.dgfs, and unmounts"

head -c 5000000 /dev/urandom >/tmp/copy
cp /tmp/copy /mnt/graph/unsynced || fail "write without a sync"
systemctl stop dgfs.target || fail "systemctl stop dgfs.target"
for unit in "${units[@]}"; do
  until_so "$unit has ended" is_inactive "$unit"
  [ "$(show "$unit" Result)" = success ] || fail "$unit ended with $(show "$unit" Result)"
done
before dgfs-mount@mnt-graph.service InactiveEnterTimestamp dgfs-stored@a.service ActiveExitTimestamp
before dgfs-mount@mnt-graph.service InactiveEnterTimestamp dgfs-stored@b.service ActiveExitTimestamp
before dgfs-stored@a.service InactiveEnterTimestamp dgfs-meta.service ActiveExitTimestamp
before dgfs-stored@b.service InactiveEnterTimestamp dgfs-meta.service ActiveExitTimestamp
! findmnt --noheadings /mnt/graph >/dev/null || fail "the mount is still there"
say "systemctl stop dgfs.target: mount, storage, metadata end in this order and in good order"

systemctl start dgfs.target || fail "systemctl start dgfs.target"
all_started_in_order
cmp /tmp/copy /mnt/graph/unsynced || fail "what was not synced before the stop is lost"
[ "$(sha256sum </mnt/graph/first)" = "$sum" ] || fail "what was synced reads otherwise"
say "systemctl start dgfs.target: everything is back, nothing lost"

echo 'listen = 5' >>/etc/dgfs/index.toml
if systemctl restart dgfs-index.service; then fail "a daemon started with a broken configuration"; fi
[ "$(show dgfs-index.service ActiveState)" = failed ] || fail "a broken configuration leads to $(show dgfs-index.service ActiveState)"
[ "$(show dgfs-index.service ExecMainStatus)" = 2 ] || fail "its exit code is $(show dgfs-index.service ExecMainStatus)"
[ "$(cat /mnt/graph/unsynced | wc -c)" = 5000000 ] || fail "the mount needs the index"
say "a broken configuration is not tried again and again"
say "all passed"
