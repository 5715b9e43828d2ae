#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""nbdkit-braid-plugin(1) tells of the parameters that `nbdkit braid --help` knows, and of no other;
of each resource and each field of the control socket; and has the sections that every page has."""
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from braid_system import MIB, PLUGIN, SOURCE, check, main, need_tools, run, say, server_environment

PAGE = os.path.join(SOURCE, "man", "nbdkit-braid-plugin.pod")
SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "PARAMETERS", "FAILURES", "FILES", "SEE ALSO"]


def plain(pod):
    """B<x>C<y> -> xy"""
    return re.sub(r"[A-Z]<+ ?([^<>]*?) ?>+", r"\1", pod.replace("E<gt>", "\0")).replace("\0", ">")


def section(pod, name):
    return re.search(rf"^=head1 {name}\n(.*?)(?=^=head1 |\Z)", pod, re.S | re.M).group(1)


def keys_of(value):
    """Of an object and of all objects inside."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            if key != "counters":
                yield from keys_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner)


def sections(pod):
    found = [name for name in re.findall(r"^=head1 (.*)$", pod, re.M) if name in SECTIONS]
    check(found == SECTIONS, f"the sections are {found}")
    done = run("podchecker", "-warnings", PAGE)
    check("syntax OK" in done.stdout and "WARNING" not in done.stdout, done.stdout)


def parameters(pod):
    text = run("nbdkit", PLUGIN, "--help", env=server_environment()).stdout
    known = re.findall(r"^(\[member=\]|[a-z_]+=|help\b)", text, re.M)
    items = [plain(item) for item in re.findall(r"^=item (.*)$", section(pod, "PARAMETERS"), re.M)]
    told = [re.match(r"\[member=\]|[a-z_]+=|help$", item).group(0) for item in items]
    check(len(known) == 12 and known == told, f"--help knows {known}, the page tells of {told}")
    synopsis = section(pod, "SYNOPSIS")
    for name in known:
        check(name in synopsis, f"the synopsis lacks {name}")


def control_socket(world, pod):
    server = world.array(5, 4, 16 * MIB)
    server.braid("scrub", "start", "--wait")
    text = plain(section(pod, "CONTROL SOCKET"))
    words = set(re.findall(r"[a-z_]+", text))
    missing = sorted(set(keys_of(server.status())) - words)
    check(not missing, f"the page says nothing of these fields of the status: {missing}")
    done = run("curl", "--silent", "--unix-socket", server.control, "http://braid/v1/nothing")
    for resource in set(re.findall(r"/v1/[a-z]+", json.loads(done.stdout)["error"])) - {"/v1/nothing"}:
        check(resource in text, f"the page says nothing of {resource}")
    for resource in re.findall(r"^=item GET (/v1/[a-z]+)", text, re.M):
        run("curl", "--silent", "--fail", "--unix-socket", server.control, f"http://braid{resource}")
    server.stop()


def man(world):
    need_tools("podchecker", "curl")
    with open(PAGE) as text:
        pod = text.read()
    sections(pod)
    parameters(pod)
    say("the parameters are those of --help")
    control_socket(world, pod)


if __name__ == "__main__":
    main(man)
