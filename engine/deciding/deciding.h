// SPDX-License-Identifier: BSD-3-Clause
// Deciding: what only the one who decides about an array does, put together: the configuration,
// losses, rows that cannot be known, walks, spares, operators' orders. Each part has its own state;
// what serves clients is seen as a ServingNode only.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "engine/decider.h"
#include "engine/deciding/closing.h"
#include "engine/deciding/configuration_writer.h"
#include "engine/deciding/deciding_part.h"
#include "engine/deciding/losses.h"
#include "engine/deciding/member_orders.h"
#include "engine/deciding/recovery.h"
#include "engine/deciding/roster.h"
#include "engine/deciding/unknown_rows.h"
#include "engine/deciding/walk_orders.h"
#include "engine/deciding/witness_watch.h"

namespace braid {

class Deciding final : public Decider {
  public:
    /// @param wanted  what the context calls its configuration
    Deciding(const DecidingContext& context, Configuration& wanted)
        : roster(context),
          writer(context, wanted, {roster, losses, unknown}),
          losses(context, {writer, roster, unknown, walks}),
          unknown(context, writer, losses),
          recovery(context, writer, unknown),
          walks(context, {writer, roster, unknown, recovery, orders}),
          orders(context, {writer, roster, losses, unknown, walks}),
          closing(context, {writer, recovery, walks, orders}),
          witness(context, roster, writer) {}

    // Decider
    void read_failed(MemberIndex member, int os_error) override {
        losses.read_failed(member, os_error);
    }
    void flush_failed(MemberIndex member, int os_error) override {
        losses.flush_failed(member, os_error);
    }
    void strip_write_failed(MemberIndex member, int os_error) override {
        losses.strip_write_failed(member, os_error);
    }
    void not_answering(MemberIndex member) override { losses.not_answering(member); }
    Task<Result<void>> losses_durable() override { return writer.losses_durable(); }
    Task<Result<void>> rows_doubtful(std::vector<BadRange> lost) override {
        return unknown.rows_doubtful(std::move(lost));
    }
    Task<Result<void>> rows_unknown(std::vector<BadRange> rows) override {
        return unknown.rows_unknown(std::move(rows));
    }
    Task<Result<void>> rows_known(std::vector<BadRange> rows) override {
        return unknown.rows_known(std::move(rows));
    }
    void write_refused(WindowPlace place, RowMask rows, RoleSet together) override {
        unknown.write_refused(place, rows, together);
    }
    void walk_begun(const WalkOrder& order) override { walks.walk_begun(order); }
    void walk_passed() override { walks.walk_passed(); }
    Task<Result<void>> walk_at(WalkPosition at) override { return walks.walk_at(std::move(at)); }
    void walk_ended(WalkPosition at, Result<void> result) override {
        walks.walk_ended(std::move(at), result);
    }
    void rows_wrong(WindowPlace place, RowMask rows, RoleSet strips, std::string what) override {
        walks.scrub_log().rows_wrong(place, rows, strips, std::move(what));
    }

    Roster roster;
    ConfigurationWriter writer;
    Losses losses;
    UnknownRows unknown;
    Recovery recovery;
    WalkOrders walks;
    MemberOrders orders;
    Closing closing;
    WitnessWatch witness;
};

}  // namespace braid
