#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A member's disk that hangs: a loop device over nbdfuse over an nbdkit that a signal has stopped.

A stop meanwhile: the control socket stays until the array has stopped, and it and the log say for which
member it waits. And when it has not answered for member_timeout the others go on without it."""
import os
import random
import signal
import threading
import time

import nbd

from braid_system import MIB, check, main, say, wait_until

SIZE = 24 * MIB


class HangingDisk:
    def __init__(self, world):
        self.process, uri = world.nbdkit("memory", SIZE)
        world.undo.callback(self.hang, False)
        self.device = world.loop_device(world.nbdfuse(uri), "--direct-io=on")

    def hang(self, really=True):
        self.process.send_signal(signal.SIGSTOP if really else signal.SIGCONT)


def serve_with_hanging_disk(world, level, count, timeout):
    """Member 2 is one that can hang."""
    disk = HangingDisk(world)
    paths = world.members(count, SIZE)
    paths[2] = disk.device
    world.create(paths, level)
    server = world.serve(paths, f"member_timeout={timeout}")
    server.wait_for_idle()
    return disk, paths, server


def stop_waits(world):
    disk, paths, server = serve_with_hanging_disk(world, 5, 4, 0)
    handle = nbd.NBD()
    handle.connect_uri(server.uri)
    handle.pwrite(os.urandom(MIB), 0)
    handle.shutdown()
    disk.hang()
    server.process.terminate()

    def stops_and_waits():
        # It stops at once, and some turns later something is under way to the disk that hangs.
        status = server.status()
        return status if status["stopping"] and status["members"][2]["in_flight"] > 0 else None
    status = wait_until(stops_and_waits, "the status says that it stops, and that something is in flight")
    check(status["members"][0]["in_flight"] == 0, f"a disk that does not hang: {status['members'][0]}")
    text = server.braid("status").stdout
    check("stopping: waits for I/O of member 2" in text, text)
    done = server.braid("scrub", "start", ok=None)
    check(done.returncode == 1 and "being stopped" in done.stdout, f"an order: {done.stdout}")
    wait_until(lambda: "the stop waits for member 2" in server.log(), "the log says for what it waits", 20)
    check(disk.device in server.log(), "and names the device")
    server.check_alive()
    disk.hang(False)
    server.stop()
    check(not os.path.exists(server.control), "the control socket is still there")
    server = world.serve(paths)
    check("not stopped cleanly" not in server.log(), server.log())
    server.check_scrub_is_clean()
    server.stop()
    say("a stop that waits says for what")


class Writer(threading.Thread):
    """Writes rows and flushes, one after the other, until it is told to stop."""

    def __init__(self, server, first, count, seed):
        super().__init__(daemon=True)
        self.handle, self.rng, self.first, self.count = nbd.NBD(), random.Random(seed), first, count
        self.handle.connect_uri(server.uri)
        self.written, self.done, self.stopped, self.error = {}, 0, False, None
        self.start()

    def run(self):
        try:
            while not self.stopped:
                row = self.first + self.rng.randrange(self.count)
                data = self.rng.randbytes(4096)
                self.handle.pwrite(data, row * 4096)
                if self.rng.random() < 0.2:
                    self.handle.flush()
                self.written[row] = data
                self.done += 1
        except nbd.Error as error:
            self.error = error

    def end(self):
        self.stopped = True
        self.join(60)
        check(not self.is_alive() and self.error is None, f"a writer ends well: {self.error}")
        self.handle.shutdown()


def a_disk_hangs(world):
    disk, _, server = serve_with_hanging_disk(world, 6, 5, 2)
    early = [Writer(server, 256 * number, 256, number) for number in range(4)]
    time.sleep(1)
    disk.hang()
    begin = time.monotonic()
    wait_until(lambda: server.member(2)["state"] == "faulty", "the disk is lost", 30)
    say(f"lost after {time.monotonic() - begin:.1f} s")
    check("it has not answered for 2 s" in server.log(), server.log())
    # Some of these wait for the kernel, and who wants their rows with them. Whoever comes to other
    # stripes now does not.
    late = [Writer(server, 2048 + 256 * number, 256, 10 + number) for number in range(4)]
    wait_until(lambda: all(one.done > 100 for one in late), "others write and flush", 30)
    check(not server.status()["bad_bytes"], "no row is lost")
    for one in late:
        one.end()
    disk.hang(False)
    for one in early:
        one.end()
    begin = time.monotonic()
    server.braid("member", "add", disk.device)
    wait_until(lambda: server.status()["health"] == "clean" and not server.walks(), "it is in sync again", 60)
    say(f"in sync again after {time.monotonic() - begin:.1f} s")
    check("it missed" in server.log() and "is rebuilt whole" not in server.log(), server.log())
    handle = nbd.NBD()
    handle.connect_uri(server.uri)
    for one in early + late:
        for row, data in one.written.items():
            check(handle.pread(4096, row * 4096) == data, f"row {row} is as it was written")
    handle.shutdown()
    server.check_scrub_is_clean()
    server.stop()
    say("a disk that hangs costs its own member only")


def both(world):
    stop_waits(world)
    a_disk_hangs(world)


if __name__ == "__main__":
    main(both)
