#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What README tells people to type, word for word: the ten commands on three machines, and three nodes on one.
A machine is a network namespace with an /etc, a /run, a /dev and a /var/tmp of its own; ssh and scp, which would
need servers and keys, are scripts that go there."""
import json
import os
import re
import shlex
import signal
import stat
import sys

import nbd

from braid_system import CLI, MIB, PATIENCE, PLUGIN, SOURCE, check, main, run, say, wait_until
from namespaces import Network

CONTROL = "/run/braid.sock"
IMAGE = 16 * MIB
OWN_FOLDERS = """
set -e
mount --make-rprivate /
cp -a /etc {own}/etc && rm -rf {own}/etc/braid
mkdir -p {own}/dev/disk/by-id {own}/dev/shm
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom {own}/dev/
mount --bind {own}/etc /etc
mount --bind /dev/shm {own}/dev/shm
mount --rbind {own}/dev /dev
mount -t tmpfs none /run
mount -t tmpfs none /var/tmp
touch {own}/ready
exec sleep infinity
"""


def block_after(words, kind):
    """The first fenced block of that kind behind these words."""
    with open(os.path.join(SOURCE, "README.md")) as file:
        text = file.read()
    check(words in text, f"README says '{words}'")
    found = re.search(rf"^```{kind}\n(.*?)^```$", text[text.index(words):], re.S | re.M)
    check(found, f"a block of {kind} follows '{words}'")
    return found.group(1)


def program(path, text):
    with open(path, "w") as file:
        file.write("#!/bin/sh\n" + text)
    os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


class Machines:
    """They have the addresses that README's file of the cluster has, and the members, as links to files."""

    def __init__(self, world, text):
        self.world, self.holders = world, {}
        self.addresses = re.findall(r'^addresses = \["([\d.]+):\d+"\]', text, re.M)
        self.names = [f"machine{number}" for number, _ in enumerate(self.addresses, 1)]
        self.net = Network(world, self.names)
        world.undo.callback(self.kill_all)
        for name, address in zip(self.names, self.addresses):
            self.net.run(name, "ip", "address", "add", f"{address}/24", "dev", "net")
            self.hold(name)
        for name, members in zip(self.names, re.findall(r"^members = (\[.*\])$", text, re.M)):
            for member in json.loads(members):
                self.run(name, "ln", "-s", world.file(64 * MIB), member)
        self.programs = world.path("programs")
        os.mkdir(self.programs)
        os.symlink(CLI, os.path.join(self.programs, "braid"))
        # As `./dev install` leaves it: nbdkit finds the plugin by its name.
        program(os.path.join(self.programs, "nbdkit"), f"""
for word; do
    shift
    [ "$word" != braid ] || word={shlex.quote(PLUGIN)}
    set -- "$@" "$word"
done
exec {shlex.quote(run("which", "nbdkit").stdout.strip())} "$@"
""")
        holders = "".join(f"    {address}) holder={self.holders[name].pid} ;;\n"
                          for name, address in zip(self.names, self.addresses))
        find = 'case "$host" in\n' + holders + '    *) echo "no machine $host" >&2; exit 255 ;;\nesac\n'
        program(os.path.join(self.programs, "ssh"), "host=$1; shift\n" + find + """
exec nsenter --net=/proc/$holder/ns/net --mount=/proc/$holder/ns/mnt sh -c "$*"
""")
        program(os.path.join(self.programs, "scp"), """
[ $# = 3 ] && [ "$1" = -pr ] || exit 255
host=${3%%:*}; folder=${3#*:}
""" + find + 'exec cp -pr "$2" "/proc/$holder/root$folder"\n')

    def hold(self, name):
        own = self.world.path(f"{name}-own")
        os.mkdir(own)
        holder = self.world.background([*self.net.words(name), "unshare", "--mount", "sh", "-c",
                                        OWN_FOLDERS.format(own=shlex.quote(own))])
        wait_until(lambda: os.path.exists(f"{own}/ready") or holder.poll() is not None, f"{name} has its folders")
        check(holder.poll() is None, f"{name} has folders of its own")
        self.holders[name] = holder

    def run(self, name, *words, **options):
        return self.net.run(name, "nsenter", f"--mount=/proc/{self.holders[name].pid}/ns/mnt", *words, **options)

    def type(self, name, commands, **options):
        """What somebody types there."""
        path = f"PATH={shlex.quote(self.programs)}:$PATH\n"
        return self.run(name, "sh", "-ec", path + commands, **options)

    def servers(self, name):
        """Its nbdkits, which have gone into the background."""
        there, found = os.readlink(self.net.file(name)), []
        for process in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{process}/comm") as file:
                    is_server = file.read().strip() == "nbdkit"
                if is_server and os.readlink(f"/proc/{process}/ns/net") == there:
                    found.append(int(process))
            except OSError:
                pass  # it has ended
        return found

    def kill_all(self):
        for name in self.names:
            for process in self.servers(name) if name in self.net.holders else ():
                os.kill(process, signal.SIGKILL)

    def status(self, name):
        return json.loads(self.type(name, f"braid status --json --socket {CONTROL}").stdout)

    def wait_until_all_serve(self):
        for name in self.names:
            wait_until(lambda: self.status(name)["start"] is None, f"{name} serves")

    def connect(self, name):
        handle = nbd.NBD()
        with self.net.inside(name):
            handle.connect_uri(f"nbd://{self.addresses[self.names.index(name)]}/data")
        return handle


def ten_commands(world):
    text = block_after("A file says who", "toml")
    lines = block_after("in ten commands", "sh").splitlines()
    commands = [re.sub(r"\s+#.*", "", line) for line in lines]
    check(len(commands) == 10, f"they are ten:\n{commands}")
    check([re.search(r"# (\d+)", line).group(1) for line in lines] == [str(n) for n in range(1, 11)], "numbered")
    machines = Machines(world, text)
    first = machines.names[0]
    machines.run(first, "mkdir", "/etc/braid")
    machines.run(first, "tee", "/etc/braid/cluster.toml", input=text)
    for number, command in enumerate(commands, 1):
        if number == 9:  # nobody types as fast as this
            wait_until(lambda: all(one["connected"] for one in machines.status(first)["start"]["nodes"]), "all are there")
        done = machines.type(first, command)
        say(f"$ {command}\n{done.stdout}")
        if number == 9:
            check("this is a dry run" in done.stdout, done.stdout)
            check(machines.status(first)["start"] is not None, "nothing is served yet")
    machines.wait_until_all_serve()
    data = os.urandom(MIB)
    writer = machines.connect(first)
    writer.pwrite(data, 5 * MIB)
    writer.flush()
    writer.shutdown()
    # From the next start on they find the array by themselves.
    for _ in range(2):
        for name in machines.names:
            reader = machines.connect(name)
            check(reader.pread(MIB, 5 * MIB) == data, f"{name} reads what was written through {first}")
            reader.shutdown()
        for name in machines.names:
            for process in machines.servers(name):
                os.kill(process, signal.SIGTERM)
        wait_until(lambda: not any(machines.servers(name) for name in machines.names), "the servers end")
        for command in commands[4:7]:
            machines.type(first, command)
        machines.wait_until_all_serve()


def on_one_machine(world):
    commands = block_after("here are three nodes on one machine", "sh")
    machines = Machines(world, 'addresses = ["10.0.0.1:10810"]\nmembers = []\n')
    first = machines.names[0]
    image = world.random_file(IMAGE)
    commands = commands.replace("cd /var/tmp/trial\n", f"cd /var/tmp/trial; cp {shlex.quote(image)} some.img\n", 1)
    check("some.img\n" in commands, "there is a folder for it")
    done = machines.type(first, commands + f"\ncmp --bytes={IMAGE} some.img out.img\n", timeout=300 * PATIENCE)
    say(done.stdout)
    wait_until(lambda: not machines.servers(first), "the servers end")


CASES = {"machines": ten_commands, "trial": on_one_machine}
if __name__ == "__main__":
    main(CASES[sys.argv[1]])
