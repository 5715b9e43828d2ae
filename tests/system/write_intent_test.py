#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The write intent and the bad rows as people meet them: settings that are kept, a recovery that is
short, a crash with a lost member, the list of what cannot be known, and the way out of the man page."""
import errno
import json
import os
import subprocess
import time

import nbd

from braid_system import CLI, MIB, PATIENCE, Failed, check, main, need_tools, run, say, wait_until

SIZE = 48 * MIB
FIELD = 4 * MIB


def connect(server):
    handle = nbd.NBD()
    handle.connect_uri(server.uri)
    return handle


def write_and_die(server, offset=0, size=FIELD):
    """Writes without a flush and kills the server: the region is marked."""
    handle = connect(server)
    for at in range(offset, offset + size, MIB):
        handle.pwrite(bytes([0xEE]) * MIB, at)
    marked = server.status()["intent"]["stripes_marked"]
    server.kill()
    return marked


def wait_for_recovery(server):
    def done():
        status = server.status()
        return not status["tasks"] and not (status["recovery"] and status["recovery"]["stripes_left"])
    wait_until(done, "the recovery is done", 60)
    return server.status()


def settings(world):
    server = world.array(5, 4, SIZE)
    intent = server.status()["intent"]
    check(intent["on"] and intent["region"] == 16 * MIB, f"a new array has {intent}")
    server.braid("intent", "--region", "1M")
    server = server.restart()
    check(server.status()["intent"]["region"] == MIB, "the region is kept")
    server = server.restart("intent=off", "intent_region=2M")
    intent = server.status()["intent"]
    check(not intent["on"] and intent["region"] == 2 * MIB, f"the parameters say something else than {intent}")
    connect(server).pwrite(b"x" * MIB, 0)
    check(server.status()["intent"]["records"] == intent["records"], "no records while it is off")
    server.braid("intent", "on")
    connect(server).pwrite(b"x" * MIB, 0)
    check(server.status()["intent"]["records"] > intent["records"], "records while it is on")
    server = server.restart()
    check(server.status()["intent"]["on"], "that it is on is kept")
    server.stop()
    say("settings are kept")


def recovers(world):
    """Only what was marked is read."""
    server = world.array(5, 4, SIZE)
    server.braid("intent", "--region", "1M")
    run("nbdcopy", world.random_file(32 * MIB), server.uri)
    wait_until(lambda: server.status()["intent"]["marks"] == 0, "the marks are taken away")
    before = server.sha256()
    handle = connect(server)
    old = handle.pread(MIB, 8 * MIB)
    marked = write_and_die(server, 8 * MIB, MIB)
    check(0 < marked, "nothing was marked")
    server = world.serve(server.paths)
    status = wait_for_recovery(server)
    recovery = status["recovery"]
    check(recovery and 0 < recovery["stripes"] <= marked, f"{marked} stripes were marked: {recovery}")
    check(recovery["bytes_read"] <= 4 * marked * 64 * 1024, f"more was read than the marked stripes: {recovery}")
    text = server.braid("status").stdout
    check("recovery done in" in text, text)
    check("recovery done in" in server.braid("intent").stdout, "braid intent tells of the recovery")
    server.check_scrub_is_clean()
    connect(server).pwrite(old, 8 * MIB)
    check(server.sha256() == before, "something else has changed")
    server.stop()
    say(f"a recovery reads {recovery['bytes_read'] // 1024} KiB of {4 * SIZE // MIB} MiB")


def marks_go(world):
    """Within the time that README says, also if nobody flushes, and while a member is lost. A crash
    after that has nothing to recover."""
    promised, slack = 5, 5 * PATIENCE
    for lost in (None, 1):
        server = world.array(5, 4, SIZE)
        if lost is not None:
            server.fail(lost)
        handle = connect(server)
        wait_until(lambda: server.status()["intent"]["marks"] == 0, "no marks at first")
        data = os.urandom(MIB)
        begin = time.monotonic()
        for at in range(4):
            handle.pwrite(data, at * 8 * MIB)
        written = last = time.monotonic()
        stalled, seen = 0, False    # how long this process was kept from looking: so may be the server
        while server.status()["intent"]["marks"] != 0:
            now = time.monotonic()
            seen, stalled, last = True, stalled + max(0, now - last - 0.2), now
            limit = promised + slack + 2 * stalled
            check(now - written < limit, f"marks are there {now - written:.1f} s after the last write")
            time.sleep(0.05)
        took = time.monotonic() - written
        # The other half of the promise: one second at the least, if we looked in time.
        check(seen or time.monotonic() - begin >= 1, "the marks were gone at once")
        check(took >= 1 or not seen, f"the marks went after {took:.1f} s")
        server.kill()
        paths = [path for role, path in enumerate(server.paths) if role != lost]
        server = world.serve(paths)
        status = server.status()
        check(status["recovery"] is None and status["bad_bytes"] == 0, f"a recovery of {status['recovery']}")
        handle = connect(server)
        for at in range(4):
            check(handle.pread(MIB, at * 8 * MIB) == data, "what was written before the marks went")
        server.stop()
        say(f"the marks were gone {took:.1f} s after the last write{' without a member' if lost else ''}")


def without_record(world):
    server = world.array(5, 4, SIZE)
    server = server.restart("intent=off")
    write_and_die(server)
    try:
        world.serve(server.paths[1:])
        raise Failed("an unclean and degraded array without a record was served")
    except Failed as refused:
        check("not stopped cleanly" in str(refused), f"refused, but: {refused}")
    server = world.serve(server.paths)
    server.wait_for_idle()
    server.check_scrub_is_clean()
    server.stop()
    say("without a record: a resync of everything, and none if a member is lost")


def reads(handle, offset, size):
    """Whether it can be read; an error must be EIO."""
    try:
        handle.pread(size, offset)
        return True
    except nbd.Error as error:
        check(error.errnum == errno.EIO, f"a read of bad rows: {error}")
        return False


def crashed_and_degraded(world):
    """RAID-5, killed while it was written, and member 1 does not come back."""
    server = world.array(5, 4, SIZE)
    source = world.random_file(server.status()["volumes"][0]["size"])
    run("nbdcopy", source, server.uri)
    server = server.restart("intent_region=1M")
    write_and_die(server)
    server = world.serve([server.paths[0], *server.paths[2:]])
    status = wait_for_recovery(server)
    check(status["recovery"]["rows_unknown"] > 0, f"nothing became unknown: {status['recovery']}")
    check(status["bad_bytes"] > 0, "no bad bytes")
    return server, source


def bad_rows(world):
    need_tools("nbdsh", "nbdcopy")
    server, source = crashed_and_degraded(world)
    text = server.braid("status").stdout
    check("BAD ROWS" in text and "of member 1" in text and "cannot be known" in text, text)
    bad = json.loads(server.braid("volume", "bad", "--json").stdout)
    ranges = [(each["offset"], each["size"]) for each in bad["bad"]]
    check(sum(size for _, size in ranges) == bad["bad_bytes"], "the list is whole")
    for offset, size in ranges:
        check(f"bytes {offset} to {offset + size - 1}" in server.braid("volume", "bad").stdout, f"{offset} is listed")
    handle = connect(server)
    with open(source, "rb") as file:
        wanted = bytearray(file.read())
    wanted[:FIELD] = bytes([0xEE]) * FIELD
    check_rows(handle, wanted, ranges)
    offset = ranges[0][0]
    for what in (lambda: handle.pwrite(b"x" * 512, offset), lambda: handle.pwrite(b"x" * 4095, offset)):
        try:
            what()
            raise Failed("a part of a bad row was written")
        except nbd.Error as error:
            check(error.errnum == errno.EIO, f"a write of a part of a bad row: {error}")
    check(not reads(handle, offset, 4096), "a bad row that was written in part can be read")
    handle.pwrite(b"n" * 4096, offset)
    check(handle.pread(4096, offset) == b"n" * 4096, "a bad row that was written whole is good")
    wanted[offset:offset + 4096] = b"n" * 4096
    say(f"{len(ranges)} ranges of bad rows, each an error, and nothing else")

    # They outlive a clean stop, a new member and its rebuild.
    server = server.restart()
    left = json.loads(server.braid("volume", "bad", "--json").stdout)
    check(left["bad_bytes"] == bad["bad_bytes"] - 4096, f"{bad['bad_bytes']} bad bytes became {left['bad_bytes']}")
    # Only the lost member itself could bring them back: another one in its place gives them up.
    new = world.file(SIZE, "new")
    refused = server.braid("member", "replace", 1, new, ok=None)
    check(refused.returncode == 1 and f"{left['bad_bytes']} bytes are listed" in refused.stdout, f"replace: {refused.stdout}")
    server.braid("member", "replace", 1, new, "--force")
    server.wait_for_health("damaged")
    done = server.braid("rebuild", "--wait", ok=None)
    check(done.returncode == 1 and "cannot be known" in done.stdout, f"rebuild --wait: {done.stdout}")
    check("health: DAMAGED: no member is lost, but" in server.braid("status").stdout, "health with bad rows")
    paths = [member["path"] for member in server.status()["members"]]
    server.stop()
    done = run(CLI, "check", *paths, ok=None)
    check(done.returncode == 1 and "all parity was true" in done.stdout, f"braid check: {done.stdout}")
    for each in left["bad"]:
        check(f"bytes {each['offset']} to {each['offset'] + each['size'] - 1}" in done.stdout,
              f"braid check does not tell of {each}:\n{done.stdout}")
    server = world.serve(paths)
    ranges = [(each["offset"], each["size"]) for each in left["bad"]]
    check_rows(connect(server), wanted, ranges)
    server.check_scrub_is_clean()

    # The recipe of braid(1).
    recipe = subprocess.run(
        f"{CLI} volume bad --json --socket {server.control} | jq -r '.bad[] | \"h.zero(\\(.size), \\(.offset))\"'"
        f" | nbdsh -u '{server.uri}' -c -", shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    check(recipe.returncode == 0, f"the recipe: {recipe.stdout}")
    for offset, size in ranges:
        wanted[offset:offset + size] = bytes(size)
    check_rows(connect(server), wanted, [])
    status = server.status()
    check(status["bad_bytes"] == 0 and "BAD" not in server.braid("status").stdout, "all is good again")
    server.check_scrub_is_clean()
    server.stop()
    say("they outlive a restart and a rebuild, and are healed by writing them")


def check_rows(handle, wanted, ranges):
    """Everything but `ranges` reads as it should; they do not read, row by row."""
    bad = {at for offset, size in ranges for at in range(offset, offset + size, 4096)}
    for at in range(0, len(wanted), MIB):
        rows = [row for row in range(at, min(at + MIB, len(wanted)), 4096) if row in bad]
        if not rows:
            check(handle.pread(min(MIB, len(wanted) - at), at) == wanted[at:at + MIB], f"the MiB at {at}")
            continue
        for row in range(at, min(at + MIB, len(wanted)), 4096):
            if row in bad:
                check(not reads(handle, row, 4096), f"the bad row at {row} can be read")
            else:
                check(handle.pread(4096, row) == wanted[row:row + 4096], f"the row at {row}")


def write_intent(world):
    need_tools("jq")
    settings(world)
    recovers(world)
    marks_go(world)
    without_record(world)
    bad_rows(world)


if __name__ == "__main__":
    main(write_intent)
