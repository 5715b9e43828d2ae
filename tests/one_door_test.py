#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""One door to the strips: nobody but RowWrite writes or zeroes them. Who asks Members for it has to
show a StripAccess, which only RowWrite can make; this looks for ways around it."""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
# What is searched for in engine/, cluster/ and plugin/, and where it may stand.
DOORS = (
    (r"\bStripAccess\b", ("engine/members/members.h", "engine/stripes/row_write.cpp")),
    (r"DiskOpKind::(write|zero)\b", (
        "engine/io/", "engine/metadata/", "engine/assembly/",  # no strip of an array that runs
        "engine/members/drive.cpp",                            # which carries them out
        "engine/members/flights.cpp",                          # records, and flushes
        "engine/members/members.h",                            # which looks at them
        "engine/intent/write_intent.cpp",                      # records
        # In a cluster RowWrite's strips go as stages to the member's home, which writes them.
        "cluster/homes/node_homes_drives.cpp", "cluster/homes/home.cpp",
        # What lies in front of the data on another node's disk.
        "cluster/homes/disk_messages.cpp", "cluster/homes/disk_server.cpp", "cluster/homes/remote_disk.cpp",
        "engine/stripes/row_write.cpp")),
    (r"drive(\(\))?->submit\(", ("engine/members/members.h",)),
    (r"\b(write_disk|run_op)\(", ("engine/io/", "engine/metadata/", "engine/assembly/")),
)


def main():
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "engine/*.h", "engine/*.cpp", "cluster/*.h", "cluster/*.cpp",
                             "plugin/*.h", "plugin/*.cpp"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    wrong, seen = [], set()
    for path in listed:
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                for what, where in DOORS:
                    if not re.search(what, line.split("//")[0]):
                        continue
                    seen.add(what)
                    if not path.startswith(where):
                        wrong.append(f"{path}:{number}: {line.strip()}")
    for what, _ in DOORS:
        if what not in seen:
            wrong.append(f"nothing looks like {what} any more: this test is out of date")
    print("\n".join(wrong) or "one door")
    return 1 if wrong else 0


sys.exit(main())
