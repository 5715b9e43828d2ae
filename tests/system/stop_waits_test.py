#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A stop while a member's disk hangs: the control socket stays until the array has stopped, and it
and the log say for which member it waits. The disk is a loop device over nbdfuse over an nbdkit
that a signal has stopped."""
import os
import signal

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


def stop_waits(world):
    disk = HangingDisk(world)
    paths = world.members(4, SIZE)
    paths[2] = disk.device
    world.create(paths, 5)
    server = world.serve(paths)
    server.wait_for_idle()
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


if __name__ == "__main__":
    main(stop_waits)
