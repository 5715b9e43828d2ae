#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Do the tests find bugs? There are deliberate ones (engine/base/mutation.h), of which each must be
found by at least one rung. By the simulator (braid-sim --mutation): as wrong data, an assertion of the
engine or as not coming to rest, by seeds from 1 on (or FIRST_SEED) within the budget; and without any the
same seeds must pass. By tests of the engine and of the cluster (engine-tests-mutants): those that are named must fail.
(That they pass without it their own programs show.)"""
import os
import signal
import subprocess
import sys
import time

BUDGET_SECONDS = 120  # of each; an idle machine needs some seconds in all
FOUND = 2             # wrong data
FOUND_CRASH = 1       # an assertion of the engine
FOUND_STUCK = 3       # it does not come to rest

SIMULATOR = [
    "intent-not-awaited", "intent-not-durable", "clean-before-flush", "doubt-forgotten",
    "degraded-trusts-doubt", "bad-rows-not-kept", "row-lock-dropped-early", "parity-not-written",
    "stale-member-accepted", "flush-skips-member", "resync-skips-last", "no-closing-revision",
    "doubt-left-early", "order-not-refused",
]
# Rare crossings: not from seed 1 on, so that a run is short.
FIRST_SEED = {"doubt-forgotten": 70, "no-closing-revision": 30, "doubt-left-early": 1045,
              "order-not-refused": 340}
# Small tests, each of which fails with its bug; or one of several, where a crossing is rare.
ENGINE = {
    "order-not-refused": "Loss.AnOrderThatWouldCostRowsInDoubtIsRefused",
    "promise-not-written": "Promise.IsDurableAndHoldsAtTheMember",
    "promise-in-memory": "Promise.IsDurableAndHoldsAtTheMember",
    "no-closing-revision": "Levels/CopyPutBack.TakenWhileItRanAndPutBackAfterACleanStop/0",
    "intent-slot-overwritten": "WriteIntents.GenerationsAlternateBetweenTheSlots",
    "doubt-read-before-true": "Recovery.WhatWasReadOfARowInDoubtIsWhatPAndQGive",
    "losses-not-awaited": "Owed.NothingIsTakenBackThatWasWrittenInALostMembersPlace",
    "computed-read-not-awaited": "Owed.NothingIsTakenBackThatWasReadInALostMembersPlace",
    "start-from-cache": "Recovery.WhatAssemblyReadsIsDurableBeforeAnythingBuildsOnIt",
    "unflushed-overwritten": "Recovery.StartsThatFailLeaveAMemberThatCannotFlushAsItWas",
    "bad-row-healed-early": "Recovery.ARowLeavesTheListWhenItsParityIsDurable",
    "checkpoint-ahead": "SimArrayPower.ARebuildGoesOnNoFurtherThanWhatIsDurable",
    "failed-write-not-fitted": "Loss.NoRoomIsToldAndTheArrayGoesOnWhenThereIs",
    "retry-row-trusted": "Recovery.ARowBesideOneToBeTriedAgainIsNotComputed",
    "retry-overwritten": "Loss.AResyncWritesNothingWhereItCouldNotRead",
    "not-announced": "StartsThatDied.ThePromiseIsSeenByWhoeverIsEnough",
    "rows-not-locked": "Shapes/SharedRows.EverySectorIsOneRegister/Raid5ThreeNodes",
    "wrong-rows-locked": "Shapes/SharedRows.EverySectorIsOneRegister/Raid5ThreeNodes",
    "read-beside-lock": "Shapes/SharedRows.EverySectorIsOneRegister/Raid5ThreeNodes",
    "unlocked-early": "Shapes/SharedRows.EverySectorIsOneRegister/Raid5ThreeNodes",
    "undecided-not-awaited": "Shapes/SharedRows.EverySectorIsOneRegister/Raid5ThreeNodes",
    "memory-not-read": "Shapes/SharedRows.EverySectorIsOneRegister/Raid5ThreeNodes",
    "applied-out-of-order": "Shapes/SharedRows.EverySectorIsOneRegister/Raid5ThreeNodes",
    "suspended-member-read": "Shapes/SharedLosses.NobodyMissesAnything/Raid6FourNodes",
    "lost-stage-dropped": "Shapes/SharedLosses.NobodyMissesAnything/Raid5ThreeNodes",
    "reserved-undrained": "Shapes/SharedReservations.EverySectorIsOneRegister/Raid5ThreeNodes",
    "reserved-without-position": "ReservedVolume.TheHolderHearsHowFarARebuildIs",
    "walk-passes-holder": "ReservedVolume.AWalkLocksRowsAtTheHolder",
    "decided-while-frozen": "Shapes/NodeDeathTest.OnlyTheOneWhoDecidesDoesNotHearIt/*",
    "locks-outlive-fence": "Shapes/NodeDeathTest.TheOthersGoOnAndNothingIsLost/*",
    "no-lease-wait": "Shapes/NodeDeathTest.OnlyTheOneWhoDecidesDoesNotHearIt/*",
    "echo-to-excluded": "Shapes/NodeDeathTest.OnlyTheOneWhoDecidesDoesNotHearIt/*",
    "undecided-happen": "HomeFence.WhatIsStagedHappensAsTheVerdictSays",
    "retired-before-flush": "Shapes/NodeDeathTest.ThePowerGoesAsItsRecordIsEmptied/*",
    "lease-from-receipt": "Seeds/NodeStrictSeedTest.TheEchoComesLate/*",
    "unforced-counted": "Seeds/TakeoverWaits.ARebuildThatIsNotInForceIsNotCountedOn/*",
    "history-not-looked-at": "TwoHistories.N*",
    "newest-not-adopted": "StartsThatDied.TheNewestIsTakenOverWholeThoughOneMemberAloneHoldsIt",
    "in-force-at-enough": "EpochsAndRevisions.AreOnAllMembersBeforeAnythingIsAnswered",
    "enough-of-who-is-left": "Raid6OfFour.WritesNothingWithoutItAndLosesNothing",
    "resynced-in-another-epoch": "CopyPutBackAtOnce.OfAMemberThatIsBeingRebuiltDoesNotGoOn",
    "in-force-names-itself": "StartsThatDied.ThePromiseIsSeenByWhoeverIsEnough",
    "witness-not-asked": "WitnessTest.ItFailsJustAsItIsNeeded",
    "unforced-breaks-ties": "WitnessStarts.*",
    "epochs-come-again": "RegisterEpochs.OfTwoStartsAreNotTheSameAfterAPromiseWasPutBack",
    "read-without-lease": "Shapes/NodeDeathTest.CutOffItAnswersNothingOld/*",
    "older-stamp-confirms": "Cases/NodeStrictTest.OldIsNotRead/*",
    "strict-reads-by-lease": "Cases/NodeStrictTest.OldIsNotRead/*",
    "verdict-ignored": "HomeFence.WhatIsStagedHappensAsTheVerdictSays",
    "record-not-retired": "Shapes/NodeDeathTest.AfterwardsThePowerGoes/*",
    "positions-not-told": "HomeFence.BeginsWithHowFarRebuildsAre",
    "back-without-reservations": "Shapes/NodeReturnTest.WhatOthersHaveForThemselvesItIsTold/*",
    "back-without-homes": "Seeds/NodesReturnTest.AnotherOneGoesMeanwhile/*",
    "disk-of-another-start": "RemoteDisk.ItIsOverWhenTheOtherNodeHasBegunAnew",
    "takeover-unasked": "Shapes/NodeTakeoverTest.OnlyOneDoesNotHearIt/*",
    "takeover-from-memory": "Seeds/TakeoverCase.WhatItHasStoredCounts/*",
    "takeover-forgets-losses": "Seeds/TakeoverCase.ALossThatSomeHaveHeardOfIsOne/*",
    "takeover-forgets-rebuilds": "Seeds/TakeoverCase.ARebuildIsAsFarAsAnyHasHeard/*",
    "left-out-obeyed": "RemoteDisk.OfWhoIsLeftOutNothingMoreBegins",
    "decider-not-asked-again": "Seeds/TakeoverCase.WhatItHasNotAnsweredIsAskedAgain/*",
    "absence-not-noted": "Return.OnlyWhatWasMissedIsWritten",
    "absence-begins-empty": "Return.WhatWasOnItsWayAsItLeft",
    "absence-cleared-early": "Return.TwoAreAway",
    "displaced-for-holder": "Displaced.TheOtherOneLeaves",
    "position-of-former-life": "Homes.ALockSaysNothingOfWhoHadARoleBefore",
    "serving-start-taken-for-lost": "Seeds/TakeoverCase.AStartThatWasMetLateServes/*",
    "absence-unrecorded": "Return.AcrossAnyStarts",
    "dead-absence-forgotten": "Shapes/NodeMissedTest.*",
    "return-unasked": "Shapes/NodeMissedTest.UnderLoad/*",
    "answered-before-death": "Shapes/NodeOperatorsTest.TheOthersGoOnAtOnce/*",
    "left-undrained": "Shapes/NodeLeaveTest.TheOthersGoOnAtOnceAndItIsLetInAgain/*",
    "left-later": "Shapes/NodeLeaveTest.NothingOldIsRead/*",
    "return-unfenced": "Shapes/NodeMissedLargeTest.WritesAreUnderWayAsItComesBack/*",
    "grant-without-position": "Shapes/SharedRebuild.OthersWriteMeanwhile/Raid5ThreeNodes",
    "position-forgotten-early": "Homes.WhoHearsLateOfARebuildsEndWritesTheMember",
    "newer-stages-awaited": "Homes.AReadOfManyRowsEndsUnderConstantWrites",
    "silent-home-not-asked": "Homes.OneThatIsSilentDoesNotStopTheOthers",
    "decided-made-again": "NoRoom.WhatWasDecidedIsNotMadeAgain",
    "sent-taken-for-come": "Bus.EachMessageComesOnceWhateverConnectionsDo",
    "old-fence-obeyed": "Homes.ACommandUnderAnotherFenceIsRefused",
    "stored-unpromised": "Promise.IsDurableAndHoldsAtTheMember",
    "book-forgotten-early": "Book.RepeatsOfStagesChangeNothingAndFinishedOnesAreTooLate",
    "starts-in-doubt": "Shapes/NodeStartTest.WhereStripesAreInDoubtAnOperatorDecides/*",
    "flush-passes-staged": "SharedFlush.CoversWhatOtherNodesAcknowledged",
    "authority-by-state": "Homes.WhoHearsLateOfALossLocksRowsWhereOthersDo",
    "applied-before-all": "NoRoom.ZeroesThatAMemberDidNotTakeHaveNotHappened",
    "credits-after-lock": "Homes.WhoWaitsForRoomHoldsNoRows",
    "former-start-obeyed": "Bus.WhatAnEarlierStartSentIsNotCarriedOut",
    "unlocked-before-loss": "Homes.WhoHoldsUnlocksBackTakesNoMoreLocks",
}


def run(program, mutation, count, seconds):
    begin = time.monotonic()
    try:
        done = subprocess.run([program, "--mutation", mutation, "--seed",
                               str(FIRST_SEED.get(mutation, 1)), "--count", str(count)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds,
                              check=False)
        return done.returncode, done.stdout.decode(errors="replace"), time.monotonic() - begin
    except subprocess.TimeoutExpired:
        return None, "", time.monotonic() - begin


def run_engine(program, mutation, tests):
    """The exit code: 0, all pass; 1, one fails, or a promise of the code itself is broken."""
    environment = dict(os.environ, BRAID_MUTATION=mutation)
    environment.pop("BRAID_TEST_SHORT", None)  # a rare crossing needs all of its test's seeds
    done = subprocess.run([program, "--gtest_fail_fast", "--gtest_filter=" + tests], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=environment, check=False,
                          timeout=5 * BUDGET_SECONDS)
    output = done.stdout.decode(errors="replace")
    if done.returncode == -signal.SIGABRT and "broken promise" in output:
        return 1, output
    if "[==========] Running 0 tests" in output or done.returncode not in (0, 1):
        return None, output
    return done.returncode, output


def check_simulator(program):
    failed = []
    code, output, seconds = run(program, "none", 8, 5 * BUDGET_SECONDS)
    print(f"none: exit code {code} after {seconds:.1f} s")
    if code != 0:
        print(output[-4000:])
        failed.append("none")
    for mutation in SIMULATOR:
        code, output, seconds = run(program, mutation, 1000, BUDGET_SECONDS)
        found = code in (FOUND, FOUND_CRASH, FOUND_STUCK)
        print(f"{mutation}: {'found' if found else 'NOT FOUND'}, exit code {code}, {seconds:.1f} s",
              flush=True)
        if not found:
            failed.append(mutation)
    return failed


def check_engine(program):
    failed = []
    for mutation, test in ENGINE.items():
        code, output = run_engine(program, mutation, test)
        name = test.removesuffix("*")
        broken = output.rpartition(f"[ RUN      ] {name}")[2] if "broken promise" in output else ""
        found = code == 1 and (f"[  FAILED  ] {name}" in output or "broken promise" in broken)
        print(f"{mutation}: {'found' if found else 'NOT FOUND'} by {test}", flush=True)
        if not found:
            failed.append(mutation)
    return failed


def unlisted(program):
    """Mutations that are in mutation.h, and nowhere here; or the other way round."""
    done = subprocess.run([program, "--mutation", "list"], stdout=subprocess.PIPE, check=True)
    there = set(done.stdout.decode().split()) - {"none"}
    return sorted(there ^ (set(SIMULATOR) | set(ENGINE)))


def main():
    simulator = os.environ["BRAID_SIM"]
    failed = unlisted(simulator)
    failed += check_engine(os.environ["BRAID_TESTS_MUTANTS"])
    failed += check_simulator(simulator)
    if failed:
        print("failed:", ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
