#!/usr/bin/env python3
"""DGFS (embedded; a cluster on loopback), its peers and the local disk side by side, in one run; prints ratios to JuiceFS.

    ./run bench [--quick] [--only NAME,…] [--systems NAME,…] [--json FILE]

Every workload runs on all systems before the next one begins, so that a busy moment of the machine hits them alike.
Caches are dropped where a row says cold: the mount is made anew and the kernel's caches are emptied (root).
Systems: disk, passthrough (bindfs: what FUSE costs by itself), dgfs, dgfs-cluster, juicefs, moosefs.
Durability: DGFS embedded and the local disk sync to disk on fsync. JuiceFS (file storage) does not; its Redis and the
cluster's run with appendfsync everysec, so that metadata are compared at like durability.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

DGFS = os.environ.get("DGFS_BIN") or "dgfs"
MIB = 1 << 20


def run(*words, **options):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True, **options)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as control:
        control.write("3")


def wait_for(what, condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} did not happen in {seconds} s")
        time.sleep(0.05)


class Redis:
    def __init__(self, directory):
        os.makedirs(directory)
        self.port = free_port()
        words = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", directory, "--save", "",
                 "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        wait_for("redis", self.answers)

    def answers(self):
        return subprocess.run(["redis-cli", "-p", str(self.port), "ping"], capture_output=True).stdout == b"PONG\n"

    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Disk:
    name = "disk"

    def __init__(self, work):
        self.path = os.path.join(work, "disk")
        os.makedirs(self.path)

    def pids(self):
        return {}

    def remount(self):
        drop_caches()

    def stop(self):
        pass


class Mounted:
    """A system that is mounted at `path`."""
    unmount = ("umount",)

    def __init__(self, work, path):
        self.path = os.path.join(work, path)
        os.makedirs(self.path)

    def pids(self):
        return {"mount": mount_pid(self.path)}

    def remount(self):
        run(*self.unmount, self.path)
        self.forget()
        self.mount()

    def forget(self):
        drop_caches()

    def stop(self):
        run(*self.unmount, self.path)


class Embedded(Mounted):
    name = "dgfs"
    unmount = (DGFS, "umount")

    def __init__(self, work):
        super().__init__(work, "dgfs")
        self.data = os.path.join(work, "dgfs-data")
        self.mount()

    def mount(self):
        run(DGFS, "mount", "--background", "--data-dir", self.data, self.path)


class Cluster(Mounted):
    name = "dgfs-cluster"
    unmount = (DGFS, "umount")

    def __init__(self, work):
        super().__init__(work, "cluster-mount")
        self.redis = Redis(os.path.join(work, "cluster-redis"))
        self.dir = os.path.join(work, "cluster")
        run(DGFS, "up", "--servers", 1, "--redis", self.redis.url(), "--durability", "everysec", self.dir)
        self.mount()

    def mount(self):
        run(DGFS, "mount", "--background", "--config", os.path.join(self.dir, "client.toml"), self.path)

    def pids(self):
        pids = super().pids() | {"redis": self.redis.process.pid}
        with open(os.path.join(self.dir, "pids")) as lines:
            for line in lines:
                role, pid = line.split()[:2]
                pids[role] = int(pid)
        return pids

    def stop(self):
        super().stop()
        run(DGFS, "down", self.dir)
        self.redis.stop()


class JuiceFs(Mounted):
    name = "juicefs"
    unmount = ("juicefs", "umount")

    def __init__(self, work):
        super().__init__(work, "juicefs")
        self.redis = Redis(os.path.join(work, "juicefs-redis"))
        self.cache = os.path.join(work, "juicefs-cache")
        self.meta = f"{self.redis.url()}/1"
        store = os.path.join(work, "juicefs-store") + "/"
        run("juicefs", "format", "--storage", "file", "--bucket", store, "--trash-days", 0, self.meta, "bench")
        self.mount()

    def mount(self):
        run("juicefs", "mount", "-d", "--no-usage-report", "--cache-dir", self.cache, self.meta, self.path)

    def pids(self):
        return super().pids() | {"redis": self.redis.process.pid}

    def forget(self):
        shutil.rmtree(self.cache, ignore_errors=True)
        super().forget()

    def stop(self):
        super().stop()
        self.redis.stop()


class PassThrough(Mounted):
    """What FUSE costs by itself: bindfs hands every call to the local disk."""
    name = "passthrough"

    def __init__(self, work):
        super().__init__(work, "passthrough")
        self.under = os.path.join(work, "passthrough-disk")
        os.makedirs(self.under)
        self.mount()

    def mount(self):
        caching = "attr_timeout=60,entry_timeout=60,negative_timeout=60"
        run("bindfs", "--multithreaded", "-o", caching, self.under, self.path)


class MooseFs(Mounted):
    """Master and chunk server on loopback, one copy. Its metadata are written to disk in the background."""
    name = "moosefs"

    def __init__(self, work):
        super().__init__(work, "moosefs-mount")
        self.dir = os.path.join(work, "moosefs")
        for part in ("master", "chunks", "disk"):
            os.makedirs(os.path.join(self.dir, part))
        self.port, servers, loggers, own = (free_port() for _ in range(4))
        user = "WORKING_USER = root\nWORKING_GROUP = root\nFILE_UMASK = 022\n"
        # It refuses to work over 127.0.0.1; packets to an address of this machine do not leave it either.
        self.host = run("hostname", "-I").stdout.split()[0]
        self.write("exports.cfg", "* / rw,alldirs,maproot=0\n")
        self.write("hdd.cfg", os.path.join(self.dir, "disk") + "\n")
        self.write("master.cfg", f"{user}DATA_PATH = {self.dir}/master\nEXPORTS_FILENAME = {self.dir}/exports.cfg\n"
                   f"MATOCL_LISTEN_HOST = {self.host}\nMATOCL_LISTEN_PORT = {self.port}\nMATOCS_LISTEN_PORT = {servers}\n"
                   f"MATOML_LISTEN_PORT = {loggers}\n")
        self.write("chunks.cfg", f"{user}DATA_PATH = {self.dir}/chunks\nHDD_CONF_FILENAME = {self.dir}/hdd.cfg\n"
                   f"MASTER_HOST = {self.host}\nMASTER_PORT = {servers}\nCSSERV_LISTEN_HOST = {self.host}\n"
                   f"CSSERV_LISTEN_PORT = {own}\nHDD_LEAVE_SPACE_DEFAULT = 64MiB\n")
        with open(os.path.join(self.dir, "master", "metadata.mfs"), "wb") as empty:
            empty.write(b"MFSM NEW")
        run("mfsmaster", "-c", f"{self.dir}/master.cfg", "start")
        run("mfschunkserver", "-c", f"{self.dir}/chunks.cfg", "start")
        self.mount()
        run("mfssetgoal", "1", self.path)
        wait_for("room on MooseFS", self.has_room)

    def write(self, name, text):
        with open(os.path.join(self.dir, name), "w") as file:
            file.write(text)

    def has_room(self):
        return os.statvfs(self.path).f_bavail > 0

    def mount(self):
        run("mfsmount", "-H", self.host, "-P", self.port, self.path)

    def pids(self):
        pids = super().pids()
        for role, config in (("meta", "master.cfg"), ("stored", "chunks.cfg")):
            pids[role] = mount_pid(os.path.join(self.dir, config))
        return pids

    def stop(self):
        super().stop()
        run("mfschunkserver", "-c", f"{self.dir}/chunks.cfg", "stop")
        run("mfsmaster", "-c", f"{self.dir}/master.cfg", "stop")


def mount_pid(path):
    """The process that serves a mount: the largest one whose command line names the path (JuiceFS writes its as one word)."""
    best = (0, 0)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as words:
                if path.encode() not in words.read().replace(b"\0", b" ").split(b" "):
                    continue
            with open(f"/proc/{pid}/status") as status:
                rss = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        except (OSError, StopIteration):
            continue
        best = max(best, (rss, int(pid)))
    return best[1]


def peak_mib(pid):
    try:
        with open(f"/proc/{pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024
    except (OSError, StopIteration):
        return 0


class Bench:
    def __init__(self, options, work):
        self.options = options
        self.work = work
        self.files = 2000 if options.quick else 10000
        self.small = 1000 if options.quick else 5000
        self.big = (256 if options.quick else 1024) * MIB
        self.random_s = 2 if options.quick else 5
        self.rows = []
        self.peaks = {}

    def wanted(self, name):
        return not self.options.only or any(part in name for part in self.options.only.split(","))

    def row(self, name, unit, measure, systems, prepare=None):
        """`measure` gives operations (or MB) and seconds; more is better. Unit s: seconds, less is better."""
        if not self.wanted(name):
            return
        figures = {}
        for system in systems:
            try:
                if prepare:
                    prepare(system)
                begin = time.perf_counter()
                amount = measure(system)
                seconds = time.perf_counter() - begin
                figures[system.name] = seconds if unit == "s" else amount / seconds
                self.note_peaks(system)
            except (OSError, subprocess.CalledProcessError, RuntimeError) as error:
                print(f"  {name} on {system.name}: {error} {getattr(error, 'stderr', '')}", file=sys.stderr)
        self.rows.append({"name": name, "unit": unit, "figures": figures})
        print(self.line(self.rows[-1]), flush=True)

    def note_peaks(self, system):
        """A mount is made anew for cold rows, so its largest memory is noted after each row."""
        known = self.peaks.setdefault(system.name, {})
        for role, pid in system.pids().items():
            known[role] = max(known.get(role, 0), peak_mib(pid))

    def line(self, row):
        texts = []
        base = row["figures"].get("juicefs")
        for name, figure in row["figures"].items():
            ratio = ""
            if base and name != "juicefs":
                ratio = f" ({(base / figure if row['unit'] == 's' else figure / base):.2f}x)"
            texts.append(f"{name} {figure:,.1f}{ratio}")
        return f"{row['name']:<28} {row['unit']:<6} " + "  ".join(texts)

    # Metadata

    def directory(self, system):
        return os.path.join(system.path, "md")

    def create(self, system):
        os.makedirs(self.directory(system), exist_ok=True)
        for at in range(self.files):
            os.close(os.open(f"{self.directory(system)}/f{at}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        return self.files

    def stat(self, system):
        for at in range(self.files):
            os.stat(f"{self.directory(system)}/f{at}")
        return self.files

    def readdir(self, system):
        return sum(1 for _ in os.scandir(self.directory(system)))

    def readdir_stat(self, system):
        return sum(1 for entry in os.scandir(self.directory(system)) if entry.stat(follow_symlinks=False))

    def rename(self, system):
        for at in range(self.files):
            os.rename(f"{self.directory(system)}/f{at}", f"{self.directory(system)}/g{at}")
        return self.files

    def unlink(self, system):
        for at in range(self.files):
            os.unlink(f"{self.directory(system)}/g{at}")
        return self.files

    # Small files

    def write_small(self, system):
        directory = os.path.join(system.path, "small")
        os.makedirs(directory, exist_ok=True)
        data = os.urandom(4096)
        for at in range(self.small):
            with open(f"{directory}/s{at}", "wb", buffering=0) as file:
                file.write(data)
        return self.small

    def write_small_fsync(self, system):
        directory = os.path.join(system.path, "small-fsync")
        os.makedirs(directory, exist_ok=True)
        data = os.urandom(4096)
        count = self.small // 10
        for at in range(count):
            with open(f"{directory}/s{at}", "wb", buffering=0) as file:
                file.write(data)
                os.fsync(file.fileno())
        return count

    def read_small(self, system):
        for at in range(self.small):
            with open(f"{system.path}/small/s{at}", "rb", buffering=0) as file:
                if len(file.read(8192)) != 4096:
                    raise RuntimeError("short read")
        return self.small

    # Big files

    def write_big(self, system):
        block = random.Random(1).randbytes(MIB)
        with open(f"{system.path}/big", "wb", buffering=0) as file:
            for _ in range(self.big // MIB):
                file.write(block)
            os.fsync(file.fileno())
        return self.big / 1e6

    def read_big(self, system):
        with open(f"{system.path}/big", "rb", buffering=0) as file:
            while file.read(MIB):
                pass
        return self.big / 1e6

    def random_io(self, system, step):
        places = random.Random(7)
        file = os.open(f"{system.path}/big", os.O_RDWR)
        end = time.perf_counter() + self.random_s
        count = 0
        while time.perf_counter() < end:
            step(file, places.randrange(self.big // 4096) * 4096)
            count += 1
        os.close(file)
        return count

    def random_read(self, system):
        return self.random_io(system, lambda file, at: os.pread(file, 4096, at))

    def random_write(self, system):
        data = os.urandom(4096)
        return self.random_io(system, lambda file, at: os.pwrite(file, data, at))

    def random_write_fsync(self, system):
        data = os.urandom(4096)

        def step(file, at):
            os.pwrite(file, data, at)
            os.fsync(file)

        return self.random_io(system, step)

    # Trees

    def tarball(self):
        """Sources of the crates that DGFS is built from: real files, there on every machine that built it."""
        target = os.path.join(self.work, "tree.tar")
        if not os.path.exists(target):
            registry = os.path.expanduser("~/.cargo/registry/src")
            crates = sorted(os.path.join(registry, index, crate) for index in os.listdir(registry)
                            for crate in os.listdir(os.path.join(registry, index)))
            picked, files = [], 0
            for crate in crates:
                count = sum(len(names) for _, _, names in os.walk(crate))
                if count < 400:
                    picked.append(crate)
                    files += count
                if files > (1500 if self.options.quick else 6000):
                    break
            run("tar", "cf", target, *[crate.lstrip("/") for crate in picked], cwd="/")
        return target

    def untar(self, system):
        os.makedirs(f"{system.path}/tree")
        run("tar", "xf", self.tarball(), "-C", f"{system.path}/tree")
        return 1

    def git_add(self, system):
        tree = f"{system.path}/tree"
        run("git", "init", "-q", tree)
        run("git", "-C", tree, "add", "-A")
        return 1

    def git_status(self, system):
        run("git", "-C", f"{system.path}/tree", "status", "--porcelain")
        return 1

    def grep(self, system):
        # Nothing found is exit code 1: not checked.
        subprocess.run(["grep", "-r", "unsafe fn", f"{system.path}/tree"], stdout=subprocess.DEVNULL, check=False)
        return 1

    def remove_tree(self, system):
        run("rm", "-rf", f"{system.path}/tree")
        return 1

    def all(self, systems):
        def cold(system):
            system.remount()

        # A warm row is done once before it is measured: emptying the caches for one system's cold row empties the others' too.
        self.row("create", "ops/s", self.create, systems)
        self.row("stat cold", "ops/s", self.stat, systems, cold)
        self.row("stat warm", "ops/s", self.stat, systems, self.stat)
        self.row("readdir cold", "ops/s", self.readdir, systems, cold)
        self.row("readdir+stat cold", "ops/s", self.readdir_stat, systems, cold)
        self.row("rename", "ops/s", self.rename, systems)
        self.row("unlink", "ops/s", self.unlink, systems)
        self.row("4 KiB files written", "ops/s", self.write_small, systems)
        self.row("4 KiB files read cold", "ops/s", self.read_small, systems, cold)
        self.row("4 KiB files read warm", "ops/s", self.read_small, systems, self.read_small)
        self.row("4 KiB files written+fsync", "ops/s", self.write_small_fsync, systems)
        self.row("sequential write+fsync", "MB/s", self.write_big, systems)
        self.row("sequential read cold", "MB/s", self.read_big, systems, cold)
        self.row("sequential read warm", "MB/s", self.read_big, systems, self.read_big)
        self.row("random 4 KiB read cold", "ops/s", self.random_read, systems, cold)
        self.row("random 4 KiB read warm", "ops/s", self.random_read, systems, self.random_read)
        self.row("random 4 KiB write", "ops/s", self.random_write, systems)
        self.row("random 4 KiB write+fsync", "ops/s", self.random_write_fsync, systems)
        self.tarball()
        self.row("untar", "s", self.untar, systems)
        self.row("git add", "s", self.git_add, systems)
        self.row("git status cold", "s", self.git_status, systems, cold)
        self.row("git status warm", "s", self.git_status, systems, self.git_status)
        self.row("grep -r cold", "s", self.grep, systems, cold)
        self.row("grep -r warm", "s", self.grep, systems, self.grep)
        self.row("rm -rf", "s", self.remove_tree, systems)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the sizes")
    parser.add_argument("--only", default="", help="rows whose names contain one of these words")
    parser.add_argument("--systems", default="disk,passthrough,dgfs,dgfs-cluster,juicefs,moosefs")
    parser.add_argument("--json", help="write the figures here too")
    parser.add_argument("--work", help="where to work (default: a temporary directory, removed afterwards)")
    options = parser.parse_args()
    work = options.work or tempfile.mkdtemp(prefix="dgfs-bench.")
    os.makedirs(work, exist_ok=True)
    kinds = {kind.name: kind for kind in (Disk, PassThrough, Embedded, Cluster, JuiceFs, MooseFs)}
    systems = []
    try:
        for name in options.systems.split(","):
            systems.append(kinds[name](work))
        bench = Bench(options, work)
        bench.all(systems)
        print("peak memory, MiB:", json.dumps(bench.peaks))
        if options.json:
            with open(options.json, "w") as out:
                json.dump({"rows": bench.rows, "peak_mib": bench.peaks}, out, indent=1)
    finally:
        for system in systems:
            try:
                system.stop()
            except (OSError, subprocess.CalledProcessError) as error:
                print(f"stopping {system.name}: {error}", file=sys.stderr)
        if not options.work:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
