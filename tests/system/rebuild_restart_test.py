#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A rebuild that is stopped in the middle goes on where it was, for a spare as for a replacement.

The new member is a file over nbdfuse over nbdkit's rate filter, so that there is a middle.

usage: rebuild_restart_test.py LEVEL
"""
import sys

from braid_system import MIB, check, main, need_tools, run, say, wait_until

MEMBERS = {4: 4, 5: 5, 6: 6}
SIZE = 64 * MIB


def slow_file(world):
    """A file that takes about ten megabytes a second; returns its path and what sets that anew."""
    rate = world.unique("rate")
    _, uri = world.nbdkit("--filter=rate", "memory", SIZE, "rate=80M", f"rate-file={rate}")

    def set_rate(bits_per_second):
        with open(rate, "w") as file:
            file.write(bits_per_second + "\n")
    return world.nbdfuse(uri), set_rate


def progress(server):
    for walk in server.walks():
        if walk["kind"] == "rebuilding":
            return walk["position"]
    return None


def rebuild_restart(world, level):
    need_tools("nbdcopy")
    server = world.array(level, MEMBERS[level], SIZE)
    run("nbdcopy", world.random_file(SIZE), server.uri)
    before = server.sha256()
    path, set_rate = slow_file(world)
    server.fail(2)
    server.braid("member", "replace", 2, path)
    server.paths[2] = path
    wait_until(lambda: (progress(server) or 0) > SIZE // 4, "a quarter is rebuilt")
    set_rate("8M")    # the middle lasts for as long as it is looked at
    check(server.member(2)["state"] == "rebuilding", "the member is rebuilding")
    reached = progress(server)
    server = server.restart()
    position = wait_until(lambda: progress(server), "the rebuild goes on", 10)
    check(position >= reached - 4 * MIB, f"it was at {reached} and began again at {position}")
    check(server.member(2)["state"] == "rebuilding", "the member is still rebuilding")
    set_rate("80M")
    check(server.sha256() == before, "the bytes changed across the restart")
    say(f"stopped at {reached}, resumed at {position}")

    set_rate("10G")
    server.wait_for_health("clean")
    server.check_scrub_is_clean()
    check(server.sha256() == before, "the bytes changed across the rebuild")
    server.fail(0)
    check(server.sha256() == before, "what was rebuilt is not what was there")
    say("rebuilt, scrubbed, another member lost: the same bytes")

    # A spare takes over by itself.
    spare = world.file(SIZE, "spare")
    server.braid("member", "add", spare)
    server.paths[0] = spare
    server.wait_for_health("clean")
    check(server.sha256() == before, "the bytes changed while the spare was filled")
    server.check_scrub_is_clean()
    server.stop()
    world.unfuse(path)


if __name__ == "__main__":
    main(rebuild_restart, int(sys.argv[1]))
