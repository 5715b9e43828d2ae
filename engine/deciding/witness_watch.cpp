// SPDX-License-Identifier: BSD-3-Clause
#include "engine/deciding/witness_watch.h"

#include <utility>

#include "engine/metadata/areas.h"
#include "parity/require.h"

namespace braid {

WitnessWatch::WitnessWatch(const DecidingContext& context, Roster& roster,
                           ConfigurationWriter& writer)
    : DecidingPart(context), roster_(roster), writer_(writer) {}

void WitnessWatch::start() {
    if (configuration_.witness() == nullptr) return;
    writer_.set_on_in_force([this] { look(); });
    tasks_.spawn(run());
}

void WitnessWatch::stop() {
    if (waiting_ != nullptr) waiting_->cancel();
    if (patient_ != nullptr) patient_->cancel();
}

void WitnessWatch::look() {
    due_ = true;
    if (waiting_ != nullptr) waiting_->cancel();
}

Task<void> WitnessWatch::run() {
    while (!stage_.ended) {
        due_ = false;
        const bool is_free = roster_.is_witness_quiet() && !roster_.is_writing();
        if (is_free && roster_.can_ask_witness()) co_await visit();
        if (due_ || stage_.ended) continue;
        Timer timer(clock_, Nanos{clock_.now().value + pause.value});
        waiting_ = &timer;
        co_await timer;
        waiting_ = nullptr;
    }
}

/// Until it has answered, however long that takes: its disk is used.
Task<void> WitnessWatch::visit() {
    MemberMetadata metadata = roster_.witness()->metadata;
    Disk& disk = *roster_.witness()->disk;
    const Configuration now = writer_.in_force();
    roster_.begin_step(configuration_.witness_index());
    under_way_ = true;
    tasks_.spawn(be_patient(++visits_));
    Result<void> done;
    const std::uint64_t epoch = now.version.epoch;
    const bool is_known = !now.members.empty();
    const bool promises = is_known && metadata.reg.may_promise(epoch);
    if (promises) done = co_await promise_member(disk, &metadata, now.array, epoch);
    if (done && is_known && metadata.reg.may_store(now.version)) {
        done = co_await write_member_metadata(disk, &now, &metadata, clock_.wall_seconds());
    } else if (done && !promises) {
        Buffer row(row_size);
        done = co_await read_disk(disk, promises_offset, row.span());
    }
    under_way_ = false;
    if (patient_ != nullptr) patient_->cancel();
    if (done) {
        roster_.witness_answered(std::move(metadata), true);
    } else {
        roster_.witness_failed(&done.error());
    }
    roster_.end_step(configuration_.witness_index());
}

Task<void> WitnessWatch::be_patient(std::uint64_t visit) {
    Timer timer(clock_, Nanos{clock_.now().value + patience.value});
    patient_ = &timer;
    co_await timer;
    if (patient_ == &timer) patient_ = nullptr;
    if (under_way_ && visits_ == visit && !stage_.ended) roster_.witness_failed(nullptr);
}

}  // namespace braid
