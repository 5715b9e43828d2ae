# SPDX-License-Identifier: BSD-3-Clause
"""What the system tests share: a folder, servers, clients, loop devices and mounts that all go away
at the end, and arrays that are served by an nbdkit of their own.

A test is a program: status 0 passed, 77 skipped (the reason is printed), anything else failed.
ctest names the programs in BRAID_CLI and BRAID_PLUGIN; BRAID_SANITIZE says how they were built, and
BRAID_LONG=1 asks for the long variants.
"""
import contextlib
import ctypes
import glob
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BRAID_BUILD", os.path.join(SOURCE, "build", "release"))
CLI = os.environ.get("BRAID_CLI", os.path.join(BUILD, "cli", "braid"))
PLUGIN = os.environ.get("BRAID_PLUGIN", os.path.join(BUILD, "plugin", "nbdkit-braid-plugin.so"))
SANITIZE = os.environ.get("BRAID_SANITIZE", "")
LONG = os.environ.get("BRAID_LONG", "") not in ("", "0")
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
# Everything takes longer under a sanitizer: what waits, waits this many times as long.
PATIENCE = 10 if SANITIZE else 1


class Skip(Exception):
    """This machine lacks what the test needs."""


class Failed(Exception):
    """braid did what it should not have done, or the other way round."""


def check(condition, what):
    if not condition:
        raise Failed(what)


def need_tools(*names):
    for name in names:
        if shutil.which(name) is None:
            raise Skip(f"there is no {name}")


def say(text):
    print(f"[{time.monotonic() - BEGIN:6.2f}] {text}", flush=True)


BEGIN = time.monotonic()
# Debian's tools first: nbdsh takes the python3 of PATH, and python3-libnbd belongs to Debian's.
os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin:" + os.environ.get("PATH", "")


def die_with_parent():
    """In a child before exec: a test that is killed leaves no process behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def start(words, **options):
    return subprocess.Popen([str(word) for word in words], preexec_fn=die_with_parent, **options)


def run(*words, ok=True, timeout=120, **options):
    """Runs a command and returns its CompletedProcess; `ok`: it has to succeed (None: either)."""
    words = [str(word) for word in words]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=timeout * PATIENCE, **options)
    if ok is not None and (done.returncode == 0) != ok:
        raise Failed(f"{' '.join(words)[:200]}: status {done.returncode}\n{done.stdout[-4000:]}")
    return done


def wait_until(condition, what, seconds=30):
    end = time.monotonic() + seconds * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        check(time.monotonic() < end, f"waited {seconds * PATIENCE} s in vain: {what}")
        time.sleep(0.02)


def sha256_of(path, size=None):
    """Of a file or block device, or of its first `size` bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while size is None or size > 0:
            block = file.read(MIB if size is None else min(size, MIB))
            if not block:
                break
            digest.update(block)
            if size is not None:
                size -= len(block)
    return digest.hexdigest()


class World:
    """Owns everything that a test makes; undone in reverse order, whatever happens."""

    def __init__(self, room=2 * GIB):
        self.undo = contextlib.ExitStack()
        self.count = 0
        self.folder = tempfile.mkdtemp(prefix="braid-system.", dir=roomy_folder(room))
        self.undo.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.undo.close()

    def path(self, name):
        return os.path.join(self.folder, name)

    def unique(self, name):
        self.count += 1
        return self.path(f"{self.count}-{name}")

    def file(self, size, name="file"):
        path = self.unique(name)
        with open(path, "wb") as file:
            file.truncate(size)
        return path

    def members(self, count, size):
        folder = self.unique("members")
        os.mkdir(folder)
        paths = [os.path.join(folder, f"m{index}") for index in range(count)]
        for path in paths:
            with open(path, "wb") as file:
                file.truncate(size)
        return paths

    def random_file(self, size, name="random"):
        path = self.unique(name)
        with open(path, "wb") as file:
            while size > 0:
                file.write(os.urandom(min(size, MIB)))
                size -= MIB
        return path

    def background(self, words, **options):
        process = start(words, **options)
        self.undo.callback(end, process)
        return process

    def nbdkit(self, *words, **options):
        """An nbdkit that the test looks at only through its socket; returns its process and its URI."""
        socket = self.unique("nbd.sock")
        process, _ = start_nbdkit(self, socket, words, **options)
        self.undo.callback(end, process)
        return process, uri_of(socket)

    def create(self, paths, level, *options):
        run(CLI, "create", "--level", level, *options, *paths)

    def serve(self, paths, *parameters, **options):
        server = Server(self, paths, *parameters, **options)
        self.undo.callback(server.kill)
        return server

    def array(self, level, count, size, *options):
        """A new array on new members, served."""
        paths = self.members(count, size)
        self.create(paths, level, *options)
        return self.serve(paths)

    # Devices and mounts: for root only.

    def loop_device(self, path, *options):
        if os.geteuid() != 0:
            raise Skip("loop devices need root")
        done = run("losetup", "--find", "--show", *options, path, ok=None)
        if done.returncode != 0:
            raise Skip(f"no loop device to be had: {done.stdout.strip()}")
        device = done.stdout.strip()
        self.undo.callback(detach, device, path)
        return device

    def nbdfuse(self, uri):
        """A file whose bytes are those of the export."""
        need_tools("nbdfuse")
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            raise Skip("/dev/fuse cannot be opened")
        path = self.file(0, "nbd")
        log = open(self.unique("nbdfuse.log"), "wb")
        process = self.background(["nbdfuse", path, uri], stdout=log, stderr=log)
        self.undo.callback(run, "umount", "--lazy", path, ok=None)
        wait_until(lambda: os.path.getsize(path) > 0 or process.poll() is not None, "nbdfuse mounts")
        if process.poll() is not None:
            with open(log.name) as text:
                raise Skip(f"nbdfuse cannot mount here: {text.read().strip()}")
        return path

    def unfuse(self, path):
        run("umount", path)

    def mount(self, device, kind):
        folder = self.unique("mount")
        os.mkdir(folder)
        options = ["-o", "nouuid"] if kind == "xfs" else []
        done = run("mount", "-t", kind, *options, device, folder, ok=None)
        if done.returncode != 0:
            raise Skip(f"{kind} cannot be mounted here: {done.stdout.strip()}")
        self.undo.callback(run, "umount", "--lazy", folder, ok=None)
        return folder


def roomy_folder(room):
    """tmpfs where there is enough of it, so that the tests do not wait for a disk."""
    if "BRAID_TEST_FOLDER" in os.environ:
        return os.environ["BRAID_TEST_FOLDER"]
    with contextlib.suppress(OSError):
        if shutil.disk_usage("/dev/shm").free > 2 * room and memory_available() > 2 * room:
            return "/dev/shm"
    return None


def memory_available():
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) * KIB for line in lines if line.startswith("MemAvailable"))


def end(process, seconds=10):
    """Asks a process to end, then makes it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def detach(device, path):
    """If it is still that file's: it may have been detached, and be another test's by now."""
    backing = run("losetup", "--noheadings", "--output", "BACK-FILE", device, ok=None).stdout.strip()
    if backing.startswith(os.path.realpath(path)):
        run("losetup", "--detach", device, ok=None)


def uri_of(socket):
    return f"nbd+unix:///?socket={socket}"


def start_nbdkit(world, socket, words, **options):
    """The one way to a server: returns its process and its log's path, once it takes connections. The
    socket is there before that; nbdkit writes its pid file when it listens."""
    pid_file, log_path = world.unique("nbdkit.pid"), world.unique("nbdkit.log")
    with open(log_path, "wb") as log:
        process = start(["nbdkit", "-f", "--exit-with-parent", "-U", socket, "-P", pid_file, *words],
                        stdout=log, stderr=log, **options)
    try:
        wait_until(lambda: os.path.exists(pid_file) or process.poll() is not None, "nbdkit starts")
        if process.poll() is not None:
            raise Failed(f"nbdkit ended with status {process.returncode}\n{end_of(log_path)}")
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process, log_path


def end_of(path, size=4000):
    with open(path, errors="replace") as text:
        return text.read()[-size:]


class Server:
    """nbdkit with the braid plugin, on its own sockets."""

    def __init__(self, world, paths, *parameters, options=()):
        self.world, self.paths = world, list(paths)
        self.socket, self.control = world.unique("nbd.sock"), world.unique("control.sock")
        self.uri = uri_of(self.socket)
        self.process, self.log_path = start_nbdkit(
            world, self.socket,
            [*options, PLUGIN, *self.paths, f"socket={self.control}", *parameters],
            env=server_environment())

    def log(self, size=4000):
        return end_of(self.log_path, size)

    def kill(self):
        """kill -9, as a crash would."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self):
        """A clean stop; the server has to say that all went well."""
        self.process.terminate()
        try:
            status = self.process.wait(20 if SANITIZE else 30)
        except subprocess.TimeoutExpired:
            if self.is_stuck_in_exit():
                self.kill()
                return
            raise Failed(f"nbdkit did not stop\n{self.log()}") from None
        check(status == 0, f"nbdkit stopped with status {status}\n{self.log()}")

    def is_stuck_in_exit(self):
        """With a sanitizer's library in front, nbdkit itself (the memory plugin as well) can wait for
        ever in exit(), in a destructor of p11-kit, once a client vanished or a message was made of an
        errno. braid's threads are gone by then; ThreadSanitizer has one of its own."""
        return SANITIZE and len(os.listdir(f"/proc/{self.process.pid}/task")) <= 2

    def check_alive(self):
        check(self.process.poll() is None, f"nbdkit died: {self.process.returncode}\n{self.log()}")

    def restart(self, *parameters, paths=None):
        self.stop()
        return self.world.serve(paths or self.paths, *parameters)

    def braid(self, *words, **options):
        return run(CLI, *words, "--socket", self.control, **options)

    def status(self):
        return json.loads(self.braid("status", "--json").stdout)

    def member(self, role, status=None):
        for member in (status or self.status())["members"]:
            if member.get("role") == role:
                return member
        raise Failed(f"status tells nothing of role {role}")

    def walks(self):
        return self.status()["tasks"]

    def counter(self, name):
        return self.status()["counters"][name]

    def wait_for_health(self, health, seconds=60):
        wait_until(lambda: self.status()["health"] == health, f"the array becomes {health}", seconds)

    def wait_for_idle(self, seconds=120):
        """Until no rebuild, resync or scrub runs."""
        wait_until(lambda: not self.walks(), "background work ends", seconds)

    def fail(self, role):
        self.braid("member", "fail", role)
        state = self.member(role)["state"]
        check(state == "faulty", f"member {role} was failed and is {state}")

    def replace(self, role, size=None):
        """Puts a new file into the role; returns its path."""
        path = self.world.file(size or os.path.getsize(self.paths[0]), "replacement")
        self.braid("member", "replace", role, path)
        self.paths[role] = path
        return path

    def scrub(self):
        """A whole scrub; returns how many rows it found wrong."""
        self.braid("scrub", "start")

        def done():
            status = self.status()
            return not status["tasks"] and not status["scrub_waits"]
        wait_until(done, "the scrub ends", 120)
        return self.status()["last_scrub"]["mismatches"]

    def check_scrub_is_clean(self):
        self.wait_for_idle()
        found = self.scrub()
        check(found == 0, f"the scrub found {found} mismatches")

    def memory(self):
        """Resident bytes of the server."""
        with open(f"/proc/{self.process.pid}/status") as lines:
            return next(int(line.split()[1]) * KIB for line in lines if line.startswith("VmRSS"))

    def copy_out(self):
        path = self.world.unique("copy")
        run("nbdcopy", "--no-extents", self.uri, path)
        return path

    def sha256(self, size=None):
        """Of the volume, or of its first `size` bytes."""
        path = self.copy_out()
        digest = sha256_of(path, size)
        os.unlink(path)
        return digest


def server_environment():
    """nbdkit itself is not built with the sanitizer, so its library has to be there first."""
    environment = dict(os.environ)
    library = {"address": "libasan.so", "thread": "libtsan.so"}.get(SANITIZE.split(",")[0])
    if library:
        compiler = os.environ.get("BRAID_COMPILER", "g++")
        found = run(compiler, f"-print-file-name={library}").stdout.strip()
        environment["LD_PRELOAD"] = os.path.realpath(found)
        suppressions = os.path.join(SOURCE, "tests", "system", "tsan.txt")
        # nbdkit has unloaded the plugin when leaks are looked for, and leaks a little itself.
        environment["ASAN_OPTIONS"] = "detect_leaks=0"
        environment["TSAN_OPTIONS"] = f"suppressions={suppressions}:halt_on_error=1"
        environment["UBSAN_OPTIONS"] = "print_stacktrace=1"
    return environment


class Fio:
    """fio against a server, in the background; it verifies what it wrote: half of `size`, for the
    last free places of a field take many small writes."""

    def __init__(self, server, *options, size=64 * MIB, jobs=4, depth=32, name="verify"):
        need_tools("fio")
        self.server = server
        part = size // jobs
        self.log_path = server.world.unique("fio.log")
        with open(self.log_path, "wb") as log:
            self.process = start(
                ["fio", f"--name={name}", "--ioengine=nbd", f"--uri={server.uri}", "--thread",
                 "--rw=randwrite", "--bsrange=512-64k", "--ba=512", f"--iodepth={depth}",
                 f"--numjobs={jobs}", f"--offset_increment={part}", f"--size={part}",
                 f"--io_size={part // 2}", "--verify=crc32c", "--verify_fatal=1", "--randrepeat=0", "--group_reporting",
                 "--output-format=normal", *options],
                stdout=log, stderr=log, cwd=server.world.folder)
        server.world.undo.callback(end, self.process)

    def running(self):
        return self.process.poll() is None

    def wait(self, seconds=120):
        try:
            status = self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"fio hangs\n{self.log()}") from None
        check(status == 0, f"fio: status {status}\n{self.log()}\n{self.server.log()}")

    def log(self):
        return end_of(self.log_path)


def main(test, *arguments, seconds=300):
    """Runs a test as a program. A test that hangs cleans up as well."""
    def interrupted(number, _frame):
        raise Failed(f"ended by {signal.Signals(number).name}"
                     + (": the test took too long" if number == signal.SIGALRM else ""))
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, interrupted)
    signal.alarm(int(os.environ.get("BRAID_TEST_SECONDS", seconds)) * (24 if LONG else 1))
    for program in (CLI, PLUGIN):
        if not os.path.exists(program):
            print(f"{program} was not built")
            sys.exit(1)
    try:
        need_tools("nbdkit")
        with World() as world:
            try:
                test(world, *arguments)
            except Failed:
                for path in sorted(glob.glob(world.path("*nbdkit.log"))):
                    with open(path, errors="replace") as text:
                        print(f"--- {os.path.basename(path)}\n{text.read()[-2000:]}")
                raise
            finally:
                signal.alarm(0)
        say("passed")
    except Skip as reason:
        print(f"skipped: {reason}")
        sys.exit(77)
    except Failed as reason:
        print(f"FAILED: {reason}")
        sys.exit(1)
