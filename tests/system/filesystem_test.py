#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A real file system on a RAID-6: nbdfuse makes the volume a file, a loop device makes it a disk.
A source tree is unpacked, members fail under it, it is mounted anew, and fsck finds nothing.

usage: filesystem_test.py ext4|xfs
"""
import os
import random
import sys
import tarfile

from braid_system import MIB, check, main, need_tools, run, say

MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}
# Both report without changing anything, and end with 0 only if there is nothing to report.
CHECK = {"ext4": ["fsck.ext4", "-f", "-n"], "xfs": ["xfs_repair", "-n"]}


def source_tree(world, files=1500):
    """A tar file of what looks like sources: many small text files, a few large ones, links."""
    rng = random.Random(4)
    words = [f"word{index}" for index in range(500)]
    folder = world.path("tree")
    for index in range(files):
        place = os.path.join(folder, f"part{index % 23}", f"module{index % 7}")
        os.makedirs(place, exist_ok=True)
        with open(os.path.join(place, f"source{index}.c"), "w") as file:
            file.write(" ".join(rng.choices(words, k=rng.choice((0, 20, 400, 3000)))))
    for index in range(4):
        with open(os.path.join(folder, f"archive{index}.bin"), "wb") as file:
            file.write(rng.randbytes(6 * MIB + index))
    os.symlink("archive0.bin", os.path.join(folder, "link"))
    path = world.path("tree.tar")
    with tarfile.open(path, "w") as tar:
        tar.add(folder, "tree")
    return path


def filesystem(world, kind):
    need_tools("fio", *(words[0] for words in (MAKE[kind], CHECK[kind])))
    # mkfs.xfs refuses less than 300 MiB.
    server = world.array(6, 6, 100 * MIB)
    archive = source_tree(world)
    file = world.nbdfuse(server.uri)
    device = world.loop_device(file)

    run(*MAKE[kind], device)
    folder = world.mount(device, kind)
    run("tar", "--extract", "--file", archive, "--directory", folder)
    say("made, mounted, unpacked")

    def compare(copy="."):
        run("tar", "--compare", "--file", archive, "--directory", os.path.join(folder, copy))

    def remount():
        run("umount", folder)
        run(*CHECK[kind], device)
        run("mount", "-t", kind, device, folder)

    remount()
    compare()
    server.fail(1)
    remount()
    compare()
    say("one member lost: mounted anew, fsck clean, every byte there")

    os.mkdir(os.path.join(folder, "second"))
    server.fail(4)
    run("tar", "--extract", "--file", archive, "--directory", os.path.join(folder, "second"))
    remount()
    compare()
    compare("second")
    say("two members lost while it was written: the same")

    server.replace(1)
    server.replace(4)
    run("fio", "--name=files", f"--directory={folder}", "--rw=randwrite", "--bs=4k", "--size=8m",
        "--numjobs=2", "--end_fsync=1", "--verify=crc32c", "--verify_fatal=1")
    server.wait_for_health("clean")
    server.check_scrub_is_clean()
    remount()
    compare()
    compare("second")
    say("both replaced under load: rebuilt, scrubbed, the same")

    run("umount", folder)
    run(*CHECK[kind], device)
    run("losetup", "--detach", device)
    world.unfuse(file)
    server.stop()


if __name__ == "__main__":
    main(filesystem, sys.argv[1])
