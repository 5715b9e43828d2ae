#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What members take up on a real file system: preallocated ones keep their space through create,
zeroes that may not punch holes, and nbdcopy --allocated; thin ones stay thin through trims and a
rebuild."""
import os

import nbd

from braid_system import KIB, MIB, check, main, need_tools, run, say

SIZE = 64 * MIB
DATA = 4 * MIB      # data_offset_default in engine/assembly/create.h


def taken(path):
    return os.stat(path).st_blocks * 512


def connect(server):
    handle = nbd.NBD()
    handle.connect_uri(server.uri)
    return handle


def preallocated(world, level):
    paths = world.members(4, SIZE)
    for path in paths[:3]:
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, SIZE)
    world.create(paths, level)
    check(all(taken(path) >= SIZE for path in paths[:3]), f"create punched holes: {[*map(taken, paths)]}")
    check(taken(paths[3]) <= DATA + MIB, f"a thin member is not thin any more: {taken(paths[3])}")
    server = world.serve(paths)
    server.wait_for_idle()
    handle = connect(server)
    size = handle.get_size()
    handle.pwrite(b"x" * MIB, 5 * MIB)
    handle.zero(8 * MIB, 4 * MIB, nbd.CMD_FLAG_NO_HOLE)
    handle.flush()
    check(handle.pread(8 * MIB, 4 * MIB) == bytes(8 * MIB), "zeroes with NO_HOLE")
    check(all(taken(path) >= SIZE for path in paths[:3]), "a zero with NO_HOLE punched holes")
    source = world.file(size)
    with open(source, "r+b") as file:
        file.write(os.urandom(MIB))
    run("nbdcopy", "--allocated", "--destination-is-zero", source, server.uri)
    run("nbdcopy", "--allocated", source, server.uri)
    check(all(taken(path) >= SIZE for path in paths[:3]), "nbdcopy --allocated punched holes")
    check(server.sha256() == run_sha256(source), "nbdcopy --allocated")
    # And who allows it gets the space back.
    handle.zero(32 * MIB, 0)
    check(taken(paths[0]) < SIZE - 8 * MIB, "a zero that may punch holes punched none")
    handle.shutdown()
    server.check_scrub_is_clean()
    server.stop()
    say("preallocated members stay so, unless a client allows holes")


def run_sha256(path):
    return run("sha256sum", path).stdout.split()[0]


def thin(world, level):
    server = world.array(level, 4, SIZE)
    handle = connect(server)
    before = [taken(path) for path in server.paths]
    # Never a whole stripe of them.
    for at in range(0, handle.get_size() - 64 * KIB, 192 * KIB):
        handle.trim(64 * KIB, at + 32 * KIB)
    handle.flush()
    grown = max(taken(path) - old for path, old in zip(server.paths, before))
    check(grown <= MIB, f"trims of empty space took {grown} bytes of a member")
    say(f"trims of empty space took {grown} bytes")
    data = os.urandom(MIB)
    handle.pwrite(data, 20 * MIB + 5000)
    new = server.replace(1)
    server.braid("rebuild", "--wait")
    new = server.member(1)
    check(new["bytes_written"] <= 2 * MIB, f"the rebuild wrote {new['bytes_written']} bytes")
    check(taken(new["path"]) <= DATA + 3 * MIB, f"the rebuilt member takes {taken(new['path'])} bytes")
    check(handle.pread(MIB, 20 * MIB + 5000) == data, "the data after the rebuild")
    say(f"a rebuild of 1 MiB of data wrote {new['bytes_written']} bytes")
    # A used disk: its content is overwritten, zeros included.
    used = world.random_file(SIZE, "used")
    server.braid("member", "replace", "--force", 2, used)
    server.braid("rebuild", "--wait")
    check(handle.pread(MIB, 20 * MIB + 5000) == data, "the data on a used disk")
    handle.shutdown()
    server.check_scrub_is_clean()
    server.stop()


def space(world):
    need_tools("nbdcopy")
    for level in (5, 6):
        preallocated(world, level)
        thin(world, level)


if __name__ == "__main__":
    main(space)
