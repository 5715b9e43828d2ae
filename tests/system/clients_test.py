#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Unmodified NBD clients against an array of each level: nbdinfo, nbdcopy, nbdsh, qemu-img, qemu-io.

usage: clients_test.py LEVEL
"""
import hashlib
import json
import os
import sys

from braid_system import MIB, check, main, need_tools, run, say, sha256_of

MEMBERS = {4: 4, 5: 5, 6: 6}

NBDSH = r"""
import nbd
size = h.get_size()
assert h.can_multi_conn() and h.can_flush() and h.can_fua() and h.can_trim() and h.can_zero()
assert not h.is_read_only()
assert h.get_block_size(nbd.SIZE_PREFERRED) == 4096, h.get_block_size(nbd.SIZE_PREFERRED)
# Odd places and lengths, across rows, strips and stripes, up to the last byte.
for offset, count in [(0, 1), (1, 511), (4095, 2), (65535, 2), (65536 * 3 - 1, 70001),
                      (size - 1, 1), (size - 99999, 99999)]:
    data = bytes((offset + 7 * i) % 251 for i in range(count))
    h.pwrite(data, offset)
    assert h.pread(count, offset) == data, (offset, count)
# What is beside a small write stays as it was.
h.pwrite(b"\xaa" * 8192, 1 << 20)
h.pwrite(b"\x55", (1 << 20) + 4097)
assert h.pread(8192, 1 << 20) == b"\xaa" * 4097 + b"\x55" + b"\xaa" * 4094
# Forced unit access, zeroes (with a hole, without, fast), trim.
h.pwrite(b"\x33" * 70000, 123, nbd.CMD_FLAG_FUA)
assert h.pread(70000, 123) == b"\x33" * 70000
h.zero(60001, 200, nbd.CMD_FLAG_NO_HOLE)
assert h.pread(70000, 123) == b"\x33" * 77 + bytes(60001) + b"\x33" * 9922
h.zero(3 << 20, 1 << 20)
assert not any(h.pread(3 << 20, 1 << 20))
h.pwrite(b"\x77" * (2 << 20), 5 << 20)
h.trim(1 << 20, 5 << 20)
assert h.pread(1 << 20, 6 << 20) == b"\x77" * (1 << 20)
# The largest request.
big = bytes(range(256)) * (1 << 17)
h.pwrite(big, 777)
assert h.pread(len(big), 777) == big
h.flush()
# Beyond the end is an error and no more; the connection goes on.
h.set_strict_mode(0)
for call in (lambda: h.pread(2, size - 1), lambda: h.pwrite(b"xx", size - 1),
             lambda: h.zero(4096, size), lambda: h.trim(4096, size)):
    try:
        call()
    except nbd.Error:
        pass
    else:
        raise SystemExit("a request beyond the end was served")
assert h.pread(1, 777) == big[:1]
print("nbdsh is content")
"""


def clients(world, level):
    need_tools("nbdinfo", "nbdcopy", "nbdsh", "qemu-img", "qemu-io")
    count = MEMBERS[level]
    server = world.array(level, count, 48 * MIB)

    info = json.loads(run("nbdinfo", "--json", server.uri).stdout)["exports"][0]
    size = info["export-size"]
    data_members = count - (2 if level == 6 else 1)
    check(40 * MIB * data_members <= size <= 48 * MIB * data_members, f"odd size {size}")
    check(info["can_multi_conn"] and info["can_fua"] and info["can_trim"], f"nbdinfo: {info}")
    check(info["block_size_minimum"] == 1 and info["block_size_preferred"] == 4096
          and info["block_size_maximum"] == 32 * MIB, f"nbdinfo: {info}")
    check(run("nbdinfo", "--list", server.uri).stdout.count("export=") == 1, "one export is listed")
    say(f"nbdinfo: {size} bytes")

    image = world.random_file(size, "image")
    run("nbdcopy", "--flush", image, server.uri)
    check(sha256_of(server.copy_out()) == sha256_of(image), "nbdcopy: what came back differs")
    say("nbdcopy in and out")

    check("content" in run("nbdsh", "--uri", server.uri, "--command", NBDSH).stdout, "nbdsh")
    say("nbdsh")

    qemu_uri = server.uri
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, qemu_uri)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, qemu_uri)
    sparse = world.unique("out.qcow2")
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", qemu_uri, sparse)
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", image, sparse)
    say("qemu-img convert and compare")

    run("qemu-io", "-f", "raw", "-c", "write -P 0xab 4095 100001", "-c", "write -f -P 0xcd 1M 64k",
        "-c", "write -z 2M 1M", "-c", "discard 3M 1M", "-c", "flush", "-c", "read -P 0xab 4095 100001",
        "-c", "read -P 0xcd 1M 64k", "-c", "read -P 0 2M 1M", qemu_uri)
    say("qemu-io")

    # All of it is on the members, also for the next server, and parity is true.
    before = server.sha256()
    server = server.restart()
    check(server.sha256() == before, "a restart changed the bytes")
    server.check_scrub_is_clean()
    server.stop()
    reader = world.serve(server.paths, "readonly=true")
    check(reader.sha256() == before, "readonly shows other bytes")
    check(run("nbdinfo", "--is", "read-only", reader.uri, ok=None).returncode == 0, "is read-only")
    digests = [sha256_of(path) for path in server.paths]
    reader.stop()
    check([sha256_of(path) for path in server.paths] == digests, "readonly wrote to a member")
    say("restarted, scrubbed, served read-only")


if __name__ == "__main__":
    main(clients, int(sys.argv[1]))
