#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""fio writes and verifies (random sizes and places, depth 32, four connections) while members fail:
every single one, with RAID-6 every pair. What it wrote is verified degraded, the members are
replaced and rebuilt under another such load, and a scrub finds nothing wrong in the end.

usage: members_fail_test.py LEVEL [PART PARTS]
"""
import itertools
import sys

from braid_system import MIB, SANITIZE, Fio, check, main, need_tools, say, wait_until

MEMBERS = {4: 4, 5: 5, 6: 6}
SIZE = 48 * MIB
WRITES = 700    # about as many as fio makes
RATE = "500k" if SANITIZE else "1500k"  # enough is left to write while the commands run


def fail_in_the_middle(world, level, lost):
    server = world.array(level, MEMBERS[level], 32 * MIB)
    # The rate (of a job) keeps the load going while the members fail; reading back goes at full speed.
    load = Fio(server, f"--rate=,{RATE}", size=SIZE)
    for turn, role in enumerate(lost, 1):
        share = turn * WRITES // (len(lost) + 2)
        wait_until(lambda: server.counter("writes") >= share or not load.running(), "fio writes")
        check(load.running(), f"fio ended before member {role} failed\n{load.log()}")
        server.fail(role)
    check(load.running(), f"fio ended before the members had failed\n{load.log()}")
    load.wait()
    check(server.status()["health"] == "degraded", "the array is degraded")
    before = server.sha256(SIZE)

    # Without the lost members from the start.
    server = server.restart()
    check(server.sha256(SIZE) == before, "a restart of the degraded array changed the bytes")

    # This load stays beyond what the first one wrote.
    load = Fio(server, f"--offset={SIZE}", size=SIZE // 2, name="rebuild")
    for role in lost:
        server.replace(role)
    load.wait()
    server.wait_for_health("clean")
    server.check_scrub_is_clean()
    check(server.sha256(SIZE) == before, "the bytes changed while the members were rebuilt")

    # And with others lost, so that what was rebuilt is needed.
    for role in lost:
        server.fail((role + len(lost)) % len(server.paths))
    check(server.sha256(SIZE) == before, "what was rebuilt does not bring back the bytes")
    server.stop()
    say(f"lost {', '.join(map(str, lost))}: verified, rebuilt, scrubbed, lost others")


def members_fail(world, level, part=0, parts=1):
    need_tools("fio", "nbdcopy")
    lost_count = 2 if level == 6 else 1
    cases = list(itertools.combinations(range(MEMBERS[level]), lost_count))[part::parts]
    if SANITIZE:
        cases = cases[::3]
    for lost in cases:
        fail_in_the_middle(world, level, lost)


if __name__ == "__main__":
    main(members_fail, *map(int, sys.argv[1:]))
