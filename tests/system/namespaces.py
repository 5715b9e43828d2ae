# SPDX-License-Identifier: BSD-3-Clause
"""Several machines on one: network namespaces, each with a cable to one switch. The switch has one,
too, so that this machine's own network is not touched. None has a name: each lives as long as a
process that holds it, which dies with the test, however that ends, and all cables go with it.
"""
import ctypes
import os
import shutil
import socket
import threading
from contextlib import contextmanager

from braid_system import Failed, Skip, run, wait_until

NET = "10.213.{}"  # nobody else is in these namespaces: any will do
NOBODY = "02:00:00:00:00:77"
CLONE_NEWNET = 0x40000000


class Network:
    """`names` become machines, with the addresses .1, .2, ... on each of `cables` networks."""

    def __init__(self, world, names, cables=1):
        if os.geteuid() != 0:
            raise Skip("network namespaces need root")
        for tool in ("ip", "unshare", "nsenter"):
            if shutil.which(tool) is None:
                raise Skip(f"there is no {tool}")
        self.world, self.names, self.holders = world, list(names), {}
        self.hold("switch")
        for cable in range(1, cables + 1):
            done = self.run("switch", "ip", "link", "add", f"switch{cable}", "type", "bridge", ok=None)
            if done.returncode != 0:
                raise Skip(f"no bridge can be made here: {done.stdout.strip()}")
            self.run("switch", "ip", "link", "set", f"switch{cable}", "up")
        for name in self.names:
            self.hold(name)
            self.run(name, "ip", "link", "set", "lo", "up")
            for cable in range(1, cables + 1):
                self.wire(name, cable)

    def wire(self, name, cable):
        card = self.card(cable)
        done = self.run("switch", "ip", "link", "add", self.port(name, cable), "type", "veth",
                        "peer", "name", card, "netns", self.holders[name].pid, ok=None)
        if done.returncode != 0:
            raise Skip(f"no veth can be made here: {done.stdout.strip()}")
        self.run("switch", "ip", "link", "set", self.port(name, cable), "master", f"switch{cable}", "up")
        self.run(name, "ip", "address", "add", f"{self.address(name, cable)}/24", "dev", card)
        self.run(name, "ip", "link", "set", card, "up")

    @staticmethod
    def card(cable):
        """The machine's end."""
        return "net" if cable == 1 else f"net{cable}"

    @staticmethod
    def port(name, cable):
        """The switch's end."""
        return name if cable == 1 else f"{name}-{cable}"

    def hold(self, name):
        own = os.readlink("/proc/self/ns/net")
        holder = self.world.background(["unshare", "--net", "sleep", "infinity"])

        def there():
            if holder.poll() is not None:
                raise Skip("no network namespace can be made here")
            try:
                return os.readlink(f"/proc/{holder.pid}/ns/net") != own
            except OSError:  # it ends
                return False
        wait_until(there, f"the namespace {name}")
        self.holders[name] = holder

    def address(self, name, cable=1):
        return f"{NET.format(76 + cable)}.{self.names.index(name) + 1}"

    def words(self, name):
        """Before a command, which becomes one of that machine."""
        return ["nsenter", f"--net={self.file(name)}"]

    def file(self, name):
        return f"/proc/{self.holders[name].pid}/ns/net"

    def run(self, name, *words, **options):
        return run(*self.words(name), *words, **options)

    def unplug(self, name, cable=1):
        """Pulls the cable at the switch. After plug() it may take a second until the kernel has noticed."""
        self.run("switch", "ip", "link", "set", self.port(name, cable), "down")

    def plug(self, name, cable=1):
        self.run("switch", "ip", "link", "set", self.port(name, cable), "up")

    def part(self, one, other):
        """What one sends to the other does not come, both ways; a third reaches both."""
        for name in (one, other):
            self.run("switch", "ip", "link", "set", name, "type", "bridge_slave", "isolated", "on")

    def rejoin(self, one, other):
        for name in (one, other):
            self.run("switch", "ip", "link", "set", name, "type", "bridge_slave", "isolated", "off")

    def mislead(self, name, others):
        """What it sends to the others goes to a card that nobody has. What they send to it comes."""
        for other in others:
            self.run(name, "ip", "neighbour", "replace", self.address(other), "lladdr", NOBODY, "dev", "net",
                     "nud", "permanent")

    def lead(self, name, others):
        for other in others:
            self.run(name, "ip", "neighbour", "delete", self.address(other), "dev", "net")

    def narrow(self, name, *words):
        """Its cable is as `tc qdisc` has it, both ways; whether this kernel can do that."""
        for place, device in ((name, "net"), ("switch", name)):
            done = self.run(place, "tc", "qdisc", "replace", "dev", device, "root", *words, ok=None)
            if done.returncode != 0:
                return False
        return True

    def widen(self, name):
        for place, device in ((name, "net"), ("switch", name)):
            self.run(place, "tc", "qdisc", "delete", "dev", device, "root", ok=None)

    def reset(self, name):
        """Breaks all connections of a machine. Whether this kernel can do that: there are some."""
        return bool(self.run(name, "ss", "-HKt", "state", "established").stdout.strip())

    @contextmanager
    def inside(self, name):
        """What this thread does is done on that machine; sockets that it makes stay there."""
        with open("/proc/thread-self/ns/net") as own, open(self.file(name)) as other:
            enter(other)
            try:
                yield
            finally:
                enter(own)

    def connect(self, name, address, seconds=30):
        with self.inside(name):
            return socket.create_connection(address, timeout=seconds)

    def relay(self, name, path, address):
        """Whoever connects to the unix socket is connected from that machine to the address."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        self.world.undo.callback(listener.close)

        def copy(source, target):
            try:
                while data := source.recv(65536):
                    target.sendall(data)
            except OSError:
                pass
            for one in (source, target):
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

        def serve():
            while True:
                try:
                    here, _ = listener.accept()
                except OSError:
                    return
                try:
                    there = self.connect(name, address)
                except OSError:
                    here.close()
                    continue
                there.settimeout(None)
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()


def enter(file):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
        raise Failed(f"setns: {os.strerror(ctypes.get_errno())}")
