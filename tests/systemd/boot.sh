#!/usr/bin/env bash
# DGFS under a real systemd: a Debian tree with Redis, two storage daemons, an index and a mount is booted in a container.
#   boot.sh BINARY
# DGFS_BOOT_TREE names a directory for the tree that is kept; without it one is made and removed. Root, systemd-nspawn and
# debootstrap are needed. The last line is "boot: all passed", and the exit code is 0, if everything was as it should be.
set -euo pipefail
binary=$(realpath "${1:?usage: boot.sh BINARY}")
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
# The guest ends by itself in a few minutes; one that does not is ended.
BOOT_SECONDS_MAX=600

die() { echo "boot: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "root is needed"
PATH=$PATH:/usr/sbin:/sbin
for program in systemd-nspawn debootstrap make; do
  command -v "$program" >/dev/null || die "$program is not installed: apt-get install systemd-container debootstrap make"
done
[ -e /dev/fuse ] || die "/dev/fuse is missing: modprobe fuse"

scratch=$(mktemp -d)
tree=${DGFS_BOOT_TREE:-$scratch/tree}
trap 'rm -rf --one-file-system "$scratch"' EXIT

if [ ! -e "$tree/usr/bin/redis-server" ]; then
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,fuse3,redis-server bookworm "$tree" >"$scratch/debootstrap.log" 2>&1 ||
    die "debootstrap: $(tail -3 "$scratch/debootstrap.log")"
fi

# What an earlier run left in a tree that is kept.
rm -rf "$tree"/etc/dgfs "$tree"/var/lib/dgfs-* "$tree"/var/lib/redis/* "$tree"/result "$tree"/etc/systemd/system/dgfs* "$tree"/etc/systemd/system/mnt-* "$tree"/var/log/journal
make --no-print-directory -C "$top" install BINARY="$binary" DESTDIR="$tree" >"$scratch/make.log" || die "make install failed"

# Keys and configurations, as an operator would put them.
"$binary" cluster init "$scratch/cluster" >/dev/null
for part in meta stored-a stored-b index client; do
  cp -r "$scratch/cluster/certs/${part%-?}" "$tree/etc/dgfs/$part"
done
chown -R root:root "$tree/etc/dgfs"
metas='meta = ["127.0.0.1:7440"]'
cat >"$tree/etc/dgfs/meta.toml" <<'END'
listen = "127.0.0.1:7440"
identity = "$CREDENTIALS_DIRECTORY"
metrics_listen = "127.0.0.1:9520"
[engine.redis]
url = "redis://127.0.0.1:6379/0"
volume = "main"
durability = "always"
END
port=7442
for disk in a b; do
  printf 'dir = "/var/lib/dgfs-stored/%s"\nlisten = "127.0.0.1:%s"\n%s\nidentity = "$CREDENTIALS_DIRECTORY"\nlabel = "%s"\n' \
    "$disk" "$port" "$metas" "$disk" >"$tree/etc/dgfs/stored-$disk.toml"
  port=$((port + 1))
done
printf 'dir = "/var/lib/dgfs-index/index"\nlisten = "127.0.0.1:7450"\n%s\nidentity = "$CREDENTIALS_DIRECTORY"\n' "$metas" >"$tree/etc/dgfs/index.toml"
printf '%s\nidentity = "/etc/dgfs/client"\n' "$metas" >"$tree/etc/dgfs/client.toml"
chmod 600 "$tree"/etc/dgfs/*.toml
mkdir -p "$tree/mnt/graph"
sed -i 's/^appendonly .*/appendonly yes/; s/^appendfsync .*/appendfsync always/' "$tree/etc/redis/redis.conf"

# The volume is made once Redis runs and before the metadata service does.
cat >"$tree/etc/systemd/system/dgfs-format.service" <<'END'
[Unit]
After=redis-server.service
Requires=redis-server.service
Before=dgfs-meta.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/dgfs format --redis redis://127.0.0.1:6379/0 --servers 2 --replicas 2
[Install]
WantedBy=dgfs.target
END
# One daemon with a short patience, so that the watchdog is seen to bark.
mkdir -p "$tree/etc/systemd/system/dgfs-stored@b.service.d"
printf '[Service]\nWatchdogSec=3s\n' >"$tree/etc/systemd/system/dgfs-stored@b.service.d/patience.conf"
install -m 0755 "$here/guest.sh" "$tree/usr/local/bin/dgfs-boot-check"
cat >"$tree/etc/systemd/system/dgfs-boot-check.service" <<'END'
[Unit]
After=dgfs.target multi-user.target
SuccessAction=poweroff
FailureAction=poweroff
[Service]
Type=oneshot
TimeoutStartSec=8min
ExecStart=/usr/local/bin/dgfs-boot-check
StandardOutput=append:/result
StandardError=append:/result
[Install]
WantedBy=default.target
END
systemctl --root="$tree" --quiet enable redis-server.service dgfs.target dgfs-format.service dgfs-meta.service \
  dgfs-stored@a.service dgfs-stored@b.service dgfs-index.service "dgfs-mount@mnt-graph.service" dgfs-boot-check.service
systemctl --root="$tree" --quiet set-default multi-user.target

# A network of its own: its ports are nobody else's. Nothing of this machine's systemd, which may not run, is needed.
timeout --kill-after=10 "$BOOT_SECONDS_MAX" systemd-nspawn --quiet --directory="$tree" --register=no --keep-unit --private-network \
  --bind=/dev/fuse --kill-signal=SIGRTMIN+3 --console=pipe --boot </dev/null >"$scratch/console.log" 2>&1 || true
if [ ! -s "$tree/result" ]; then
  tail -40 "$scratch/console.log" >&2
  die "the guest came to no result"
fi
cat "$tree/result"
[ "$(tail -n 1 "$tree/result")" = "boot: all passed" ]
