#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Three nodes, over and over: one is killed, paused, or cut off in one way or another, while clients of all work.

Each node is on a machine of its own (namespaces.py), and they speak TLS over TCP. Each round has one fault, and
then waits until all nodes serve again and all members are in sync: a server that ended, because it was killed or
heard that the others had gone on without it, is started anew, as a supervisor would. Clients of the other nodes see
no error. What clients of all nodes saw, also those of one that was cut off, looks like one register for each sector;
nothing that was acknowledged through any node is lost, but where all nodes were killed, where it is what came after
the last flush. No row is in doubt or bad. Every few rounds all are stopped, and `braid check` has to find all parity
true, and each sector that a round worked on is as that round left it. On some arrays there is a file system as well,
at a node that stays.

The faults and when they happen come from the seed, which is printed; the rest is what the machine makes of it.
"""
import argparse
import collections
import glob
import hashlib
import json
import os
import pickle
import random
import shutil
import signal
import statistics
import threading
import time
from typing import Callable, NamedTuple

from braid_cluster import MEMBER, Node
from braid_system import KIB, MIB, Failed, Skip, World, check, main, run, say, wait_until
from history import Load, at_the_crash, check_busy, check_no_errors, judge, places, read_all, silence
from network_test import machine, three_machines, whole_log

NODES = (1, 2, 3)
MEMBERS = {5: 3, 6: 6}      # one node's are what the level can lose
ROUNDS_OF_AN_ARRAY = 15
ROUNDS_BETWEEN_CHECKS = 5
BRIEF = 0.6                 # seconds; half of the lease: nobody is excluded for less
BRIEF_CUT = 0.35            # what a cut swallows TCP sends again after 0.2 and 0.6 s, and then after the lease
LONGEST = 30                # seconds without an answer
SLOW = {"netem": [["delay", "20ms", "10ms", "loss", "3%"], ["delay", "150ms", "50ms"], ["loss", "10%"]],
        "tbf": [["rate", rate, "burst", "8k", "latency", latency]
                for rate in ("1mbit", "4mbit", "20mbit") for latency in ("30ms", "300ms")]}


class Files:
    """An ext4 on a volume, mounted at one node, in which files are written, read and deleted all the time."""

    def __init__(self, world, seed):
        self.world, self.rng, self.content, self.number, self.count = world, random.Random(seed), {}, None, 0

    def attach(self, node, *options):
        self.fuse = self.world.nbdfuse(node.uri_of("files"))
        self.device = self.world.loop_device(self.fuse, "--direct-io=on", *options)

    def begin(self, node):
        self.attach(node)
        if self.number is None:
            run("mkfs.ext4", "-q", "-F", self.device)
        self.number, self.error, self.over, self.longest = node.number, None, False, 0.0
        self.folder = self.world.mount(self.device, "ext4")
        for path, digest in self.content.items():
            self.check_file(path, digest)
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def check_file(self, path, digest):
        with open(os.path.join(self.folder, path), "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            check(hashlib.sha256(file.read()).digest() == digest, f"file {path} at node {self.number}")

    def work(self):
        try:
            while not self.over:
                begin = time.monotonic()
                self.one_step()
                self.longest = max(self.longest, time.monotonic() - begin)
                self.count += 1
        except (OSError, Failed) as error:
            self.error = error

    def one_step(self):
        path, rng = f"file{self.rng.randrange(60)}", self.rng
        kind = rng.choice(("write", "write", "read", "delete")) if path in self.content else "write"
        if kind == "read":
            return self.check_file(path, self.content[path])
        if kind == "delete":
            os.unlink(os.path.join(self.folder, path))
            del self.content[path]
            return None
        data = rng.randbytes(rng.choice((0, 100, 5000, 70000, 300000)))
        with open(os.path.join(self.folder, path), "wb") as file:
            file.write(data)
            if rng.random() < 0.5:
                file.flush()
                os.fsync(file.fileno())
        self.content[path] = hashlib.sha256(data).digest()
        return None

    def check(self):
        check(self.error is None, f"the file system at node {self.number}: {self.error}")

    def end(self):
        self.over = True
        self.thread.join(LONGEST)
        check(not self.thread.is_alive(), f"the file system at node {self.number} hangs")
        self.check()
        run("umount", self.folder)
        run("fsck.ext4", "-f", "-n", self.device)
        run("losetup", "--detach", self.device)
        self.world.unfuse(self.fuse)
        say(f"the file system at node {self.number}: {self.count} steps, {self.longest:.2f} s the longest of them, "
            "and fsck is content")


class Round:
    """One fault, and what comes of it."""

    def __init__(self, torture, kind, rng):
        self.torture, self.kind, self.rng = torture, kind, rng
        self.cluster, self.network = torture.cluster, torture.network
        self.numbers = sorted(rng.sample(torture.may_go(), kind.takes))  # the nodes that it is about
        self.decided = self.cluster.decides()
        self.may_end = set(self.numbers if kind.may_end else ())
        self.killed = set()                     # nodes whose server was killed, and not started since
        self.starts = collections.Counter()     # of nodes whose server had ended
        self.unloaded = set()                   # nodes that have no clients yet
        self.told, self.excluded_after = "", None
        self.before = {node.number: self.what_stays(node) for node in self.cluster.nodes}
        self.runs, self.requests, self.earlier = torture.next_places(), [], []
        self.loads = [Load(self.cluster, self.runs, seed=rng.random())]
        time.sleep(rng.uniform(0.2, 0.8))  # of load
        self.check_clients()
        self.begin = self.mended = self.whole = time.monotonic_ns()

    def node(self, number):
        return self.cluster.nodes[number - 1]

    def others(self):
        return [number for number in NODES if number not in self.numbers]

    def run(self):
        self.kind.act(self)
        self.mended = time.monotonic_ns()
        self.heal()
        self.whole = time.monotonic_ns()
        time.sleep(self.rng.uniform(0.1, 0.5))  # of load
        self.heal()
        self.stop_clients()
        reads = self.read_everywhere()
        self.requests += reads
        self.check_history()
        self.check_nodes()
        self.torture.keep(self.runs, reads)

    # --- faults

    def kill(self, number):
        self.killed.add(number)
        self.may_end.add(number)
        self.node(number).process.kill()
        self.node(number).process.wait()

    def until_excluded(self):
        """Until those that it is not about say of one of the others that it is excluded; which."""
        def one_is():
            self.check_clients()
            return next((number for number in self.numbers
                         if all(self.node(other).excludes(number) for other in self.others())), None)
        number = wait_until(one_is, f"one of {self.numbers} is excluded", 60)
        self.excluded_after = (time.monotonic_ns() - self.begin) / 1e9
        return number

    def killed_for_long(self):
        self.kill(self.numbers[0])
        self.until_excluded()
        time.sleep(self.rng.uniform(0, 1))

    def killed_and_started(self):
        self.kill(self.numbers[0])

    def for_seconds(self, seconds):
        self.told = f"{seconds:.2f} s"
        time.sleep(seconds)

    def for_long(self):
        number = self.until_excluded()
        if len(self.numbers) == 2:
            # Of two that do not hear each other: not the one that decides; else the lower.
            wanted = next((one for one in self.numbers if one != self.decided))
            check(number == wanted, f"of {self.numbers} node {number} went; node {self.decided} decided")
        time.sleep(self.rng.uniform(0, 1))

    def paused(self, meanwhile):
        process = self.node(self.numbers[0]).process
        begin = time.monotonic()
        os.kill(process.pid, signal.SIGSTOP)
        try:
            meanwhile()
        finally:
            os.kill(process.pid, signal.SIGCONT)
        self.was_brief(time.monotonic() - begin)

    def was_brief(self, seconds, most=BRIEF):
        """If it was not, it may be what a longer one may be."""
        if seconds > most:
            self.may_end.update(self.numbers)

    def paused_for_long(self):
        self.paused(self.for_long)

    def paused_briefly(self):
        self.paused(lambda: self.for_seconds(0.5))

    def paused_about_a_lease(self):
        self.paused(lambda: self.for_seconds(self.rng.uniform(BRIEF, 2.2)))

    def cut(self, meanwhile, how=None):
        """All but the cable, which takes a second to come back, is mended to the moment."""
        names = [machine(number) for number in self.numbers]
        others = [machine(number) for number in self.others()]
        how = how or self.rng.choice(("both ways", "both ways", "unheard", "deaf"))
        out, back = {names[0]: others}, {other: names for other in others}
        ways = {"unheard": out, "deaf": back, "both ways": {**out, **back}, "apart, one way": {names[0]: names[1:]}}
        other_ways = {"cable": (self.network.unplug, self.network.plug),
                      "apart": (self.network.part, self.network.rejoin)}
        cut, mend = other_ways.get(how, (self.network.mislead, self.network.lead))
        begin = time.monotonic()
        places = list(ways[how].items()) if how in ways else [names]
        for place in places:
            cut(*place)
        try:
            meanwhile()
        finally:
            for place in places:
                mend(*place)
        self.was_brief(time.monotonic() - begin, BRIEF_CUT)
        self.told = ", ".join(text for text in (how, self.told) if text)

    def cut_off(self):
        self.cut(self.for_long, "cable")

    def unheard(self):
        self.cut(self.for_long, "unheard")

    def deaf(self):
        self.cut(self.for_long, "deaf")

    def cut_briefly(self):
        self.cut(lambda: self.for_seconds(self.rng.uniform(0.1, BRIEF_CUT - 0.1)))

    def cut_about_a_lease(self):
        self.cut(lambda: self.for_seconds(self.rng.uniform(BRIEF, 2.2)))

    def two_apart(self):
        self.cut(self.for_long, self.rng.choice(("apart", "apart", "apart, one way")))

    def two_apart_for_a_moment(self):
        self.cut(lambda: self.for_seconds(self.rng.uniform(0.3, 3)), "apart")

    def slow(self):
        name = machine(self.numbers[0])
        drawn = {kind: self.rng.choice(words) for kind, words in SLOW.items()}
        kind = next((kind for kind, words in drawn.items() if self.network.narrow(name, kind, *words)), None)
        try:
            check(kind, "tc has neither netem nor tbf")
            self.for_seconds(self.rng.uniform(2, 4))
            self.told += f" of {kind} {' '.join(drawn[kind])}"
        finally:
            self.network.widen(name)

    def flapping(self):
        """A loose contact."""
        name, times = machine(self.numbers[0]), self.rng.randint(3, 8)
        self.told = f"{times} times"
        for _ in range(times):
            self.network.unplug(name)
            time.sleep(self.rng.uniform(0, 0.4))
            self.network.plug(name)
            time.sleep(self.rng.uniform(0, 0.4))

    def reset(self, times, least, most):
        """Connections break, and can be made again at once."""
        self.told = f"{times} times"
        for turn in range(times):
            # Later on there are none, perhaps, that could be broken.
            check(self.network.reset(machine(self.numbers[0])) or turn > 0, "connections cannot be broken here")
            time.sleep(self.rng.uniform(least, most))

    def broken(self):
        """Heartbeats go on in between."""
        self.reset(self.rng.randint(1, 2), 1, 1.5)

    def broken_all_the_time(self):
        self.reset(self.rng.randint(3, 8), 0, 0.5)

    def all_paused(self):
        """At one time, as where they are guests of a host that is: nobody has missed anything."""
        processes = [self.node(number).process for number in self.rng.sample(NODES, 3)]
        for process in processes:
            os.kill(process.pid, signal.SIGSTOP)
        try:
            self.for_seconds(2)
        finally:
            for process in self.rng.sample(processes, 3):
                os.kill(process.pid, signal.SIGCONT)

    def all_cables_out(self):
        """Nobody reaches anybody, as where a switch begins anew."""
        names = [machine(number) for number in self.rng.sample(NODES, 3)]
        for name in names:
            self.network.unplug(name)
        try:
            self.for_seconds(2)
        finally:
            for name in self.rng.sample(names, 3):
                self.network.plug(name)

    def all_stopped(self):
        self.cluster.stop(self.rng.sample(self.cluster.nodes, 3))
        self.stop_clients()
        self.start_all()

    def all_killed(self):
        """What was not flushed may be lost. From then on the clients are elsewhere."""
        self.cluster.kill(self.rng.sample(self.cluster.nodes, 3))
        self.stop_clients()
        self.start_all()
        self.cluster.wait_until_all_serve()
        reads = self.read_everywhere()
        judge(self.requests + at_the_crash(self.requests, reads))
        self.torture.keep(self.runs, reads)
        self.runs, self.requests, self.earlier = self.torture.next_places(), [], self.requests

    def start_all(self):
        """In another order."""
        for number in self.rng.sample(NODES, 3):
            self.start(number)
            time.sleep(self.rng.uniform(0, 0.5))

    # --- afterwards

    def check_clients(self):
        """Those that may not have ended go on."""
        for load in self.loads:
            load.check_running(self.may_end)
        self.torture.check_files()

    def start(self, number):
        self.starts[number] += 1
        self.killed.discard(number)
        self.unloaded.add(number)
        self.cluster.wait_until_gone(number)
        self.cluster.nodes[number - 1] = Node(self.cluster, number)

    def start_ended(self):
        """Whether there were any."""
        ended = [node for node in self.cluster.nodes if node.process.poll() is not None]
        for node in ended:
            number, status = node.number, node.process.returncode
            check(number in self.may_end and status == (-signal.SIGKILL if number in self.killed else 0),
                  f"the server of node {number} ended with {status}\n{node.log()}")
            check(self.starts[number] < 2, f"the server of node {number} ends again and again\n{node.log()}")
            # Of two that do not hear each other one goes.
            self.may_end = {number}
            self.start(number)
            if self.starts[number] == 1:
                self.disturb_return(number)
        return bool(ended)

    def disturb_return(self, number):
        """It is killed again, or another one hangs for a moment, and all go on."""
        choice = self.rng.choice(("", "", "kill", "pause"))
        if not choice:
            return
        time.sleep(self.rng.uniform(0, 1.5))
        if choice == "kill":
            self.kill(number)
            self.told += ", killed again as it returned"
            return
        other = self.rng.choice([one for one in NODES if one != number])
        process = self.node(other).process
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(self.rng.uniform(0.05, 0.4))
        os.kill(process.pid, signal.SIGCONT)
        self.told += f", node {other} paused as it returned"

    def is_whole(self):
        self.check_clients()
        if self.start_ended():
            return False
        for number in sorted(self.unloaded):
            if self.node(number).is_served():
                self.unloaded.discard(number)
                self.loads.append(Load(self.cluster, self.runs, seed=self.rng.random(), nodes=[self.node(number)]))
        return not self.unloaded and self.cluster.is_whole()

    def heal(self):
        """Until all nodes serve, and have nothing left to do. One that may be excluded may hear it late, and answers
        no reads then."""
        def answers():
            wait_until(self.is_whole, "all nodes serve, and all members are in sync", 120)
            try:
                self.requests += self.read_everywhere()
            except Failed as reason:
                check(self.may_end, str(reason))
                say(f"  not yet: {reason}")
                return False
            return self.is_whole()
        wait_until(answers, "all nodes answer", 120)

    def read_everywhere(self):
        return [one for node in self.cluster.nodes for one in read_all(node, self.runs)]

    def stop_clients(self):
        loads, self.loads = self.loads, []
        for load in loads:
            self.requests += load.stop()

    def check_history(self):
        check_no_errors([one for one in self.requests if one.node not in self.starts])
        check_busy(self.requests, 1)
        judge(self.requests)
        for number, pause in self.pauses(self.begin):
            check(pause < LONGEST, f"clients of node {number} waited for {pause:.1f} s")

    def pauses(self, since):
        """Of clients of nodes that did not end, if there are any."""
        requests = self.earlier + self.requests
        return [(number, silence(requests, number, since, self.whole)) for number in NODES
                if number not in self.starts or len(self.starts) == len(NODES)]

    @staticmethod
    def what_stays(node):
        """No rows are resynced, no member is rebuilt whole."""
        return [node.process, node.status()["recovery"], whole_log(node).count("rebuilt whole")]

    def check_nodes(self):
        if self.kind.must_end:
            check(self.starts, "nobody was excluded")
        for node in self.cluster.nodes:
            shown, before, after = node.status(), self.before[node.number], self.what_stays(node)
            check(not shown["bad_bytes"] and not shown["in_doubt"], f"node {node.number} tells of bad rows or doubt")
            check(before[0] is not after[0] or before == after, f"node {node.number}: {before[1:]}, then {after[1:]}")

    def line(self):
        text = f"{self.kind.name}: node {' and '.join(map(str, self.numbers))}" if self.others() else self.kind.name
        if self.decided in self.numbers and self.others():
            text += " (decides)"
        text += f", {self.told.removeprefix(', ')}" if self.told else ""
        if self.excluded_after:
            text += f"; excluded after {self.excluded_after:.1f} s"
        elif self.starts and not self.kind.must_end and self.others():
            text += "; was excluded"
        pause = max(pause for _, pause in self.pauses(self.begin))
        return text + f"; pause {pause:.2f} s, whole after {(self.whole - self.mended) / 1e9:.1f} s"


class Kind(NamedTuple):
    """`takes`: so many nodes, drawn. One of them will be excluded, or may be; or nobody is. With all three nobody is
    left to go on."""
    name: str
    act: Callable
    takes: int = 1
    must_end: bool = False
    may_end: bool = False


KINDS = [
    Kind("killed", Round.killed_for_long, 1, True, True),
    Kind("killed, started at once", Round.killed_and_started, 1, True, True),
    Kind("paused", Round.paused_for_long, 1, True, True),
    Kind("paused briefly", Round.paused_briefly),
    Kind("paused about a lease", Round.paused_about_a_lease, 1, False, True),
    Kind("cut off", Round.cut_off, 1, True, True),
    Kind("heard by nobody", Round.unheard, 1, True, True),
    Kind("hears nobody", Round.deaf, 1, True, True),
    Kind("cut off briefly", Round.cut_briefly),
    Kind("cut off about a lease", Round.cut_about_a_lease, 1, False, True),
    Kind("two apart", Round.two_apart, 2, True, True),
    Kind("two apart for a moment", Round.two_apart_for_a_moment, 2, False, True),
    Kind("slow", Round.slow, 1, False, True),
    Kind("loose contact", Round.flapping, 1, False, True),
    Kind("connections break", Round.broken),
    Kind("connections keep breaking", Round.broken_all_the_time, 1, False, True),
    Kind("all paused", Round.all_paused, 3),
    Kind("all cables out", Round.all_cables_out, 3),
    Kind("all stopped", Round.all_stopped, 3, True, True),
    Kind("all killed", Round.all_killed, 3, True, True),
]


class Torture:
    """One array on its way through many faults."""

    def __init__(self, world, level, rng, with_files):
        self.world, self.rng, self.files = world, rng, None
        self.strip = rng.choice((4 * KIB, 64 * KIB))
        self.data = MEMBERS[level] - (2 if level == 6 else 1)
        # Each round has its own; with large strips its sectors are in two stripes or three.
        stripes = range(0, MEMBER // 2 // self.strip, 4)
        self.stripes = rng.sample(stripes, min(len(stripes), 4 * ROUNDS_OF_AN_ARRAY))
        self.kept = []      # (runs, content) of earlier rounds
        say(f"RAID-{level} of {MEMBERS[level]} members, strips of {self.strip // KIB} KiB")
        self.network, self.cluster = three_machines(world, level, members=MEMBERS[level], patient=False,
                                                    options=["--strip-size", self.strip,
                                                             "--volume", f"data:{self.data * MEMBER // 2}",
                                                             "--volume", f"files:{self.data * 16 * MIB}"])
        if with_files:
            try:
                files = Files(world, rng.random())
                files.begin(rng.choice(self.cluster.nodes))
                self.files = files
            except Skip as reason:
                say(f"no file system: {reason}")

    def may_go(self):
        return [number for number in NODES if not self.files or number != self.files.number]

    def check_files(self):
        if self.files:
            self.files.check()

    def next_places(self):
        return places(self.data, self.strip, self.stripes.pop())

    @staticmethod
    def content(reads):
        return {one.sector + at: value for one in reads for at, value in enumerate(one.values)}

    def keep(self, runs, reads):
        self.kept.append((runs, self.content(reads)))

    def check(self):
        """A clean stop; parity, and all that was there. The file system is at another node afterwards."""
        if self.files:
            self.files.end()
        self.cluster.stop(self.rng.sample(self.cluster.nodes, 3))
        self.cluster.check_parity()
        self.cluster.start()
        if self.files:
            self.files.begin(self.rng.choice([self.cluster.nodes[number - 1] for number in self.may_go()]))
        for runs, content in self.kept:
            node = self.rng.choice(self.cluster.nodes)
            found = self.content(read_all(node, runs))
            wrong = [f"{sector}: {found[sector]}, not {value}" for sector, value in content.items()
                     if found[sector] != value]
            check(not wrong, f"node {node.number} shows what was not there, sectors {wrong[:10]}")


class Figures:
    """By kind."""

    def __init__(self):
        self.times, self.excluded = collections.Counter(), collections.Counter()
        self.values = collections.defaultdict(list)

    def add(self, one):
        name = one.kind.name
        self.times[name] += 1
        self.excluded[name] += bool(one.starts)
        self.values[name, "pause"] += [pause for _, pause in one.pauses(one.begin)]
        if one.starts and len(one.starts) < len(NODES):
            self.values[name, "pause of the return"] += [pause for _, pause in one.pauses(one.mended)]
        self.values[name, "whole after"].append((one.whole - one.mended) / 1e9)

    def table(self):
        columns = ("pause", "pause of the return", "whole after")
        lines = ["", f"{'':26}{'times':>6}{'ended':>6}" + "".join(f"{name + ', s':>24}" for name in columns),
                 f"{'':38}" + f"{'p50':>16}{'max':>8}" * len(columns)]
        for name, times in sorted(self.times.items()):
            line = f"{name:26}{times:6}{self.excluded[name]:6}"
            for column in columns:
                values = self.values[name, column]
                line += f"{statistics.median(values):16.2f}{max(values):8.2f}" if values else f"{'':24}"
            lines.append(line)
        return "\n".join(lines) + "\n"

    def json(self):
        return {name: {"times": times, "ended": self.excluded[name],
                       **{column: values for (kind, column), values in self.values.items() if kind == name}}
                for name, times in self.times.items()}


def write_down(one, outer, folder):
    """What is known of a round that failed: the servers' logs, and the history."""
    for load in one.loads:
        try:
            one.requests += load.stop(5)
        except Failed:
            pass
    logs = sorted(glob.glob(one.torture.world.path("*.log")))
    for path in logs:
        shutil.copy(path, outer.folder)
    if folder:
        folder = os.path.join(folder, time.strftime("%Y%m%d-%H%M%S"))
        os.makedirs(folder)
        for path in logs:
            shutil.copy(path, folder)
        with open(os.path.join(folder, "history.pickle"), "wb") as file:
            pickle.dump([tuple(request) for request in one.earlier + one.requests], file)
        say(f"what is known of it is in {folder}")


def draw(deck, kinds, rng, most):
    """The next kind of the deck that takes so many nodes at most."""
    if not any(kind.takes <= most for kind in deck):
        deck += kinds
        rng.shuffle(deck)
    kind = next(kind for kind in reversed(deck) if kind.takes <= most or len(kinds) == 1)
    deck.remove(kind)
    return kind


def torture(world, options):
    say(f"replay: tests/system/cluster_torture_test.py --seed {options.seed}"
        + "".join(f" --{name} {value}" for name, value in (("seconds", options.seconds), ("rounds", options.rounds),
                                                           ("level", options.level), ("only", options.only)) if value))
    rng, figures, number = random.Random(options.seed), Figures(), 0
    until = time.monotonic() + options.seconds if options.seconds else None
    kinds = [kind for kind in KINDS if not options.only or kind.name == options.only]
    check(kinds, f"there is no {options.only}; there are: {', '.join(kind.name for kind in KINDS)}")
    deck = []

    def over():
        return number >= options.rounds if options.rounds else time.monotonic() > until

    try:
        while not over():
            with World() as own:
                array = Torture(own, options.level or rng.choice((5, 6, 6)), random.Random(rng.getrandbits(64)),
                                with_files=rng.random() < 0.4)
                for turn in range(1, ROUNDS_OF_AN_ARRAY + 1):
                    kind = draw(deck, kinds, rng, len(array.may_go()))
                    number += 1
                    one = Round(array, kind, random.Random(rng.getrandbits(64)))
                    try:
                        one.run()
                        if over() or turn % ROUNDS_BETWEEN_CHECKS == 0:
                            array.check()
                    except BaseException:
                        say(f"{number}: {one.kind.name}, nodes {one.numbers}, {one.told}: failed")
                        write_down(one, world, options.keep)
                        raise
                    figures.add(one)
                    say(f"{number}: {one.line()}")
                    if over():
                        break
                if array.files:
                    array.files.end()
                array.cluster.stop()
    finally:
        print(figures.table(), flush=True)
        if options.json:
            with open(options.json, "w") as file:
                json.dump({"seed": options.seed, "kinds": figures.json()}, file, indent=1)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="begins no round after that")
    parser.add_argument("--rounds", type=int, help="so many instead")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--level", type=int, choices=sorted(MEMBERS), help="of all arrays (drawn)")
    parser.add_argument("--only", metavar="KIND", help="of fault")
    parser.add_argument("--json", metavar="FILE", help="writes the figures there")
    parser.add_argument("--keep", metavar="FOLDER", help="where logs and history of a failure go")
    return parser.parse_args()


if __name__ == "__main__":
    main(torture, parse())
