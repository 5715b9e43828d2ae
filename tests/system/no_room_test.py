#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Members on a file system that fills up: the client gets ENOSPC, nobody loses his place, and all goes
on when there is room; a rebuild that finds none says so, and nobody waits for it in vain. The file
system is a small tmpfs, so this is for root."""
import errno
import os

import nbd

from braid_system import KIB, MIB, Failed, Skip, check, main, run, say, wait_until

SIZE = 64 * MIB
PIECE = 256 * KIB


def small_tmpfs(world, size):
    if os.geteuid() != 0:
        raise Skip("a mount needs root")
    folder = world.unique("tmpfs")
    os.mkdir(folder)
    done = run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder, ok=None)
    if done.returncode != 0:
        raise Skip(f"no tmpfs can be mounted here: {done.stdout.strip()}")
    world.undo.callback(run, "umount", "--lazy", folder, ok=None)
    return folder


def enlarge(folder, size):
    run("mount", "-o", f"remount,size={size}", folder)


def thin_file(folder, name, size=SIZE):
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def connect(server):
    handle = nbd.NBD()
    handle.connect_uri(server.uri)
    return handle


def write_until_full(handle, begin, content):
    """Notes what was acknowledged; the place of the first write that found no room."""
    for at in range(begin, handle.get_size(), PIECE):
        data = os.urandom(PIECE)
        try:
            handle.pwrite(data, at)
        except nbd.Error as error:
            check(error.errnum == errno.ENOSPC, f"a write without room: {error}")
            return at
        content[at] = data
    raise Failed("the file system did not fill up")


def check_content(handle, content, when):
    for at, data in content.items():
        check(handle.pread(len(data), at) == data, f"the content at {at} {when}")


def check_whole(server, when):
    status = server.status()
    check(status["health"] == "clean" and status["bad_bytes"] == 0, f"{when}: {status['health']}")
    states = [member["state"] for member in status["members"]]
    check(set(states) == {"in_sync"}, f"{when}: the members are {states}")


def fills_up(world, level):
    folder = small_tmpfs(world, 48 * MIB)
    paths = [thin_file(folder, f"m{index}") for index in range(4)]
    world.create(paths, level)
    server = world.serve(paths)
    server.wait_for_idle()
    handle = connect(server)
    content = {}
    for at in range(0, 4 * MIB, PIECE):
        content[at] = os.urandom(PIECE)
        handle.pwrite(content[at], at)
    handle.flush()
    full_at = write_until_full(handle, 4 * MIB, content)
    for _ in range(3):
        try:
            handle.pwrite(os.urandom(PIECE), full_at + PIECE)
            raise Failed("a write found room where there is none")
        except nbd.Error as error:
            check(error.errnum == errno.ENOSPC, f"a write without room: {error}")
    check_whole(server, "without room")
    check("no room" in server.log(), f"the log does not tell:\n{server.log()}")
    check_content(handle, content, "without room")
    # What takes no more space is written.
    content[0] = os.urandom(PIECE)
    handle.pwrite(content[0], 0)
    handle.flush()
    enlarge(folder, 256 * MIB)
    for at in range(full_at, full_at + 4 * MIB, PIECE):
        content[at] = os.urandom(PIECE)
        handle.pwrite(content[at], at)
    handle.flush()
    check_whole(server, "with room again")
    check_content(handle, content, "with room again")
    server.kill()
    server = world.serve(paths)
    handle = connect(server)
    check_content(handle, content, "after a kill")
    check(server.braid("rebuild", "--wait").returncode == 0, "the resync after a kill")
    check_whole(server, "after a kill")
    check_content(handle, content, "after the resync")
    say(f"RAID-{level}: no room at {full_at // MIB} MiB, and on when there was")
    return server, content


def rebuild_waits(world, server, content):
    """A member that has no room for what a rebuild writes."""
    folder = small_tmpfs(world, 6 * MIB)
    server.braid("member", "replace", 1, thin_file(folder, "new"))
    done = server.braid("rebuild", "--wait", ok=None)
    check(done.returncode == 1, f"a rebuild without room: {done.stdout}")
    check("the rebuild of member 1 waits" in done.stdout and "no room" in done.stdout, done.stdout)
    waits = wait_until(lambda: server.status()["waits"], "the status tells of it")
    check(waits[0]["what"] == "rebuilding" and waits[0]["member"] == 1 and not waits[0]["by_itself"], waits)
    check(server.member(1)["state"] == "rebuilding", "it keeps its place")
    enlarge(folder, 2 * SIZE)
    wait_until(lambda: server.braid("rebuild", "--wait", ok=None, timeout=300).returncode == 0,
               "the rebuild goes on by itself", 120)
    check_whole(server, "after the rebuild")
    check_content(connect(server), content, "after the rebuild")
    server.check_scrub_is_clean()
    server.stop()
    say("a rebuild without room is not waited for, and goes on when there is")


def no_room(world):
    for level in (5, 6):
        rebuild_waits(world, *fills_up(world, level))


if __name__ == "__main__":
    main(no_room)
