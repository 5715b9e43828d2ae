#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""braid create and braid examine, as a person uses them: what they make, what they say, what they
refuse, and that nothing is written by what was refused."""
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from braid_system import CLI, KIB, MIB, check, main, run, say, sha256_of, wait_until

SIZE = 16 * MIB
RANDOM = os.urandom(4096)


def braid(*words):
    return run(CLI, *words, ok=None)


def says(done, *words):
    for word in words:
        check(str(word) in done.stdout, f"nothing of '{word}' in:\n{done.stdout}")


def works(*words):
    done = braid(*words)
    check(done.returncode == 0, f"{words}: status {done.returncode}\n{done.stdout}")
    return done


def refused(words, *expected):
    files = [word for word in map(str, words) if os.path.isfile(word)]
    before = [sha256_of(path) for path in files]
    done = braid(*words)
    check(0 < done.returncode < 3, f"{words}: status {done.returncode}\n{done.stdout}")
    says(done, *expected)
    check([sha256_of(path) for path in files] == before, f"{words}: refused, but written to")


def write_at(path, offset, content):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)


def examined(*paths):
    done = subprocess.run([CLI, "examine", "--json", *map(str, paths)], stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout), done.returncode


def creates(world):
    paths = [world.unique("new") for _ in range(5)]
    done = works("create", "--level", 5, "--dry-run", "--size", "20M", *paths)
    says(done, "RAID-5 of 5 members, left-symmetric, strips of 64 KiB", "dry run")
    check(not any(map(os.path.exists, paths)), "a dry run made files")
    done = works("create", "--level", 6, "--size", "20M", "--name", "demo", "--strip-size", "128K",
                 "--volume", "one:5M", "--volume", "two:1", "--spare", paths[4], *paths[:4])
    says(done, "RAID-6 demo of 4 members, strips of 128 KiB", "the members were zeroed", "serve it: nbdkit braid",
         "spare", "free")
    check(os.stat(paths[0]).st_size == 20 * MIB and os.stat(paths[0]).st_blocks * 512 < 8 * MIB, "sparse files")
    facts, status = examined(*paths)
    check(status == 0, "all is well")
    array = facts["arrays"][0]
    check(array["starts"] and not array["degraded"] and not array["unclean"] and array["name"] == "demo", array)
    check([volume["size"] for volume in array["volumes"]] == [5 * MIB, 256 * KIB], array["volumes"])
    check([member["state"] for member in array["members"]] == ["in_sync"] * 4 + ["spare"], array["members"])
    check(facts["members"][2]["superblock"]["role"] == 2, facts["members"][2])
    check(facts["members"][0]["slots"][1]["configuration"]["volumes"][0]["name"] == "one", "the text of the slot")
    done = works("examine", *paths)
    says(done, "would start", "member 3, uuid", "volume    one", "5 MiB", "events 4, clean")
    files = world.members(3, SIZE)
    write_at(files[1], 8 * MIB, RANDOM)
    works("create", "--level", 5, "--layout", "ra", "--assume-clean", *files)
    with open(files[1], "rb") as file:
        file.seek(8 * MIB)
        check(file.read(4096) == RANDOM, "--assume-clean left the data in place")
    check(examined(*files)[0]["arrays"][0]["layout"] == "right-asymmetric", "the layout")
    say("made what was asked for")


def refuses(world):
    files = lambda count=3, size=SIZE: world.members(count, size)  # noqa: E731
    create = lambda *words: ["create", "--level", 5, *words]  # noqa: E731
    folder = world.unique("folder")
    os.mkdir(folder)
    twice = files()
    link = world.path("link")
    os.symlink(twice[0], link)
    hard = world.path("hard")
    os.link(twice[1], hard)
    refused(create(*files(2), folder), folder, "is a directory")
    refused(create(*files(2), world.path("absent")), "absent", "No such file")
    refused(create(*files(2), world.file(0)), "is empty (0 bytes)")
    refused(create(*files(2), world.file(6000)), "is too small: it has 6000 bytes")
    refused(create(*files(2), world.file(4 * MIB)), "is too small", "4194304")
    refused(create(*twice, twice[0]), "is given twice")
    refused(create(twice[0], twice[1], "--spare", twice[0], twice[2]), "is given twice")
    refused(create(*twice, link), twice[0], link, "are the same file")
    refused(create(*twice, hard), hard, "are the same file")
    refused(create(*files(2)), "RAID-5 needs at least 3 members, and 2 are given")
    refused(["create", "--level", 6, *files(3)], "RAID-6 needs at least 4")
    refused(["create", "--level", 1, *files()], "--level 1", "say 4, 5 or 6")
    refused(["create", *files()], "--level is required")
    refused(["create", "--level", 5], "members is required")
    refused(create("--strip-size", 5000, *files()), "strip size of 5000 bytes is impossible")
    refused(create("--strip-size", "32M", *files()), "from 4K to 16M")
    refused(create("--strip-size", "x", *files()), "\"x\" is not a size")
    refused(create("--strip-size", "64Q", *files()), "\"64Q\" is not a size")
    refused(create("--layout", "sideways", *files()), "--layout sideways")
    refused(["create", "--level", 4, "--layout", "ra", *files()], "RAID-4 has no choice")
    refused(create("--name", "x" * 64, *files()), "63 printable ASCII")
    refused(create("--volume", "a", *files()), "--volume a: say NAME:SIZE")
    refused(create("--volume", "a:b", *files()), "\"b\" is not a size")
    refused(create("--volume", "a:99999999999999999999", *files()), "more bytes than there are")
    refused(create("--volume", "a:1T", *files()), "volume a of 1099511627776 bytes does not fit")
    refused(create("--volume", "a:1M", "--volume", "a:1M", *files()), "volume a is given twice")
    refused(create("--volume", "a b:1M", *files()), "cannot be the name of a volume")
    refused(create("--size", "16M", *files()), "exists already")
    refused(create("--size", "0", world.path("n")), "no member can have that size")
    refused(create("--size", "9999P", world.path("n")), "no member can have that size")
    new = [world.path(f"made{index}") for index in range(3)]
    refused(create("--size", "1M", *new), "is too small")
    check(not any(map(os.path.exists, new)), "files that were made for nothing are gone again")
    if os.geteuid() != 0:
        secret = files()
        os.chmod(secret[0], 0)
        refused(create(*secret), "Permission denied")
    say("refused what cannot be")


def looks_first(world):
    def holding(fill, words):
        paths = world.members(3, 320 * MIB if "xfs" in words else 64 * MIB)  # XFS wants 300 MB
        fill(paths[1])
        return paths
    cases = [("a file system (ext4)", lambda path: run("mkfs.ext4", "-q", "-F", "-L", "mine", path)),
             ("labelled mine", lambda path: run("mkfs.ext4", "-q", "-F", "-L", "mine", path)),
             ("a file system (xfs)", lambda path: run("mkfs.xfs", "-q", "-f", path)),
             ("(swap)", lambda path: run("mkswap", path)),
             ("a partition table (dos)", lambda path: write_at(path, 446, b"\0\0\2\0\x83\1\1\1" + b"\0\x08\0\0\0\x10\0\0"
                                                                + bytes(48) + b"\x55\xaa")),
             ("a physical volume of LVM", lambda path: write_at(path, 512, lvm_label()))]
    for words, fill in cases:
        try:
            paths = holding(fill, words)
        except FileNotFoundError as absent:
            say(f"left out {words}: {absent}")
            continue
        refused(["create", "--level", 5, *paths], os.path.basename(paths[1]), words, "--force")
        refused(["create", "--level", 5, "--dry-run", *paths], words)
        works("create", "--level", 5, "--force", *paths)
        check(examined(*paths)[1] == 0, "made by force")
        refused(["create", "--level", 5, *paths], "a member of RAID-5 array", "of braid's")
    fixture = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "md", "raid5-64k")
    paths = world.members(3, SIZE)
    with open(paths[1], "wb") as file:
        subprocess.run(["xz", "-dc", os.path.join(fixture, "member0.img.xz")], stdout=file, check=True)
        file.truncate(SIZE)
    refused(["create", "--level", 5, *paths], "a member of RAID-5 array", "made by md")
    say("looked first")


def lvm_label():
    """The label sector of pvcreate(8), as far as libblkid checks it."""
    def crc(content):
        value = 0xf597a6cf
        for byte in content:
            value ^= byte
            for _ in range(8):
                value = value >> 1 ^ (0xedb88320 if value & 1 else 0)
        return value
    rest = (32).to_bytes(4, "little") + b"LVM2 001" + b"A" * 32
    rest += bytes(512 - 20 - len(rest))
    return b"LABELONE" + (1).to_bytes(8, "little") + crc(rest).to_bytes(4, "little") + rest


def examines(world):
    paths = world.members(4, SIZE)
    other = world.members(3, SIZE)
    works("create", "--level", 5, "--name", "first", *paths)
    works("create", "--level", 5, *other)
    facts, status = examined(*paths, *other)
    check(status == 0 and len(facts["arrays"]) == 2, "two arrays, told apart")
    before = [sha256_of(path) for path in paths]
    done = braid("examine", *paths[:2])
    check(done.returncode == 1, "too few members")
    says(done, "would not start", "2 of its 4 members are usable", paths[2])
    check([sha256_of(path) for path in paths] == before, "examine wrote")
    empty = world.file(SIZE)
    folder = world.unique("folder")
    os.mkdir(folder)
    done = braid("examine", *paths, empty, folder, world.file(0), world.file(100), world.path("absent"))
    check(done.returncode == 1, "not all of them are members")
    says(done, "would start", "holds no md superblock", "is a directory", "is empty", "too small to be a member: 100",
         "No such file")
    damaged = shutil.copy(paths[0], world.path("damaged"))
    write_at(damaged, 4096 + 200, b"x")
    done = braid("examine", damaged, *paths[1:])
    says(done, "corrupt md superblock", "would start degraded", "left out")
    damaged = shutil.copy(paths[0], world.path("damaged"))
    write_at(damaged, 208896 + 5000, b"x")  # the newest slot: number 1
    says(braid("examine", damaged, *paths[1:]), "configuration slot 1 is corrupt: its CRC-32C is", "would start")
    os.truncate(damaged, 8 * MIB)
    says(braid("examine", damaged, *paths[1:]), "is truncated", "would start degraded")
    says(braid("examine", paths[0], paths[0], *paths[1:]), "are the same member", "would not start")
    done = subprocess.run(["flock", paths[0], CLI, "examine", *paths], stdout=subprocess.PIPE, text=True)
    says(done, "in use by another process")
    refused(["examine"], "members is required")
    say("examined")


def examines_intent(world):
    """What examine says of the write intent and of bad rows, of members that nobody serves."""
    paths = world.members(4, SIZE)
    works("create", "--level", 5, "--volume", "one:4M", "--volume", "two:4M", *paths)
    says(works("examine", *paths), "intent    on, regions of 16 MiB")
    server = world.serve(paths, "intent_region=1M")
    stripe = 3 * 64 * KIB
    run("nbdsh", "-u", server.uri.replace("/?", "/two?"), "-c", f"h.pwrite(b'x' * 4096, {stripe})")
    server.kill()
    before = [sha256_of(path) for path in paths]
    facts, status = examined(*paths)
    check(status == 0, "it would start")
    array = facts["arrays"][0]
    check(array["unclean"] and array["intent"]["on"] and array["intent"]["region"] == MIB, array["intent"])
    (record,) = array["intent"]["records"]
    (mark,) = record["marks"]
    first = 22  # of volume two
    check(mark["first"] <= first + 1 < mark["first"] + mark["count"], mark)
    check(mark["first"] >= first, "marks are cut where volumes begin")
    check(mark["bytes"] == [{"volume": "two", "offset": (mark["first"] - first) * stripe,
                             "size": mark["count"] * stripe}], mark)
    check(record["held_by"] == paths[:2], f"the newest record is on parities + 1 members: {record['held_by']}")
    held = [slot for slot in facts["members"][0]["intent"]["slots"] if slot["newest"]]
    check([slot["generation"] for slot in held] == [record["generation"]], facts["members"][0]["intent"])
    check(facts["members"][3]["intent"] == {"hindrance": None, "slots": []}, "nothing on the others")
    done = works("examine", *paths)
    says(done, f"record    generation {record['generation']} of epoch", f"on {paths[0]}, {paths[1]}: 1 mark",
         f"stripes {mark['first']} to {mark['first'] + mark['count'] - 1}: two, bytes {mark['bytes'][0]['offset']} to ",
         "(newest)", "were marked by the write intent")
    torn = shutil.copy(paths[0], world.path("torn"))
    slot = held[0]["slot"]
    write_at(torn, 274432 + slot * 16384 + 40, b"?")
    done = works("examine", torn, *paths[1:])
    says(done, f"write intent slot {slot} is corrupt: its CRC-32C is", f"epoch {record['epoch']}, on {paths[1]}: 1 mark")
    write_at(torn, 274432 + 7 * 16384, b"something else")
    says(works("examine", torn, *paths[1:]), "has bytes of something else where the write intent would lie")

    # Degraded, what was marked becomes bad rows when it is served.
    check([sha256_of(path) for path in paths] == before, "examine wrote")
    server = world.serve(paths[:3])
    wait_until(lambda: not server.status()["tasks"], "the recovery is done")
    bad = json.loads(server.braid("volume", "bad", "--json").stdout)
    server.stop()
    facts, status = examined(*paths[:3])
    check(bad["bad_bytes"] > 0 and facts["arrays"][0]["bad_rows"]["size"] == bad["bad_bytes"], facts["arrays"][0])
    check(facts["arrays"][0]["bad_rows"]["bytes"] == bad["bad"], "the same list")
    done = works("examine", *paths[:3])
    says(done, "clean, and kept from md for the sake of bad rows", "cannot be known", "of member 3)")
    says(braid("examine", *paths[:2]), "would not start", "bad rows")
    say("examined what was in doubt")


def locks(world):
    paths = world.members(3, SIZE)
    done = run("flock", paths[1], CLI, "create", "--level", 5, *paths, ok=None)
    check(done.returncode == 1, done.stdout)
    says(done, paths[1], "is in use by another process")
    done = run("flock", paths[1], CLI, "create", "--level", 5, "--force", *paths, ok=None)
    check(done.returncode == 1, done.stdout)
    say("left alone what is in use")


def offline(world):
    creates(world)
    refuses(world)
    looks_first(world)
    examines(world)
    examines_intent(world)
    locks(world)
    says(works("--help"), "create", "examine")
    says(works("create", "--help"), "--assume-clean", "--dry-run")
    says(works("--version"), "braid ")
    refused(["conjure"], "")


if __name__ == "__main__":
    main(offline)
