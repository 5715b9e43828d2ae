#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""braid(1) tells of the commands and options that `braid --help` knows, and of no others; and has the
sections that every page has."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from braid_system import CLI, SOURCE, check, main, need_tools, run, say

PAGE = os.path.join(SOURCE, "man", "braid.pod")
SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "PARAMETERS", "FAILURES", "FILES", "SEE ALSO"]
COMMON = {"--help", "--socket"}    # told of once


def commands(*prefix):
    """All commands that have no commands below them, with their options and positionals."""
    text = run(CLI, *prefix, "--help").stdout
    below = re.search(r"^Subcommands:\n((?:  .*\n)+)", text, re.M)
    if below:
        for name in re.findall(r"^  ([a-z]+)", below.group(1), re.M):
            yield from commands(*prefix, name)
        return
    options = set(re.findall(r"^  (?:-\w,)?(--[a-z-]+)", text, re.M))
    positionals = re.search(r"^Positionals:\n((?:  .*\n)+)", text, re.M)
    names = set(re.findall(r"^  ([a-z]+)", positionals.group(1), re.M)) if positionals else set()
    yield " ".join(prefix), (options - COMMON) | names


def told(pod):
    parameters = re.search(r"^=head1 PARAMETERS\n(.*?)(?=^=head1 )", pod, re.S | re.M).group(1)
    for title, body in re.findall(r"^=head2 braid ([a-z ]+)\n(.*?)(?=^=head2 |\Z)", parameters, re.S | re.M):
        yield title, set(re.findall(r"^=item B<([a-z-]+)>", body, re.M))


def man(_world):
    need_tools("podchecker")
    with open(PAGE) as text:
        pod = text.read()
    found = [name for name in re.findall(r"^=head1 (.*)$", pod, re.M) if name in SECTIONS]
    check(found == SECTIONS, f"the sections are {found}")
    done = run("podchecker", "-warnings", PAGE)
    check("syntax OK" in done.stdout and "WARNING" not in done.stdout, done.stdout)
    known, page = dict(commands()), dict(told(pod))
    check(len(known) >= 12, f"--help knows {sorted(known)}")
    for command in sorted(known | page):
        check(known.get(command) == page.get(command),
              f"braid {command}: --help knows {sorted(known.get(command, []))}, the page tells of "
              f"{sorted(page.get(command, []))}")
    synopsis = re.search(r"^=head1 SYNOPSIS\n(.*?)(?=^=head1 )", pod, re.S | re.M).group(1)
    for command in known:
        check(command.split()[0] in synopsis, f"the synopsis lacks {command}")
    say(f"{len(known)} commands are as the page tells")


if __name__ == "__main__":
    main(man)
