#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A member that really answers EIO: a loop device over nbdfuse over nbdkit's error filter.

Reads that fail are answered from the other members, written again and counted; a member with too
many of them, or with one failed write, is failed, and the array goes on without it. A start waits
for one that answers no reads for a moment, if it cannot do without.

usage: member_errors_test.py LEVEL read|write|start
"""
import os
import sys
import threading

import nbd

from braid_system import MIB, check, main, need_tools, run, say, wait_until

MEMBERS = {4: 4, 5: 5, 6: 6}
SIZE = 24 * MIB
STRIP = 64 << 10
READ_ERRORS_MAX = 20    # read_errors_max in engine/base/limits.h
ROLE = 1


class FaultyDisk:
    """A block device that fails reads or writes for as long as told."""

    def __init__(self, world):
        self.log = world.unique("faulty.log")
        self.trigger = {kind: world.unique(f"fail-{kind}") for kind in ("pread", "pwrite")}
        words = ["--filter=log", "--filter=error", "memory", SIZE, f"logfile={self.log}"]
        for kind, path in self.trigger.items():
            words += [f"error-{kind}=EIO", f"error-{kind}-rate=100%", f"error-{kind}-file={path}"]
        _, uri = world.nbdkit(*words)
        file = world.nbdfuse(uri)
        # Without the page cache in between: errors come at once and each time.
        self.device = world.loop_device(file, "--direct-io=on")

    def fails(self, kind, really=True):
        if really:
            open(self.trigger[kind], "w").close()
        else:
            os.unlink(self.trigger[kind])

    def logged(self, what):
        with open(self.log) as text:
            return [line for line in text if what in line]


def prepared(world, level):
    """An array full of known bytes, one member of which is a faulty disk that does not fail yet."""
    need_tools("nbdcopy")
    disk = FaultyDisk(world)
    paths = world.members(MEMBERS[level], SIZE)
    paths[ROLE] = disk.device
    world.create(paths, level)
    server = world.serve(paths)
    handle = nbd.NBD()
    handle.connect_uri(server.uri)
    data = os.urandom(handle.get_size())
    for offset in range(0, len(data), 4 * MIB):
        handle.pwrite(data[offset:offset + 4 * MIB], offset)
    handle.flush()
    return disk, server, handle, data


def member_reads_fail(world, level):
    disk, server, handle, data = prepared(world, level)
    server.wait_for_idle()
    writes = len(disk.logged(" Write id"))
    disk.fails("pread")
    # Two stripes: every member but RAID-4's parity is read at least once.
    for offset in range(0, 2 * STRIP * MEMBERS[level], STRIP):
        check(handle.pread(4096, offset) == data[offset:offset + 4096], f"wrong bytes at {offset}")
    disk.fails("pread", False)
    member = server.member(ROLE)
    corrected = server.counter("reads_corrected")
    check(member["state"] == "in_sync", f"a few errors made the member {member['state']}")
    check(0 < corrected < READ_ERRORS_MAX, f"{corrected} reads were corrected")
    check(member["errors_read"] > 0, f"the errors were not counted: {member}")
    check(len(disk.logged(" Write id")) >= writes + 1, "nothing was rewritten on the member")
    check(server.status()["health"] == "clean", "the array is still clean")
    say(f"{corrected} reads corrected, rewritten, counted")

    disk.fails("pread")
    for offset in range(0, len(data), STRIP):
        check(handle.pread(STRIP, offset) == data[offset:offset + STRIP], f"wrong bytes at {offset}")
    state = server.member(ROLE)["state"]
    check(state == "faulty", f"a member that cannot be read is {state}")
    check(server.status()["health"] == "degraded", "the array is degraded")
    say("too many errors: the member was failed, the bytes were right all the time")
    repaired(disk, server, handle, data)


def member_writes_fail(world, level):
    disk, server, handle, data = prepared(world, level)
    disk.fails("pwrite")
    data = bytearray(data)
    for index in range(64):
        offset = index * 7 * 12289
        data[offset:offset + 70001] = bytes([index]) * 70001
        handle.pwrite(bytes([index]) * 70001, offset)
    state = server.member(ROLE)["state"]
    check(state == "faulty", f"a member that cannot be written is {state}")
    check(server.status()["health"] == "degraded", "the array is degraded")
    handle.flush()
    for offset in range(0, len(data), MIB):
        block = data[offset:offset + MIB]
        check(handle.pread(len(block), offset) == block, f"wrong bytes at {offset}")
    say("the write succeeded, the member was failed, the array went on")
    repaired(disk, server, handle, bytes(data))


def member_is_silent_at_a_start(world, level):
    """Degraded already, so that there is no start without it."""
    disk, server, handle, data = prepared(world, level)
    handle.shutdown()
    server.wait_for_idle()
    server.stop()
    lost = [0, 2] if level == 6 else [0]
    run("blockdev", "--flushbufs", disk.device)
    left = [path for role, path in enumerate(server.paths) if role not in lost]
    disk.fails("pread")
    mended = threading.Timer(0.5, lambda: disk.fails("pread", False))
    mended.start()
    server = world.serve(left)
    check(not mended.is_alive(), "the start did not have to wait for it")
    check(server.member(ROLE)["state"] == "in_sync", f"it was left out\n{server.log()}")
    handle = nbd.NBD()
    handle.connect_uri(server.uri)
    for offset in range(0, len(data), 4 * MIB):
        part = data[offset:offset + 4 * MIB]
        check(handle.pread(len(part), offset) == part, f"wrong bytes at {offset}")
    say("the start waited for a member that could not be read at once")
    server.stop()
    run("blockdev", "--flushbufs", disk.device)


def repaired(disk, server, handle, data):
    """Without the faulty disk the array is as good as new."""
    handle.shutdown()
    server.replace(ROLE, SIZE)
    server.wait_for_health("clean")
    server.check_scrub_is_clean()
    path = server.copy_out()
    with open(path, "rb") as file:
        check(file.read() == data, "the bytes changed while the member was replaced")
    server.stop()
    run("blockdev", "--flushbufs", disk.device)


if __name__ == "__main__":
    TESTS = {"read": member_reads_fail, "write": member_writes_fail,
             "start": member_is_silent_at_a_start}
    main(TESTS[sys.argv[2]], int(sys.argv[1]))
