# SPDX-License-Identifier: BSD-3-Clause
"""Clients of several nodes that write down what they do and see, and when; and what becomes of that.

Each client is a process of its own (this file as a program): a few requests in flight, reads, writes
and flushes of one to eight sectors. The machine's monotonic clock is the same for all of them. Each
write has a number of its own, which is in all of the bytes of each of its sectors.
"""
import errno
import json
import os
import pickle
import random
import select
import struct
import subprocess
import sys
import time
from typing import NamedTuple

import nbd

from braid_system import PATIENCE, Failed, check, end, end_of, say, start, wait_until
from linearizable import NEVER, Operation, faults

SECTOR = 512
LARGEST = 8     # sectors of one request
NUMBERS = 1 << 32  # a client's numbers begin at its own number times this


class Request(NamedTuple):
    """What a client did. `values` are one for each sector: for a read what it saw, for a write all the
    same. `error`: it was not acknowledged; a write may have happened all the same."""
    client: int
    node: int
    kind: str
    sector: int
    values: tuple
    begin: float
    end: float
    error: str = ""
    fua: bool = False


def content(value, sector):
    return struct.pack("<QQ", value, sector) * (SECTOR // 16)


def value_in(data, sector):
    """The number of the write that this is of, 0 if nothing was ever written; else, as text, what is wrong
    with it, which is a value that nobody wrote."""
    value, place = struct.unpack_from("<QQ", data)
    if data == bytes(SECTOR):
        return 0
    if data != data[:16] * (SECTOR // 16):
        return f"torn: {sorted({data[at:at + 16].hex() for at in range(0, SECTOR, 16)})[:4]}"
    return value if place == sector else f"{value}, which was written to sector {place}"


def values_in(data, sector):
    return tuple(value_in(data[at:at + SECTOR], sector + at // SECTOR) for at in range(0, len(data), SECTOR))


class Client:
    """One connection that keeps `depth` requests in flight until it is told to stop, or the connection
    breaks. `runs` are the sectors that it works on: (first, count)."""

    def __init__(self, client, node, uri, runs, depth, seed):
        self.client, self.node, self.runs, self.depth = client, node, runs, depth
        self.rng = random.Random(f"{seed} {client}")
        self.done, self.in_flight, self.value = [], {}, client * NUMBERS
        self.handle = nbd.NBD()
        self.handle.connect_uri(uri)

    def begin_one(self):
        chance = self.rng.random()
        kind = "read" if chance < 0.55 else "write" if chance < 0.96 else "flush"
        first, length = self.rng.choice(self.runs)
        sector = first + self.rng.randrange(length)
        count = min(self.rng.randint(1, LARGEST), first + length - sector)
        values, buffer, fua = (), None, False
        if kind == "write":
            fua = self.rng.random() < 0.1
            self.value += 1
            values = (self.value,) * count
            data = b"".join(content(self.value, sector + at) for at in range(count))
            buffer = nbd.Buffer.from_bytearray(bytearray(data))
        elif kind == "read":
            buffer = nbd.Buffer(count * SECTOR)
        place = sector * SECTOR

        def ended(error):
            now = time.monotonic_ns()
            self.in_flight.pop(key)
            seen = values_in(bytes(buffer.to_bytearray()), sector) if kind == "read" and not error.value else values
            text = errno.errorcode.get(error.value, str(error.value)) if error.value else ""
            self.done.append(Request(self.client, self.node, kind, sector, seen, begin, now, text, fua))
            return 1

        key = object()
        begin = time.monotonic_ns()
        self.in_flight[key] = Request(self.client, self.node, kind, sector, values, begin, 0, "no answer")
        if kind == "write":
            self.handle.aio_pwrite(buffer, place, ended, flags=nbd.CMD_FLAG_FUA if fua else 0)
        elif kind == "read":
            self.handle.aio_pread(buffer, place, ended)
        else:
            self.handle.aio_flush(ended)

    def work(self, told_to_stop):
        stop = False
        try:
            while not stop or self.in_flight:
                stop = stop or told_to_stop()
                while not stop and len(self.in_flight) < self.depth:
                    self.begin_one()
                # A request without an answer is what the parent waits for, and tells of.
                self.handle.poll(100)
        except nbd.Error as error:
            print(f"client {self.client} of node {self.node}: {error}", flush=True)
        return self.done + list(self.in_flight.values())


def client_main():
    """The client's process: works until its standard input ends."""
    words = json.loads(sys.argv[1])
    path = words.pop("output")
    client = Client(**words)
    print("connected", flush=True)
    requests = client.work(lambda: bool(select.select([0], [], [], 0)[0]))
    with open(path + ".new", "wb") as file:
        pickle.dump([tuple(one) for one in requests], file)
    os.rename(path + ".new", path)


def places(data, strip, stripe):
    """64 sectors that share few rows of parity, in a stripe of `data` strips or from it on. With small strips
    these are one after the other; with large ones they lie about the borders of strips."""
    per_strip = strip // SECTOR
    first = stripe * data * per_strip
    if per_strip <= LARGEST:
        return [(first, 64)]
    return [(first + border * per_strip - LARGEST, 2 * LARGEST) for border in range(1, 5)]


class Load:
    """Clients of all nodes of a cluster, or of `nodes`; `numbers` are those of earlier loads on the same
    sectors, which have to be different."""
    numbers = 0

    def __init__(self, cluster, runs, per_node=2, depth=4, seed=0, nodes=None):
        self.clients = []
        world = cluster.world
        for node in nodes or cluster.nodes:
            for _ in range(per_node):
                Load.numbers += 1
                words = {"client": Load.numbers, "node": node.number, "uri": node.uri, "runs": runs, "depth": depth,
                         "seed": seed, "output": world.unique("history")}
                log = world.unique("client.log")
                with open(log, "wb") as file:
                    process = start([sys.executable, os.path.realpath(__file__), json.dumps(words)],
                                    stdin=subprocess.PIPE, stdout=file, stderr=file)
                world.undo.callback(end, process)
                self.clients.append((words, process, log))

        def connected():
            self.check_running()
            return all("connected" in end_of(log) for _, _, log in self.clients)
        wait_until(connected, "all clients are connected")

    def check_running(self, but=()):
        """`but`: nodes whose clients may have ended."""
        for words, process, log in self.clients:
            check(words["node"] in but or process.poll() is None,
                  f"client {words['client']} of node {words['node']} ended\n{end_of(log)}")

    def stop(self, seconds=60):
        """What all of them did."""
        requests = []
        for _, process, _ in self.clients:
            process.stdin.close()
        until = time.monotonic() + seconds * PATIENCE
        for words, process, log in self.clients:
            who = f"client {words['client']} of node {words['node']}"
            try:
                status = process.wait(max(until - time.monotonic(), 1))
            except subprocess.TimeoutExpired:
                raise Failed(f"{who} waits in vain for an answer") from None
            check(status == 0, f"{who}: status {status}\n{end_of(log)}")
            with open(words["output"], "rb") as file:
                requests += [Request(*one) for one in pickle.load(file)]
        return requests


def read_all(node, runs):
    """What a node shows of all sectors, as one more client's requests."""
    try:
        handle, requests = node.connect(), []
    except nbd.Error as error:
        raise Failed(f"node {node.number} takes no connection: {error}") from None
    Load.numbers += 1
    for first, length in runs:
        for sector in range(first, first + length, LARGEST):
            count = min(LARGEST, first + length - sector)
            begin = time.monotonic_ns()
            try:
                data = bytes(handle.pread(count * SECTOR, sector * SECTOR))
            except nbd.Error as error:
                raise Failed(f"node {node.number}, {count} sectors from {sector} on: {error}") from None
            requests.append(Request(Load.numbers, node.number, "read", sector, values_in(data, sector), begin,
                                    time.monotonic_ns()))
    handle.shutdown()
    return requests


def silence(requests, node, since=0, until=NEVER):
    """For how long no request of a node's clients was answered, in seconds; of what began before `until` and
    ended after `since`."""
    ends = sorted(one.end for one in requests if one.node == node and not one.error)
    return max((after - before for before, after in zip(ends, ends[1:]) if after > since and before < until),
               default=0) / 1e9


def registers(requests):
    """The operations on each sector. Times are from the first of all begins on."""
    zero, sectors = min(one.begin for one in requests), {}
    for one in requests:
        if one.kind == "flush" or (one.kind == "read" and one.error):
            continue
        for at, value in enumerate(one.values):
            note = (f"client {one.client} of node {one.node}, sectors {one.sector} to "
                    f"{one.sector + len(one.values) - 1}" + (f": {one.error}" if one.error else ""))
            sectors.setdefault(one.sector + at, []).append(Operation(
                one.kind == "write", value, one.begin - zero, NEVER if one.error else one.end - zero, note))
    return sectors


def at_the_crash(requests, reads):
    """What the death of nodes left, as reads in the history before it. A flush that was acknowledged, at any
    node, keeps what was acknowledged before it began, anywhere. What came later may be lost, but only the
    last of it: what is there now was there at some moment after that flush had begun."""
    flushed = max((one.begin for one in requests if one.kind == "flush" and not one.error), default=None)
    check(flushed, "something was flushed")
    left, wrong = {}, []
    for one in reads:
        for at, value in enumerate(one.values):
            if left.setdefault(one.sector + at, value) != value:
                wrong.append(f"sector {one.sector + at}: {left[one.sector + at]}, and {value} at node {one.node}")
    check(not wrong, "nodes show different bytes after the crash: " + "; ".join(wrong[:10]))
    say(f"the last flush that came back began {(max(one.begin for one in requests) - flushed) / 1e6:.1f} ms before the "
        "last request")
    check_forced(requests, left)
    return [one._replace(begin=flushed, end=NEVER) for one in reads]


def check_forced(requests, left):
    """A write with FUA that was acknowledged is not lost: nothing is there that had ended, or was seen,
    before it began."""
    gone = {}  # when a value of a sector was there for certain
    for one in requests:
        if one.kind != "flush" and not one.error:
            for at, value in enumerate(one.values):
                key = one.sector + at, value
                gone[key] = min(gone.get(key, NEVER), one.end)
    for one in requests:
        for at in range(len(one.values) if one.fua and not one.error else 0):
            sector = one.sector + at
            check(left[sector] and gone.get((sector, left[sector]), NEVER) >= one.begin,
                  f"sector {sector} holds {left[sector]} after the crash, and this was forced later: {one}")


def judge(requests):
    """Fails if some sector did not look like a register that was zero in the beginning."""
    wrong, sectors = [], registers(requests)
    for sector, operations in sorted(sectors.items()):
        wrong += [f"sector {sector}: {fault}" for fault in faults(operations)]
    check(not wrong, f"{len(wrong)} times clients saw what one register cannot show:\n" + "\n".join(wrong[:10]))
    return sectors


def check_no_errors(requests):
    failed = [one for one in requests if one.error]
    check(not failed, f"{len(failed)} requests failed: " + "; ".join(map(str, failed[:3])))


def check_busy(requests, least=100):
    """A history in which nothing met proves nothing."""
    who = {one.values[0]: one.node for one in requests if one.kind == "write"}
    others = sum(1 for one in requests if one.kind == "read" and not one.error
                 and who.get(one.values[0], one.node) != one.node)
    beside, sectors = 0, {}
    for one in sorted((one for one in requests if one.kind == "write"), key=lambda one: one.begin):
        for sector in range(one.sector, one.sector + len(one.values)):
            before = sectors.get(sector)
            if before and before.node != one.node and one.begin < before.end:
                beside += 1
            sectors[sector] = one
    say(f"{len(requests)} requests; {others} reads saw another node's write, {beside} times two nodes wrote a sector "
        "at once")
    check(min(others, beside) >= least, "nodes meet on the sectors")


def plant(operations, rng):
    """The history of one sector with one read changed, so that no register can explain it; None if there
    is none to change. And which kind of fault that is."""
    writes = [one for one in operations if one.is_write and one.end != NEVER]
    of = {one.value: one for one in writes}
    reads = [index for index, one in enumerate(operations) if not one.is_write and one.value in of]
    for index in rng.sample(reads, len(reads)):
        one = operations[index]
        old = [write.value for write in writes
               if of[one.value].end < one.begin and write.end < of[one.value].begin]
        new = [write.value for write in writes if one.end < write.begin]
        for kind, values in rng.sample([("old", old), ("new", new), ("nowhere", ["?"])], 3):
            if values:
                changed = list(operations)
                changed[index] = one._replace(value=rng.choice(values))
                return kind, changed
    return None


def check_crash_judge(requests, reads, rng):
    """A flushed write that is lost is found: at one sector the one before it is put in its place."""
    sectors, flushed = registers(requests), reads[0].begin - min(one.begin for one in requests)
    for sector in rng.sample(sorted(sectors), len(sectors)):
        kept = [one for one in sectors[sector] if one.is_write and one.end < flushed]
        last = max(kept, key=lambda one: one.begin, default=None)
        older = [one for one in kept if one.end < last.begin]
        if older:
            lost = Operation(False, rng.choice(older).value, flushed, NEVER, "planted")
            check(faults([*sectors[sector], lost]), f"sector {sector}: a flushed write that is lost is not found")
            return
    raise Failed("no sector was written twice before the last flush")


def check_judge(sectors, rng, times=60):
    """The judge finds what is planted in real histories: a read that is too old, too new, or of nothing."""
    count = {"old": 0, "new": 0, "nowhere": 0}
    for _ in range(times):
        planted = plant(sectors[rng.choice(sorted(sectors))], rng)
        if planted:
            check(faults(planted[1]), f"a planted read ({planted[0]}) is not found")
            count[planted[0]] += 1
    say("planted and found: " + ", ".join(f"{value} {key}" for key, value in count.items()))
    check(min(count.values()) > 0, "each kind was planted")


if __name__ == "__main__":
    client_main()
