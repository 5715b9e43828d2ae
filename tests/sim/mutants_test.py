#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Do the tests find bugs? There are deliberate ones (engine/base/mutation.h), of which each must be
found by at least one rung. By the simulator (braid-sim --mutation): as wrong data, an assertion of the
engine or as not settling, by seeds from 1 on (or FIRST_SEED) within the budget; and without any the
same seeds must pass. By tests of the engine (engine-tests-mutants): those that are named must fail, and
pass without it."""
import os
import subprocess
import sys
import time

BUDGET_SECONDS = 120  # of each; an idle machine needs some seconds in all
FOUND = 2             # wrong data
FOUND_CRASH = 1       # an assertion of the engine
FOUND_STUCK = 3       # it does not settle

SIMULATOR = [
    "intent-not-awaited", "intent-not-durable", "clean-before-flush", "doubt-forgotten",
    "degraded-trusts-doubt", "bad-rows-not-kept", "row-lock-dropped-early", "parity-not-written",
    "stale-member-accepted", "flush-skips-member", "resync-skips-last", "no-closing-revision",
    "doubt-left-early", "order-not-refused",
]
# Rare crossings: not from seed 1 on, so that a run is short.
FIRST_SEED = {"doubt-forgotten": 70, "no-closing-revision": 30, "doubt-left-early": 1045,
              "order-not-refused": 340}
# Small tests, each of which fails with its bug.
ENGINE = {
    "order-not-refused": "Loss.AnOrderThatWouldCostRowsInDoubtIsRefused",
    "promise-not-written": "Promise.IsDurableAndHoldsAtTheMember",
    "promise-in-memory": "Promise.IsDurableAndHoldsAtTheMember",
    "no-closing-revision": "Levels/CopyPutBack.TakenWhileItRanAndPutBackAfterACleanStop/0",
    "intent-slot-overwritten": "WriteIntents.GenerationsAlternateBetweenTheSlots",
    "doubt-read-unsettled": "Recovery.WhatWasReadOfARowInDoubtIsWhatPAndQGive",
    "losses-not-awaited": "Owed.NothingIsTakenBackThatWasWrittenInALostMembersPlace",
    "computed-read-not-awaited": "Owed.NothingIsTakenBackThatWasReadInALostMembersPlace",
    "start-from-cache": "Recovery.WhatAssemblyReadsIsDurableBeforeAnythingBuildsOnIt",
    "bad-row-healed-early": "Recovery.ARowLeavesTheListWhenItsParityIsDurable",
    "checkpoint-ahead": "SimArrayPower.ARebuildGoesOnNoFurtherThanWhatIsDurable",
    "failed-write-not-fitted": "Loss.NoRoomIsToldAndTheArrayGoesOnWhenThereIs",
    "retry-row-trusted": "Recovery.ARowBesideOneToBeTriedAgainIsNotComputed",
    "retry-overwritten": "Recovery.ARebuildGoesOnBehindRowsThatCannotBeComputed",
    "not-announced": "StartsThatDied.ThePromiseIsSeenByWhoeverIsEnough",
}


