# SPDX-License-Identifier: BSD-3-Clause
"""Is what clients saw of a register what one register could have shown them, one operation after the
other? Every write has a value of its own, which makes the question easy.

All operations with one value, its write and the reads that returned it, stand next to each other in
any order that explains them. So of two values one is wholly before the other. That one cannot be X if
some operation of Y had ended before one of X began: if the first end of Y is before the last begin of
X. If that holds both ways nothing explains the two. If it holds both ways for no pair, and no read had
ended before its write began, there is an order: the value with the first end of all goes first, and so
on. What ends in the very moment in which another one begins is taken to be beside it.

Source: Gibbons and Korach, "Testing Shared Memories", 1997, section 4 (the read-mapping is known).
tests/cluster/register_history.h is the same for simulated nodes."""
from typing import Any, NamedTuple

NEVER = float("inf")
BEFORE_ALL = float("-inf")


class Operation(NamedTuple):
    """`end` is NEVER for a write that was not acknowledged: it may have happened, may still, or never
    will. A read without an end has seen nothing, and is not to be given."""
    is_write: bool
    value: Any
    begin: float
    end: float
    note: str = ""  # for people: who, and what of

    def __str__(self):
        return (f"[{in_ms(self.begin)} .. {in_ms(self.end)}] "
                f"{'write' if self.is_write else 'read '} {self.value}  {self.note}")


class Fault(NamedTuple):
    what: str
    operations: tuple

    def __str__(self):
        return "\n    ".join([self.what, *map(str, self.operations)])


def in_ms(time):
    if time == NEVER:
        return "never"
    return "before all" if time == BEFORE_ALL else f"{time / 1e6:.3f} ms"


class Zone:
    """All operations with one value."""

    def __init__(self):
        self.write = None
        self.first_to_end = self.last_to_begin = None
        self.first_read_to_end = None

    def add(self, one):
        if self.first_to_end is None or one.end < self.first_to_end.end:
            self.first_to_end = one
        if self.last_to_begin is None or one.begin > self.last_to_begin.begin:
            self.last_to_begin = one
        if one.is_write:
            if self.write:
                raise ValueError(f"two writes of one value, and nothing can be told: {self.write}; {one}")
            self.write = one
        elif self.first_read_to_end is None or one.end < self.first_read_to_end.end:
            self.first_read_to_end = one

    def begins_after(self, other):
        """Nothing explains this value before the other one."""
        return other.first_to_end.end < self.last_to_begin.begin

    def witnesses(self):
        return dict.fromkeys((self.write, self.first_to_end, self.last_to_begin))


def faults(operations, initial=0):
    """What is wrong with the history of one register: an empty list if nothing is. `initial` is what
    it held before everything."""
    zones, found = {}, []
    for one in (Operation(True, initial, BEFORE_ALL, BEFORE_ALL, "(the value of the beginning)"), *operations):
        zones.setdefault(one.value, Zone()).add(one)
    for zone in zones.values():
        if zone.write is None:
            found.append(Fault("a value that nobody wrote", tuple(zone.witnesses())[1:]))
        elif zone.first_read_to_end and zone.first_read_to_end.end < zone.write.begin:
            found.append(Fault("read before it was written", (zone.first_read_to_end, zone.write)))
    # By their first ends. Of all zones so far only the one that reaches furthest has to be looked at:
    # another one that a new zone conflicts with reaches beyond that one's first end, and so these two
    # were in conflict with each other.
    furthest = None
    for zone in sorted((zone for zone in zones.values() if zone.write), key=lambda zone: zone.first_to_end.end):
        if furthest and zone.begins_after(furthest) and furthest.begins_after(zone):
            found.append(Fault("two values, neither of which can be before the other",
                               tuple(sorted({**zone.witnesses(), **furthest.witnesses()}, key=lambda one: one.begin))))
        if furthest is None or zone.last_to_begin.begin > furthest.last_to_begin.begin:
            furthest = zone
    return found
