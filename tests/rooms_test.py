#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The rooms of docs/architecture.md against the sources: each folder may include itself and what
stands above it in the table, and nothing else; what a row says it never includes, it does not. And
liburing and nbdkit are known to one room each."""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
SEES_EVERYTHING = ("tests", "bench")
ONE_ROOM = {"<liburing.h>": "engine/io", "<nbdkit-plugin.h>": "plugin"}  # who alone includes a library's header


def rooms_of(text):
    """The table: folder -> (its row, folders that it never includes)."""
    rooms = {}
    for number, line in enumerate(text.splitlines()):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("| `") or len(cells) != 2:
            continue
        folders = [name.rstrip("/") for name in re.findall(r"`([a-z_/]+/)`", cells[0])]
        never = re.search(r"[Nn]ever includes ([^;.]*)", cells[1])
        banned = [name.rstrip("/") for name in re.findall(r"`([a-z_/]+/)`", never.group(1))] if never else []
        for folder in folders:
            rooms[folder] = (number, banned)
    return rooms


def includes(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        found = re.findall(r'^#\s*include (?:"([^"]+)"|(<[^>]+>))', file.read(), re.MULTILINE)
    return [ours or library for ours, library in found]


def faults(rooms, sources, includes_of):
    found = []
    for path in sources:
        folder = os.path.dirname(path)
        if path.split("/")[0] in SEES_EVERYTHING:
            continue
        if folder not in rooms:
            found.append(f"{path}: the table has no room {folder}/")
            continue
        row, banned = rooms[folder]
        for target in includes_of(path):
            other = os.path.dirname(target)
            if target.startswith("<"):
                if ONE_ROOM.get(target, folder) != folder:
                    found.append(f"{path} includes {target}: that is for {ONE_ROOM[target]}/ alone")
                continue
            if other == folder:
                continue
            if other not in rooms:
                found.append(f"{path} includes {target}: the table has no room {other}/")
            elif rooms[other][0] > row:
                found.append(f"{path} includes {target}: {other}/ stands below {folder}/")
            elif other in banned:
                found.append(f"{path} includes {target}: {folder}/ never includes {other}/")
    return found


def check_that_it_can_fail():
    rooms = rooms_of("| `a/` | x |\n| `b/`, `c/` | y |\n| `d/` | z; never includes `a/` |")
    cases = [("a/1.h", ["b/1.h"], True), ("b/1.h", ["a/1.h", "c/1.h"], False), ("d/1.h", ["a/1.h"], True),
             ("d/1.h", ["b/1.h"], False), ("d/1.h", ["<liburing.h>"], True), ("d/1.h", ["<map>"], False), ("e/1.h", [], True), ("d/1.h", ["e/1.h"], True),
             ("tests/1.cpp", ["d/1.h", "<liburing.h>"], False)]
    for path, included, bad in cases:
        assert bool(faults(rooms, [path], lambda _, i=included: i)) == bad, (path, included)


def main():
    check_that_it_can_fail()
    with open(os.path.join(ROOT, "docs", "architecture.md"), encoding="utf-8") as file:
        rooms = rooms_of(file.read())
    listed = subprocess.run(["find", "parity", "engine", "cluster", "control", "plugin", "cli", "-name", "*.h", "-o",
                             "-name", "*.cpp"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                            text=True, check=False).stdout.split()
    found = faults(rooms, sorted(listed), includes)
    print(f"{len(listed)} files in {len(rooms)} rooms, {len(found)} faults")
    print("\n".join(found))
    for room in rooms:
        if not os.path.isdir(os.path.join(ROOT, room)):
            print(f"the table's room {room}/ does not exist")
            found.append(room)
    return 1 if found or not listed else 0


if __name__ == "__main__":
    sys.exit(main())
