#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What an NBD client sees of the plugin: the exports and their flags, and requests of every kind,
size and alignment against a copy in memory. Argument: the level."""
import errno
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
import nbd
from braid_system import GIB, KIB, MIB, SANITIZE, Failed, check, main, run, say

VOLUME = 24 * MIB


def connect(server, export=""):
    client = nbd.NBD()
    client.add_meta_context("base:allocation")
    client.set_export_name(export)
    client.set_full_info(True)
    # The server is to be asked also what a polite client would not ask.
    client.set_strict_mode(0)
    client.connect_unix(server.socket)
    return client


def flags(server):
    client = connect(server, "first")
    for name in ("can_flush", "can_fua", "can_trim", "can_zero", "can_fast_zero", "can_multi_conn",
                 "can_cache"):
        check(getattr(client, name)(), f"{name} is false")
    check(not client.is_read_only(), "read only")
    check(not client.is_rotational(), "rotational")
    sizes = [client.get_block_size(what) for what in (nbd.SIZE_MINIMUM, nbd.SIZE_PREFERRED, nbd.SIZE_MAXIMUM)]
    check(sizes == [1, 4096, 32 * MIB], f"block sizes {sizes}")
    check(client.get_size() >= VOLUME, "the volume has not its size")
    client.shutdown()


def exports(server):
    text = run("nbdinfo", "--list", server.uri).stdout
    for word in ('export="first"', 'export="second"', "RAID-"):
        check(word in text, f"nbdinfo says nothing of {word}:\n{text}")
    default = connect(server)
    check(default.get_canonical_export_name() == "second", "volume=second is not the default export")
    try:
        connect(server, "third")
    except nbd.Error:
        return
    raise Failed("an export that is not there was served")


class Model:
    """A volume and what must be in it."""

    def __init__(self, client, seed):
        self.clients, self.random = [client], random.Random(seed)
        self.bytes = bytearray(client.pread(VOLUME, 0))

    def range(self):
        size = self.random.choice([1, 511, 512, 4095, 4096, 4097, 65536, self.random.randrange(1, 300 * KIB),
                                   self.random.randrange(1, 3 * MIB)])
        return self.random.randrange(0, VOLUME - size + 1), size

    def step(self):
        client = self.random.choice(self.clients)
        offset, size = self.range()
        fua = self.random.choice([0, nbd.CMD_FLAG_FUA])
        what = self.random.choice(["read", "read", "write", "write", "write", "zero", "fast", "trim", "flush", "cache"])
        if what == "read":
            check(client.pread(size, offset) == self.bytes[offset:offset + size], f"read {size} at {offset}")
        elif what == "write":
            data = self.random.randbytes(size)
            client.pwrite(data, offset, fua)
            self.bytes[offset:offset + size] = data
        elif what == "zero":
            client.zero(size, offset, fua | self.random.choice([0, nbd.CMD_FLAG_NO_HOLE]))
            self.bytes[offset:offset + size] = bytes(size)
        elif what == "fast":
            try:
                client.zero(size, offset, fua | nbd.CMD_FLAG_FAST_ZERO)
                self.bytes[offset:offset + size] = bytes(size)
            except nbd.Error as error:
                check(error.errnum in (errno.ENOTSUP, errno.EOPNOTSUPP), f"fast zero: {error}")
                # It may have zeroed a part.
                self.bytes[offset:offset + size] = client.pread(size, offset)
        elif what == "trim":
            client.trim(size, offset, fua)
            self.bytes[offset:offset + size] = client.pread(size, offset)
        elif what == "flush":
            client.flush()
        elif what == "cache":
            client.cache(size, offset)

    def check_all(self):
        for client in self.clients:
            check(client.pread(VOLUME, 0) == self.bytes, "the volume is not what was written")


def many_requests(server, steps):
    model = Model(connect(server, "first"), 7)
    model.clients += [connect(server, "first") for _ in range(3)]
    for _ in range(steps):
        model.step()
    model.check_all()
    server.fail(0)
    for _ in range(steps):
        model.step()
    model.check_all()
    return model


def beyond_the_end(server):
    client = connect(server, "first")
    size = client.get_size()
    for what in (lambda: client.pread(2, size - 1), lambda: client.pwrite(b"xx", size - 1),
                 lambda: client.zero(2, size - 1), lambda: client.trim(2, size - 1),
                 lambda: client.pread(1, 1 << 62)):
        try:
            what()
        except nbd.Error:
            continue
        raise Failed("a request beyond the end was served")
    # The neighbour is not to be reached over the edge.
    client.pwrite(b"\xaa" * 4096, size - 4096)
    check(connect(server, "second").pread(4096, 0) == bytes(4096), "a write went into the next volume")


def large_ones(world):
    """Requests of tens of megabytes, and zeroes of nearly 4 GiB."""
    server = world.array(5, 4, 2 * GIB)
    client = connect(server)
    data = random.Random(1).randbytes(48 * MIB)
    client.pwrite(data, 12345)
    check(client.pread(len(data), 12345) == data, "48 MiB at once")
    if not SANITIZE:
        client.zero((1 << 32) - 4096, 4096)
        check(client.pread(8192, 0) == bytes(8192), "a zero of nearly 4 GiB")
    check(client.pread(len(data), 12345) == bytes(len(data)) or SANITIZE, "zeroed bytes are zero")
    client.shutdown()
    server.stop()


def read_only(world, paths, contents):
    run("chmod", "444", *paths)
    before = [os.stat(path).st_mtime_ns for path in paths]
    server = world.serve(paths, "readonly")
    client = connect(server, "first")
    check(client.is_read_only(), "not read only")
    check(client.pread(VOLUME, 0) == contents, "read only: other bytes")
    for what in (lambda: client.pwrite(b"x", 0), lambda: client.zero(1, 0), lambda: client.trim(1, 0)):
        try:
            what()
        except nbd.Error as error:
            check(error.errnum in (errno.EPERM, errno.EROFS), f"read only: {error}")
            continue
        raise Failed("a read-only array was written")
    client.shutdown()
    server.stop()
    check([os.stat(path).st_mtime_ns for path in paths] == before, "a read-only array's members changed")


def requests(world, level):
    paths = world.members(5, 40 * MIB)
    world.create(paths, level, "--volume", f"first:{VOLUME}", "--volume", "second:8M")
    server = world.serve(paths, "volume=second")
    flags(server)
    exports(server)
    say("exports and flags are right")
    beyond_the_end(server)
    model = many_requests(server, 60 if SANITIZE else 400)
    say("requests of every kind, whole and degraded")
    server.stop()
    read_only(world, paths, bytes(model.bytes))
    if level == "6":
        large_ones(world)
        say("large requests")


if __name__ == "__main__":
    main(requests, *sys.argv[1:])
