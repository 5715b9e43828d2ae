#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Clients that go away in the middle of a write: killed, or after half a request. The server goes
on, every sector is old or new, and parity is true."""
import os
import random
import signal
import socket
import struct
import time

import nbd

from braid_system import MIB, check, die_with_parent, main, say, wait_until

OLD, NEW = 0x11, 0xEE
FIELD = 16 * MIB


def write_until_killed(uri, seed):
    """The child: writes as fast as it can, with many requests in flight, until it is killed."""
    die_with_parent()
    handle, rng, flying = nbd.NBD(), random.Random(seed), {}
    handle.connect_uri(uri)
    while True:
        count = rng.choice((512, 4096, 99840, 1 << 20))
        place = rng.randrange((FIELD - count) // 512) * 512
        data = nbd.Buffer.from_bytearray(bytearray([NEW]) * count)
        flying[handle.aio_pwrite(data, place)] = data
        while len(flying) >= 32:
            handle.poll(-1)
            flying = {cookie: data for cookie, data in flying.items()
                      if not handle.aio_command_completed(cookie)}


def half_a_request(path):
    """Speaks NBD by hand up to the middle of a write's bytes, then hangs up."""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(path)
        link.recv(18, socket.MSG_WAITALL)                                  # both magics, flags
        link.sendall(struct.pack(">I", 3))                                 # fixed newstyle, no zeroes
        link.sendall(b"IHAVEOPT" + struct.pack(">II", 1, 0))               # NBD_OPT_EXPORT_NAME ""
        link.recv(10, socket.MSG_WAITALL)                                  # size, flags
        link.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 7, 0, 1 << 20) + bytes([NEW]) * 300000)
        time.sleep(0.05)


def killed_client(world):
    server = world.array(5, 5, 32 * MIB)
    handle = nbd.NBD()
    handle.connect_uri(server.uri)
    for turn in range(6):
        for offset in range(0, FIELD, 4 * MIB):
            handle.pwrite(bytes([OLD]) * (4 * MIB), offset)
        children = []
        for seed in range(3):
            child = os.fork()
            if child == 0:
                try:
                    write_until_killed(server.uri, turn * 10 + seed)
                finally:
                    os._exit(1)
            children.append(child)
        time.sleep(0.15 + 0.05 * turn)
        for child in children:
            os.kill(child, signal.SIGKILL)
            check(os.WIFSIGNALED(os.waitpid(child, 0)[1]), "a client ended before it was killed")
        half_a_request(server.socket)
        server.check_alive()
        time.sleep(0.2)
        wait_until(lambda: server.status() is not None, "the server answers")
        data = b"".join(handle.pread(4 * MIB, offset) for offset in range(0, FIELD, 4 * MIB))
        sectors = {data[at:at + 512] for at in range(0, FIELD, 512)}
        odd = sectors - {bytes([OLD]) * 512, bytes([NEW]) * 512}
        check(not odd, f"{len(odd)} sectors are neither old nor new: {[each[:32] for each in odd][:3]}")
        check(bytes([NEW]) * 512 in sectors, "the clients wrote nothing")
        # What is read through parity is the same: the write that was cut off left it true.
        if turn == 3:
            server.fail(2)
            again = b"".join(handle.pread(4 * MIB, offset) for offset in range(0, FIELD, 4 * MIB))
            check(again == data, "parity does not belong to the data")
            server.replace(2)
            server.wait_for_health("clean")
    handle.shutdown()
    server.check_scrub_is_clean()
    server.stop()
    say("every sector old or new, parity true")


if __name__ == "__main__":
    main(killed_client)
