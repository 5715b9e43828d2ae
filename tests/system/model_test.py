#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Random requests of every kind, size and alignment over four connections at a time, against a copy
of the bytes in memory, while members fail, are replaced, are scrubbed, and the server is restarted.

The connections own slices of 3001 bytes in turn, so that they share rows, strips and stripes all the
time, yet what a read must return is known. Prints its seed; BRAID_SEED repeats it.

usage: model_test.py LEVEL
"""
import os
import random
import sys
import time

import nbd

from braid_system import LONG, MIB, SANITIZE, Failed, check, main, say

MEMBERS = {4: 4, 5: 5, 6: 6}
CONNECTIONS = 4
SLICE = 3001
FIELD = CONNECTIONS * SLICE


class Client:
    """One connection with several requests in flight, none of which overlap each other."""

    def __init__(self, index, model, rng, size):
        self.index, self.model, self.rng, self.size = index, model, rng, size
        self.flying = []    # [cookie, first, end, kind, offset, buffer or expected bytes]
        self.handle = None

    def connect(self, uri):
        self.handle = nbd.NBD()
        self.handle.set_request_structured_replies(False)
        self.handle.connect_uri(uri)

    def pick(self):
        """A range inside one of the connection's own slices."""
        slice_count = self.size // FIELD
        begin = self.rng.randrange(slice_count) * FIELD + self.index * SLICE
        count = self.rng.choice((1, 2, 511, 512, 513, 1024, 3000, SLICE, self.rng.randint(1, SLICE)))
        return begin + self.rng.randint(0, SLICE - count), count

    def start(self):
        offset, count = self.pick()
        if any(offset < end and first < offset + count for _, first, end, *_ in self.flying):
            return
        kind = self.rng.choices(("read", "write", "fua", "zero", "trim", "flush"), (8, 12, 1, 2, 1, 0.2))[0]
        handle, data = self.handle, None
        if kind == "read":
            data = nbd.Buffer(count)
            cookie = handle.aio_pread(data, offset)
        elif kind in ("write", "fua"):
            value = self.rng.randbytes(count)
            data = nbd.Buffer.from_bytearray(bytearray(value))
            cookie = handle.aio_pwrite(data, offset, flags=nbd.CMD_FLAG_FUA if kind == "fua" else 0)
            self.model[offset:offset + count] = value
        elif kind == "zero":
            flags = self.rng.choice((0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FUA))
            cookie = handle.aio_zero(count, offset, flags=flags)
            self.model[offset:offset + count] = bytes(count)
        elif kind == "trim":
            cookie = handle.aio_trim(count, offset)
        else:
            cookie, count = handle.aio_flush(), 0
        self.flying.append([cookie, offset, offset + count, kind, offset, data])

    def reap(self):
        for flight in list(self.flying):
            cookie, first, end, kind, offset, data = flight
            if not self.handle.aio_command_completed(cookie):
                continue
            self.flying.remove(flight)
            if kind == "read":
                found = bytes(data.to_bytearray())
                if found != bytes(self.model[first:end]):
                    wrong = next(i for i in range(end - first) if found[i] != self.model[first + i])
                    raise Failed(f"connection {self.index}: read of {end - first} bytes at {offset} "
                                 f"differs from byte {first + wrong} on")
            elif kind == "trim":
                # What a trim leaves is not promised; whatever it is, it stays.
                self.model[first:end] = self.handle.pread(end - first, first)

    def step(self, depth):
        while len(self.flying) < depth and self.rng.random() < 0.9:
            self.start()
        self.handle.poll(0 if self.flying and self.rng.random() < 0.5 else 1)
        self.reap()

    def drain(self):
        while self.flying:
            self.handle.poll(100)
            self.reap()

    def close(self):
        self.drain()
        self.handle.shutdown()


def verify(server, model):
    path = server.copy_out()
    with open(path, "rb") as file:
        found = file.read()
    os.unlink(path)
    check(len(found) == len(model), "the volume changed its size")
    if found != bytes(model):
        first = next(i for i in range(len(model)) if found[i] != model[i])
        raise Failed(f"the volume differs from byte {first} on")


class Trouble:
    """What happens to the array meanwhile: one thing at a time, and never more than it can take."""

    def __init__(self, rng, level):
        self.rng, self.lost_max, self.lost = rng, 2 if level == 6 else 1, []

    def strike(self, server):
        status = server.status()
        if status["tasks"]:
            return "nothing, for something runs already"
        broken = [m["role"] for m in status["members"] if m.get("role") is not None
                  and m["state"] != "in_sync"]
        if len(broken) < self.lost_max and self.rng.random() < 0.6:
            role = self.rng.choice([r for r in range(len(server.paths)) if r not in broken])
            server.fail(role)
            return f"member {role} fails"
        if broken:
            role = self.rng.choice(broken)
            server.replace(role)
            return f"member {role} is replaced"
        server.braid("scrub", "start")
        return "a scrub starts"


def model(world, level):
    seed = int(os.environ.get("BRAID_SEED", random.randrange(1 << 32)))
    say(f"BRAID_SEED={seed}")
    rng = random.Random(seed)
    server = world.array(level, MEMBERS[level], 12 * MIB, "--strip-size", rng.choice(("4K", "16K", "64K")))
    handle = nbd.NBD()
    handle.connect_uri(server.uri)
    size = handle.get_size()
    handle.shutdown()
    bytes_now = bytearray(size)
    trouble = Trouble(rng, level)
    seconds = 600 if LONG else 10 if SANITIZE else 20
    end, requests = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        # A small field makes requests meet; the whole volume makes them spread.
        field = rng.choice((size, size // 16, 40 * FIELD))
        clients = [Client(index, bytes_now, random.Random(rng.random()), field)
                   for index in range(CONNECTIONS)]
        for client in clients:
            client.connect(server.uri)
        for turn in range(400 if SANITIZE else 2000):
            for client in clients:
                client.step(depth=12)
            if turn % 500 == 250:
                say(trouble.strike(server))
        for client in clients:
            client.close()
        requests += 1
        verify(server, bytes_now)
        if rng.random() < 0.3:
            say("restart")
            server = server.restart()
            verify(server, bytes_now)
    server.wait_for_idle()
    for member in server.status()["members"]:
        if member.get("role") is not None and member["state"] not in ("in_sync", "rebuilding"):
            server.replace(member["role"])
            server.wait_for_idle()
    server.check_scrub_is_clean()
    verify(server, bytes_now)
    server.stop()
    say(f"{requests} rounds")


if __name__ == "__main__":
    main(model, int(sys.argv[1]))
