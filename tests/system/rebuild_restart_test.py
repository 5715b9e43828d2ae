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
    """A file that takes about ten megabytes a second; returns its path and how to make it fast."""
    rate = world.unique("rate")
    _, uri = world.nbdkit("--filter=rate", "memory", SIZE, "rate=80M", f"rate-file={rate}")

    def hurry():
        with open(rate, "w") as file:
            file.write("10G\n")
    return world.nbdfuse(uri), hurry


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
    path, hurry = slow_file(world)
    server.fail(2)
    server.braid("member", "replace", 2, path)
    server.paths[2] = path
    wait_until(lambda: (progress(server) or 0) > SIZE // 4, "a quarter is rebuilt")
    check(server.member(2)["state"] == "rebuilding", "the member is rebuilding")
    reached = progress(server)
    server = server.restart()
    position = wait_until(lambda: progress(server), "the rebuild goes on", 10)
    check(position >= reached - 4 * MIB, f"it was at {reached} and began again at {position}")
    check(server.member(2)["state"] == "rebuilding", "the member is still rebuilding")
    check(server.sha256() == before, "the bytes changed across the restart")
    say(f"stopped at {reached}, resumed at {position}")

    hurry()
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
