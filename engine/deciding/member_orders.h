// SPDX-License-Identifier: BSD-3-Clause
// MemberOrders: what operators order: members fail, go, come, are replaced; the write intent. One
// order at a time. Whatever speaks against an order is found out before anything is given up.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "engine/array.h"
#include "engine/assembly/new_member.h"
#include "engine/base/rng.h"
#include "engine/deciding/configuration_writer.h"
#include "engine/deciding/deciding_part.h"
#include "engine/deciding/roster.h"
#include "engine/deciding/unknown_rows.h"
#include "parity/require.h"

namespace braid {

class Losses;
class WalkOrders;

class MemberOrders final : public DecidingPart {
  public:
    struct Parts {
        ConfigurationWriter& writer;
        Roster& roster;
        Losses& losses;
        UnknownRows& unknown;
        WalkOrders& walks;
    };
    MemberOrders(const DecidingContext& context, Parts parts);

    // As Array has them.
    Task<Checked<Unit>> fail(MemberName name, Force force);
    Task<Checked<Unit>> remove(MemberName name);
    Task<Checked<Unit>> add(std::unique_ptr<Disk> disk, Force force);
    Task<Checked<Unit>> replace(MemberName name, std::unique_ptr<Disk> disk, Force force);
    Task<Checked<Unit>> change_intent(IntentChange wanted);

    /// Why there can be no write intent, or empty.
    void set_intent_hindrance(std::string hindrance) { hindrance_ = std::move(hindrance); }
    const std::string& intent_hindrance() const { return hindrance_; }
    /// That nobody has.
    Uuid new_uuid() { return Uuid::random(rng_); }

    bool busy() const { return busy_; }
    /// One order at a time, and no spare taken meanwhile. Whoever was kept from something looks
    /// again at its end; a stop waits for it.
    class Busy {
      public:
        explicit Busy(MemberOrders& orders) : orders_(orders) {
            BRAID_REQUIRE(!orders_.busy_);
            orders_.busy_ = true;
        }
        ~Busy() {
            if (orders_.stage_.abandoned) return;
            orders_.busy_ = false;
            orders_.work_.set();
        }
        Busy(const Busy&) = delete;
        Busy& operator=(const Busy&) = delete;

      private:
        MemberOrders& orders_;
    };

    /// Makes `spare` the member of a lost role, to be rebuilt.
    void fill_role(MemberIndex member, Spare spare);

  private:
    Checked<Unit> may_order() const;
    Checked<Unit> may_change_roles() const;
    Checked<Unit> may_fail(MemberIndex role, Force force) const;
    Task<Checked<Unit>> fail_now(MemberName name, Force force);
    Task<Checked<Unit>> wait_written();
    bool is_witness(const MemberName& name) const;
    Refusal has_no_data(const MemberName& name) const;
    Task<Checked<bool>> take_witness_back(std::unique_ptr<Disk>* disk);
    Task<Checked<Unit>> remove_spare(Uuid uuid);
    Checked<MemberRecord> plan_record(const Disk& disk);
    Task<Checked<bool>> is_same_disk(Disk* disk);
    Task<Checked<Unit>> tell_from_members(Disk* disk, Force force);
    Task<Checked<NewMember>> prepare(Disk* disk, Uuid uuid, Force force);
    Checked<Unit> check_spares() const;
    Task<Checked<Unit>> join_prepared(std::unique_ptr<Disk> disk, MemberRecord joining,
                                      std::optional<MemberIndex> role, NewMember fresh);
    Task<Checked<Unit>> join(Spare spare, MemberRecord joining, std::optional<MemberIndex> role,
                             std::optional<NewMember::TookPart> before);
    Task<Checked<Unit>> take_role(MemberIndex role, Spare spare, const MemberRecord& joining,
                                  std::optional<NewMember::TookPart> before);
    std::optional<MemberIndex> role_of_former(const Uuid& member) const;
    Task<Checked<Unit>> give_role_back(MemberIndex role, std::unique_ptr<Disk> disk);
    bool is_displaced(MemberIndex role, const Uuid& member) const;
    bool may_have_back(MemberIndex role, const MemberRecord& joining,
                       const NewMember& prepared) const;
    Task<Checked<bool>> free_role(MemberIndex role, MemberRecord* joining,
                                  const NewMember* prepared);
    Task<bool> wait_for(MemberIndex role, std::uint32_t* tries);
    void role_filled(MemberIndex member, const std::string& how);
    const EpochRevision* left_of(MemberIndex role, const Uuid& member) const;
    bool is_its_last(MemberIndex role, const NewMember& prepared) const;
    bool is_back(MemberIndex role, const NewMember& prepared) const;
    Checked<ReturningMember> returning(MemberIndex role, const NewMember::TookPart& before) const;
    Checked<Unit> may_return(MemberIndex role, const MemberRecord& joining,
                             const std::optional<NewMember::TookPart>& before) const;
    Task<Checked<Unit>> heal_from(Disk* disk, MemberIndex role, const NewMember* prepared,
                                  Force force);
    Task<void> end_unwanted_marks(std::uint64_t taken_back);

    ConfigurationWriter& writer_;
    Roster& roster_;
    Losses& losses_;
    UnknownRows& unknown_;
    WalkOrders& walks_;
    Rng rng_;
    std::string hindrance_;
    MemberSet replaced_;  // roles whose member an operator has replaced: it does not get them back
    bool busy_{false};
};

}  // namespace braid
