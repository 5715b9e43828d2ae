#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The judge of recorded histories (tests/system/linearizable.py): right histories pass, each kind of wrong
one is found, and on many thousands of small ones by chance it says what a search through all orders
says.

usage: linearizable_test.py [SEED]
"""
import os
import random
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "system"))
from linearizable import NEVER, Operation, faults  # noqa: E402  pylint: disable=wrong-import-position

SEED = 1
ROUNDS = 40000


def write(value, begin, end):
    return Operation(True, value, begin, end)


def read(value, begin, end):
    return Operation(False, value, begin, end)


def can_be_explained(operations, initial=0):
    """The slow way: tries every order that fits begins and ends. Writes without an end may be left out."""
    operations, seen = tuple(operations), set()

    def search(left, value):
        if all(operations[index].end == NEVER for index in left):
            return True
        if (left, value) in seen:
            return False
        seen.add((left, value))
        first_end = min(operations[index].end for index in left)
        for index in left:
            one = operations[index]
            if one.begin > first_end or not (one.is_write or one.value == value):
                continue
            if search(left - {index}, one.value):
                return True
        return False

    return search(frozenset(range(len(operations))), initial)


def by_chance(rng):
    """Mostly what a register might have shown, with something changed: of histories wholly by chance few
    are right. Times are small, so that some are the same."""
    span = rng.choice((4, 8, 16, 40))
    operations, points = [], []
    for value in range(1, rng.randrange(2, 6)):
        begin = rng.randrange(span)
        end = rng.choice((begin, begin + rng.randrange(1, span), NEVER, begin + 1))
        operations.append(write(value, begin, end))
        if end != NEVER or rng.random() < 0.7:
            points.append((rng.uniform(begin, min(end, begin + span)), value))
    points.sort()
    for _ in range(rng.randrange(6)):
        begin = rng.randrange(span)
        end = begin + rng.randrange(span // 2)
        if rng.random() < 0.6:
            point = rng.uniform(begin, end)
            value = max([(0, 0), *(one for one in points if one[0] <= point)])[1]
        else:
            value = rng.choice([0, *(one.value for one in operations if one.is_write)] + [99] * (rng.random() < 0.1))
        operations.append(read(value, begin, end))
    rng.shuffle(operations)
    return operations


class Histories(unittest.TestCase):
    def right(self, *operations):
        self.assertTrue(can_be_explained(operations))
        self.assertEqual(faults(operations), [])

    def wrong(self, what, *operations):
        self.assertFalse(can_be_explained(operations))
        found = faults(operations)
        self.assertTrue(found)
        self.assertIn(what, found[0].what)
        for fault in found:
            for one in fault.operations:
                self.assertTrue(one in operations or one.value == 0, f"{one} is of this history")
        return found

    def test_nothing_happened(self):
        self.right()

    def test_one_after_the_other(self):
        self.right(read(0, 0, 1), write(1, 2, 3), read(1, 4, 5), write(2, 6, 7), read(2, 8, 9))

    def test_beside_a_write_old_and_new_are_right(self):
        self.right(write(1, 0, 9), read(0, 1, 2), read(1, 3, 4), read(1, 10, 11))
        self.right(write(1, 0, 9), read(1, 1, 2))
        self.right(write(1, 0, 9), read(0, 1, 8))

    def test_beside_two_writes_either_may_be_last(self):
        self.right(write(1, 0, 9), write(2, 0, 9), read(1, 10, 11))
        self.right(write(1, 0, 9), write(2, 0, 9), read(2, 10, 11))
        self.right(write(1, 0, 9), write(2, 0, 9), read(1, 1, 2), read(2, 3, 4))

    def test_what_ends_as_another_begins_is_beside_it(self):
        self.right(write(1, 0, 5), read(0, 5, 6))
        self.right(write(1, 3, 5), read(1, 1, 3))

    def test_a_write_of_unknown_end(self):
        self.right(write(1, 0, NEVER), read(0, 5, 6))
        self.right(write(1, 0, NEVER), read(0, 5, 6), read(1, 7, 8), read(1, 9, 10))
        self.right(write(1, 0, NEVER), write(2, 5, 6), read(2, 7, 8), read(1, 9, 10))
        self.right(write(1, 0, NEVER), write(2, 0, NEVER), read(2, 7, 8), read(1, 9, 10))

    def test_stale_read(self):
        self.wrong("neither", write(1, 0, 1), write(2, 2, 3), read(2, 4, 5), read(1, 6, 7))
        self.wrong("neither", write(1, 0, 1), write(2, 2, 3), read(1, 4, 5))
        self.wrong("neither", write(1, 0, 1), read(0, 2, 3))

    def test_reads_that_go_back(self):
        # Both beside the write; but one client has seen it, and the next one sees it no more.
        self.wrong("neither", write(1, 0, 9), read(1, 1, 2), read(0, 3, 4))
        self.wrong("neither", write(1, 0, 1), write(2, 2, 9), read(2, 3, 4), read(1, 5, 6))
        self.wrong("neither", write(1, 0, 9), write(2, 0, 9), read(1, 1, 2), read(2, 3, 4), read(1, 5, 6))
        self.wrong("neither", write(1, 0, NEVER), read(1, 1, 2), read(0, 3, 4))
        self.wrong("neither", write(1, 0, NEVER), write(2, 3, 4), read(1, 1, 2), read(2, 5, 6), read(1, 7, 8))

    def test_a_lost_write(self):
        self.wrong("neither", write(1, 0, 1), write(2, 2, 3), read(1, 4, 5), read(1, 6, 7))
        self.wrong("neither", write(1, 0, 1), read(1, 2, 3), write(2, 4, 5), read(1, 6, 7))

    def test_a_value_between_a_value(self):
        # A backward zone in a forward one: the write of 2 is nowhere.
        self.wrong("neither", write(1, 0, 1), read(1, 20, 21), write(2, 5, 10))

    def test_a_value_that_returns(self):
        self.wrong("neither", write(1, 0, 1), write(2, 0, 9), read(1, 2, 3), read(2, 4, 5), read(1, 6, 7))

    def test_a_value_from_nowhere(self):
        self.wrong("nobody wrote", write(1, 0, 1), read(7, 2, 3))

    def test_read_before_it_was_written(self):
        self.wrong("before it was written", read(1, 0, 1), write(1, 2, 3))
        self.wrong("before it was written", read(1, 0, 1), write(1, 2, NEVER))

    def test_all_is_told(self):
        found = self.wrong("neither", write(1, 0, 1), write(2, 2, 3), read(1, 4, 5))
        self.assertEqual(set(found[0].operations), {write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)})
        self.assertIn("write 2", str(found[0]))
        found = self.wrong("nobody wrote", read(7, 2, 3))
        self.assertEqual(found[0].operations, (read(7, 2, 3),))

    def test_values_are_written_once(self):
        with self.assertRaises(ValueError):
            faults([write(1, 0, 1), write(1, 2, 3)])

    def test_as_a_search_says(self):
        rng, count = random.Random(SEED), [0, 0]
        for number in range(ROUNDS):
            operations = by_chance(rng)
            explained = can_be_explained(operations)
            count[explained] += 1
            self.assertEqual(not faults(operations), explained,
                             f"seed {SEED}, history {number}:\n" + "\n".join(map(str, operations)))
        print(f"of {ROUNDS} histories {count[1]} are right, {count[0]} wrong")
        self.assertGreater(min(count), ROUNDS // 5, "the histories are of both kinds")

    def test_long_ones_take_no_long_time(self):
        # A register that many clients write, and what they may see of it: right by the way it is made.
        rng, operations, now, value = random.Random(SEED), [], 0, 0
        for number in range(1, 200001):
            now += 2
            begin, end = now - rng.randrange(50), now + rng.randrange(50)
            if number % 3 == 0:
                operations.append(write(number, begin, end))
                value = number
            else:
                operations.append(read(value, begin, end))
        begin = time.process_time()
        self.assertEqual(faults(operations), [])
        print(f"{len(operations)} operations in {time.process_time() - begin:.1f} s")
        stale = max(index for index in range(150000) if operations[index].is_write)
        operations.append(read(operations[stale].value, now, now + 1))
        self.assertTrue(faults(operations))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].isdigit():
        SEED = int(sys.argv.pop(1))
    unittest.main()
