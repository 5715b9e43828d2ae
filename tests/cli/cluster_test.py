#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""braid cluster keygen and braid cluster check, as a person uses them. What is refused of a file, and
with which words, is in tests/cluster/config_test.cpp."""
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from braid_system import CLI, SOURCE, check, main, say

# Lines that the manual page shows as the answer.
PAGE = os.path.join(SOURCE, "man", "braid-cluster.pod")


def cluster(*words):
    """Exit status, standard output, standard error."""
    done = subprocess.run([CLI, "cluster", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def gives(expected, *words):
    found = cluster(*words)
    check(found == expected, f"{words}: {found}, and not {expected}")


def refused(text, *words):
    gives((1, "", f"braid: {text}\n"), *words)


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


def makes_keys(world):
    paths = [world.path("one.key"), world.path("two.key")]
    for path in paths:
        status, out, error = cluster("keygen", path)
        check(status == 0 and error == "", (status, error))
        check(out.startswith(f"{path}: a new key.") and out.endswith(f'key = "{os.path.realpath(path)}"\n'), out)
        check(os.stat(path).st_mode & 0o7777 == 0o600, oct(os.stat(path).st_mode))
    keys = [open(path).read() for path in paths]
    check(all(re.fullmatch("[0-9a-f]{64}\n", key) for key in keys), "64 digits and a newline")
    check(keys[0] != keys[1], "two keys are two")
    refused(f"{paths[0]}: exists already, and may be the key of a running cluster: remove it if it is not, or give "
            "another path", "keygen", paths[0])
    check(open(paths[0]).read() == keys[0], "an old key was written over")
    absent = world.path("absent/key")
    refused(f"{absent}: cannot be made: No such file or directory", "keygen", absent)
    check(cluster("keygen")[0] == 2 and cluster()[0] == 2, "a wrong command line")
    say("made keys")
    return paths[0]


def page_lines(after):
    """The verbatim paragraphs that follow the line `after`, without their blank."""
    lines = open(PAGE).read().split("\n")
    lines = lines[lines.index(after) + 1:]
    shown = []
    for line in lines:
        if line and not line.startswith(" "):
            break
        shown.append(line[1:])
    return "\n".join(shown).strip("\n") + "\n"


def shows_plans(world, key):
    path = write(world.path("cluster.toml"), page_lines("=head1 SYNOPSIS").replace("/etc/braid/vault.key", key))
    shown = page_lines("It shows").replace("/etc/braid/vault.key", key)
    gives((0, shown, ""), "check", "--node", 2, path)
    gives((0, shown[:shown.index("\nnode 2")], ""), "check", path)
    status, out, error = cluster("check", "--json", "--node", 3, path)
    facts = json.loads(out)
    check(status == 0 and error == "", (status, error))
    check(list(facts) == ["name", "key", "node", "nodes", "warnings"], facts)
    check([facts[name] for name in ("name", "key", "node", "warnings")] == ["vault", key, 3, []], facts)
    check(facts["nodes"][1] == {"id": 2, "addresses": ["10.0.0.2:10810", "10.1.0.2:10810"],
                                "members": ["/dev/disk/by-id/ata-B1", "/dev/disk/by-id/ata-B2"]}, facts["nodes"])
    check([node["id"] for node in facts["nodes"]] == [1, 2, 3] and facts["nodes"][2]["members"] == [], facts)
    check(json.loads(cluster("check", "--json", path)[1])["node"] is None, "no node was named")
    say("showed plans")


def warns(world):
    path = write(world.path("trial.toml"), 'name = "trial"\n[[node]]\nid = 7\naddresses = ["unix:/run/7"]\n')
    warning = (f"{path}: there is no key: whoever can connect to a node on this machine is taken for a node. "
               "braid cluster keygen FILE makes one")
    gives((0, "cluster trial: 1 node, 0 members\nkey: none\n\n  node  addresses    members\n"
              f"     7  unix:/run/7  none: it only serves\n\nwarning: {warning}\n", ""), "check", path)
    facts = json.loads(cluster("check", "--json", path)[1])
    check(facts["key"] is None and facts["warnings"] == [warning], facts)
    say("warned")


def refuses(world, key):
    absent = world.path("absent.toml")
    refused(f"{absent}: cannot be opened: No such file or directory", "check", absent)
    path = write(world.path("bad.toml"), 'name = "v"\nnodes = 3\n')
    refused(f"{path}:2: nodes: is no key of this part; name, key, exclusive, lease_ms, heartbeat_ms, "
            "start_wait_ms, no_quorum, reads and node are", "check", path)
    refused(f"{path}:2: nodes: is no key of this part; name, key, exclusive, lease_ms, heartbeat_ms, "
            "start_wait_ms, no_quorum, reads and node are", "check", "--json", path)
    path = write(world.path("keyed.toml"), f'name = "v"\nkey = "{key}"\n[[node]]\nid = 1\naddresses = ["h:1"]\n')
    refused(f"{path}: there is no node 2; the nodes of the file are 1", "check", "--node", 2, path)
    os.chmod(key, 0o640)
    refused(f"{key}: others than its owner may use it (mode 0640), and a key is a secret: chmod 600 {key}",
            "check", "--node", 1, path)
    check(cluster("check", path)[0] == 0, "of the file alone there is nothing to refuse")
    os.unlink(key)
    refused(f"{key}: cannot be opened: No such file or directory", "check", "--node", 1, path)
    for words in (["check"], ["check", "--node", "x", path], ["check", "--node", "-1", path], ["check", path, path]):
        check(cluster(*words)[0] == 2, f"{words} is a wrong command line")
    say("refused what cannot be")


def commands(world):
    key = makes_keys(world)
    shows_plans(world, key)
    warns(world)
    refuses(world, key)


if __name__ == "__main__":
    main(commands)
