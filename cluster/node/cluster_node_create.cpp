// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode before there is an array: what its start waits for; and the order to make the array,
// which any node takes, and the master carries out. Every member is looked at at its home before
// anything is written to any of them.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/node/cluster_node.h"
#include "cluster/node/placement.h"
#include "engine/assembly/content.h"
#include "engine/assembly/new_member.h"
#include "engine/base/json_text.h"
#include "engine/base/limits.h"
#include "engine/base/os_error.h"
#include "engine/metadata/config_check.h"

namespace braid::cluster {
namespace {

constexpr const char* how_to_make =
    "make it with: braid create --socket PATH --level LEVEL, with the control socket of any node";

/// A disk as people of the whole cluster call it.
class NamedDisk final : public Disk {
  public:
    NamedDisk(Disk& disk, std::string name) : disk_(disk), info_(disk.info()) {
        info_.path = std::move(name);
    }
    const DiskInfo& info() const override { return info_; }
    void submit(DiskOp& op) override { disk_.submit(op); }
    int read_now(std::uint64_t offset, ByteSpan into) const override {
        return disk_.read_now(offset, into);
    }

  private:
    Disk& disk_;
    DiskInfo info_;
};

}  // namespace

/// An order that waits for the one who carries it out: begin_master(), which alone knows what the
/// start is at.
struct ClusterNode::Pending {
    CreateOrder order;
    std::optional<Checked<Words>> answer;
    Event answered;
};

/// All members of all nodes, and what was found on them.
struct ClusterNode::NewMembers {
    std::vector<std::unique_ptr<Disk>> disks;  // later in the order of roles, spares, the witness
    std::vector<std::uint32_t> nodes;          // at which each is
    std::vector<std::string> names;            // node2:/dev/sdb
    std::size_t roles{0};                      // so many have one
    std::size_t spares{0};                     // and so many are spares
    std::vector<CreateMember> wishes;
    std::uint64_t restarts{0};  // of nodes, when the first was asked

    /// In another order; those that are not named go.
    void rearrange(const std::vector<std::size_t>& order) {
        NewMembers next;
        for (const std::size_t at : order) {
            next.disks.push_back(std::move(disks[at]));
            next.nodes.push_back(nodes[at]);
            next.names.push_back(std::move(names[at]));
        }
        disks = std::move(next.disks);
        nodes = std::move(next.nodes);
        names = std::move(next.names);
    }
};

namespace {

Refusal left_meanwhile() {
    return {
        "a node has left, or begun anew, meanwhile: nothing was changed; try again when all are "
        "there",
        RefusalCode::busy};
}

}  // namespace

// ---- what it waits for -------------------------------------------------------------------------

StartStatus ClusterNode::start_status() const {
    StartStatus status;
    status.cluster = setup_.config.name;
    status.self = setup_.self;
    status.master = master_;
    for (const NodePlan& plan : setup_.config.nodes) {
        StartStatus::Node& node = status.nodes.emplace_back();
        node.id = plan.id;
        for (const NetAddress& at : plan.addresses) node.addresses.push_back(text_of(at));
        node.connected = plan.id == setup_.self || here_.contains(plan.id);
        const auto since = changed_at_.find(plan.id);
        if (since != changed_at_.end()) node.since = since->second;
    }
    const bool needs_all = !rows_ && phase_ != StartPhase::joining;
    status.phase = needs_all && !missing_nodes().empty() ? StartPhase::nodes : phase_;
    status.why = text_of_phase(status.phase);
    return status;
}

std::string ClusterNode::text_of_phase(StartPhase phase) const {
    std::string text;
    switch (phase) {
        case StartPhase::nodes:
            return fmt::format(
                "waits for {}; braid start --without ID goes on without one{}", missing_nodes(),
                why_it_waits_.empty()
                    ? std::string()
                    : fmt::format("; it does not start by itself, for {}", why_it_waits_));
        case StartPhase::looking:
            if (is_master()) return "looks at the members of all nodes";
            return fmt::format("waits for {}, which looks at the members of all nodes",
                               name_of(master_));
        case StartPhase::array:
            return fmt::format("no member of any node holds an array: {}", how_to_make);
        case StartPhase::creating:
            text = "the array is being made";
            if (is_master() && to_zero_ != 0) {
                text += fmt::format(": {} of {} MiB are zeroed", zeroed_ >> 20, to_zero_ >> 20);
            }
            return text;
        case StartPhase::joining:
            return fmt::format(
                "the other nodes serve the array: {} lets this one in as soon as all of them reach "
                "it; its log says what is in the way",
                name_of(master_));
    }
    BRAID_REQUIRE(false);
    return text;
}

Refusal ClusterNode::does_not_wait_for_array() const {
    if (rows_) return {"there is an array already", RefusalCode::conflict};
    if (cancelled_ || stopping_) return {"the server is being stopped", RefusalCode::stopping};
    return {fmt::format("no array can be made just now: {}", start_status().why),
            RefusalCode::busy};
}

/// As the master says.
void ClusterNode::set_phase(StartPhase phase) {
    if (phase == phase_) return;
    phase_ = phase;
    // The master has all nodes, though this one may still lack another.
    if (phase != StartPhase::looking) log(Severity::info, text_of_phase(phase));
}

void ClusterNode::tell_phase(std::uint32_t node) {
    Words words = telling("start");
    words["phase"] = text_of(rows_ ? StartPhase::joining : phase_);
    talk_.tell(node, words);
}

void ClusterNode::begin_phase(StartPhase phase) {
    set_phase(phase);
    for (const std::uint32_t node : fellows()) {
        if (here_.contains(node)) tell_phase(node);  // who comes is told then
    }
}

// ---- the order ---------------------------------------------------------------------------------

Task<Checked<Words>> ClusterNode::create(CreateOrder order) {
    if (!rows_ && !left_out_.empty()) {
        co_return Refusal{
            "the servers were told to start without some nodes, and a new array is of all of them: start "
            "them anew",
            RefusalCode::conflict};
    }
    if (!is_master()) {
        if (rows_ || cancelled_ || stopping_ || !here_.contains(master_)) {
            co_return does_not_wait_for_array();
        }
        Words words = asking("create");
        words["order"] = json_of(order);
        if (one_line(words).size() > message_body_size_max) {
            co_return Refusal{"the order is too long", RefusalCode::invalid};
        }
        co_return co_await talk_.ask(master_, words);
    }
    if (phase_ != StartPhase::array || pending_ != nullptr || rows_ || cancelled_ || stopping_) {
        co_return does_not_wait_for_array();
    }
    Pending pending;
    pending.order = std::move(order);
    pending_ = &pending;
    here_changed_.set();
    co_await pending.answered.wait();
    co_return std::move(*pending.answer);
}

/// Until it was made, or a node is not here any more, or has begun anew, perhaps with other members; or
/// another one decides, for a start without some has come to nothing.
Task<Checked<Unit>> ClusterNode::wait_for_array() {
    opening_ = false;  // who goes now may come again
    begin_phase(StartPhase::array);
    while (phase_ == StartPhase::array && is_master() && all_are_here() && !cancelled_) {
        if (pending_ == nullptr) {
            co_await here_changed_.next();
            continue;
        }
        begin_phase(StartPhase::creating);
        co_await carry_out_create();
        // Those that were gone cannot come again.
        if (!gone_.empty()) break;
        opening_ = false;
    }
    // It takes no order now. To others the one who decides says what it is at.
    if (!is_master()) {
        set_phase(StartPhase::looking);
    } else if (phase_ != StartPhase::looking) {
        begin_phase(StartPhase::looking);
    }
    if (pending_ != nullptr) {
        pending_->answer.emplace(does_not_wait_for_array());
        std::exchange(pending_, nullptr)->answered.set();
    }
    if (cancelled_) co_return Refusal{"told to stop while it waited for an array to be made"};
    if (!gone_.empty()) {
        co_return Refusal{"a node left as the array was being made; start it again"};
    }
    co_return Unit{};
}

/// Then the phase is `array` again, or `looking` if it was made.
Task<void> ClusterNode::carry_out_create() {
    NewMembers members;
    zeroed_ = to_zero_ = 0;
    members.restarts = restarts_;
    Checked<Words> answer = Refusal{""};
    const Checked<bool> gathered = co_await gather_disks(&members.disks);
    if (!gathered) {
        answer = gathered.error();
    } else if (!*gathered) {
        answer = left_meanwhile();
    } else {
        answer = co_await create_on(&members, &pending_->order);
    }
    const bool made = answer && (*answer)["made"] == true;
    if (!answer) log(Severity::warning, "no array was made: " + answer.error().text);
    if (made) log(Severity::info, "the array is made");
    places_.clear();  // the next round needs them: nobody is told to close them
    members.disks.clear();
    begin_phase(made ? StartPhase::looking : StartPhase::array);
    pending_->answer.emplace(std::move(answer));
    std::exchange(pending_, nullptr)->answered.set();
}

namespace {

/// By the name that the cluster has for it, or by its path, if only one is called so.
Checked<std::size_t> find_member(std::string_view as, const std::string& wanted,
                                 const std::vector<std::string>& names) {
    std::vector<std::size_t> found;
    std::string all;
    for (std::size_t at = 0; at != names.size(); ++at) {
        const std::string& name = names[at];
        all += (all.empty() ? "" : ", ") + name;
        if (name == wanted || name.substr(name.find(':') + 1) == wanted) found.push_back(at);
    }
    if (found.empty()) {
        return Refusal{
            fmt::format("{} {}: the cluster has no such member; it has {}", as, wanted, all),
            RefusalCode::not_found};
    }
    if (found.size() > 1) {
        return Refusal{fmt::format("{} {}: {} and {} are called so; name the node, too", as, wanted,
                                   names[found[0]], names[found[1]]),
                       RefusalCode::ambiguous};
    }
    return found[0];
}

/// Roles first, one of each node in turn; then the spares, then the witness.
Checked<std::vector<std::size_t>> order_of(const CreateOrder& order,
                                           const std::vector<std::string>& names,
                                           const std::vector<std::uint32_t>& nodes) {
    std::vector<std::size_t> spares;
    for (const std::string& wanted : order.spares) {
        BRAID_TRY(const std::size_t at, find_member("spare", wanted, names));
        if (std::ranges::find(spares, at) != spares.end()) {
            return Refusal{fmt::format("spare {}: is given twice", wanted), RefusalCode::invalid};
        }
        spares.push_back(at);
    }
    if (!order.witness.empty()) {
        BRAID_TRY(const std::size_t at, find_member("witness", order.witness, names));
        if (std::ranges::find(spares, at) != spares.end()) {
            return Refusal{fmt::format("{}: is to be a spare and the witness", order.witness),
                           RefusalCode::invalid};
        }
        spares.push_back(at);
    }
    std::vector<std::size_t> with_role;
    std::vector<std::uint32_t> their_nodes;
    for (std::size_t at = 0; at != names.size(); ++at) {
        if (std::ranges::find(spares, at) != spares.end()) continue;
        with_role.push_back(at);
        their_nodes.push_back(nodes[at]);
    }
    std::vector<std::size_t> all;
    for (const std::size_t at : in_turn(their_nodes)) all.push_back(with_role[at]);
    all.insert(all.end(), spares.begin(), spares.end());
    return all;
}

CreateMember wish_of(const Disk& disk, const std::string& name) {
    CreateMember member;
    member.path = name;
    member.size = disk.info().size;
    member.zero_fast = zeroes_fast(disk.info());
    member.sector_size = disk.info().sector_size;
    return member;
}

}  // namespace

/// The members' disks are there; `order` outlives it.
Task<Checked<Words>> ClusterNode::create_on(NewMembers* members, const CreateOrder* order) {
    for (const auto& disk : members->disks) {
        const DiskPlace place = places_.at(disk.get());
        members->nodes.push_back(place.node);
        members->names.push_back(path_to_keep(
            place.node == setup_.self ? fmt::format("node{}:{}", place.node, disk->info().path)
                                      : disk->info().path));
    }
    BRAID_CO_CHECK(co_await look_at_members(members, order->force));
    // What was looked at has to be what is written to. Who goes from now on is gone.
    if (restarts_ != members->restarts || !all_are_here()) {
        co_return left_meanwhile();
    }
    opening_ = true;
    BRAID_CO_TRY(const std::vector<std::size_t> in_order,
                 order_of(*order, members->names, members->nodes));
    members->rearrange(in_order);
    members->spares = order->spares.size();
    members->roles = in_order.size() - members->spares - (order->witness.empty() ? 0 : 1);
    for (std::size_t at = 0; at != members->disks.size(); ++at) {
        Disk& disk = *members->disks[at];
        CreateMember& wish = members->wishes.emplace_back(wish_of(disk, members->names[at]));
        wish.witness = at >= members->roles + members->spares;
        wish.spare = at >= members->roles && !wish.witness;
        if (!order->options.assume_clean) continue;
        const MemberImage image = co_await read_member_image(disk);
        if (image.os_error != 0) {
            co_return Refusal{fmt::format("{}: cannot be read: {}", members->names[at],
                                          os_error_text(image.os_error)),
                              RefusalCode::io};
        }
        wish.before = old_layouts(image);
    }
    CreateOptions options = order->options;
    options.wall_seconds = setup_.clock.wall_seconds();
    BRAID_CO_TRY(const CreatePlan plan, plan_create(options, members->wishes, new_uuids_));
    Words answer;
    answer["plan"] = json_of(plan);
    BRAID_CO_TRY(answer["nodes"], words_of_places(*members, plan, order->force_placement));
    answer["made"] = !order->dry_run;
    if (answer.dump().size() > told_plan_size_max) answer["plan"]["notices"] = Words::array();
    if (order->dry_run) co_return answer;
    if (cancelled_) co_return does_not_wait_for_array();
    std::deque<NamedDisk> named;
    std::vector<Disk*> disks;
    for (std::size_t at = 0; at != members->disks.size(); ++at) {
        disks.push_back(&named.emplace_back(*members->disks[at], members->names[at]));
    }
    const auto progress = [this](std::uint64_t done, std::uint64_t all) {
        zeroed_ = done;
        to_zero_ = all;
    };
    BRAID_CO_CHECK(co_await create_array(std::move(disks), plan, progress));
    co_return answer;
}

/// What the death of each node would mean; refused if it is too much.
Checked<Words> ClusterNode::words_of_places(const NewMembers& members, const CreatePlan& plan,
                                            bool force) const {
    Placement placement;
    for (std::size_t at = 0; at != members.nodes.size(); ++at) {
        if (members.wishes[at].witness) {
            placement.witness = members.nodes[at];
            continue;
        }
        (at < members.roles ? placement.roles : placement.spares).push_back(members.nodes[at]);
    }
    std::vector<std::uint32_t> nodes;
    for (const NodePlan& node : setup_.config.nodes) nodes.push_back(node.id);
    const Level level = plan.configuration.level;
    const std::vector<NodePlace> places = deaths_of(level, placement, nodes);
    // One node alone has all of them, of course.
    if (!force && nodes.size() > 1) BRAID_CHECK(check_placement(level, places));
    Words list = Words::array();
    for (const NodePlace& place : places) {
        Words& words = list.emplace_back();
        words["id"] = place.node;
        words["roles"] = Words::array();
        for (const MemberIndex role : place.roles) words["roles"].push_back(raw(role));
        words["spares"] = place.spares;
        words["witness"] = place.witness;
        words["death"] = text_of(place.death);
        words["text"] = describe(place);
    }
    return list;
}

/// Nobody's patience is tried: who leaves is not waited for, and no more is one that is told to stop.
Task<Checked<Words>> ClusterNode::ask_while_here(std::uint32_t node, Words words) {
    auto answer = std::make_shared<std::optional<Checked<Words>>>();
    tasks_.spawn(keep_answer(node, std::move(words), answer));
    while (!answer->has_value() && here_.contains(node) && !cancelled_) {
        co_await here_changed_.next();
    }
    if (answer->has_value()) co_return std::move(**answer);
    co_return Refusal{"has left meanwhile", RefusalCode::busy};
}

Task<void> ClusterNode::keep_answer(std::uint32_t node, Words words,
                                    std::shared_ptr<std::optional<Checked<Words>>> answer) {
    answer->emplace(co_await talk_.ask(node, words));
    here_changed_.set();
}

// ---- the look ----------------------------------------------------------------------------------

/// Each at its home. Refused, with all that there is to say: one cannot be read, or holds what
/// anybody might miss, unless that is forced.
Task<Checked<Unit>> ClusterNode::look_at_members(NewMembers* members, bool force) {
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::string> names;  // node, number
    for (std::size_t at = 0; at != members->disks.size(); ++at) {
        const DiskPlace place = places_.at(members->disks[at].get());
        names[{place.node, place.number}] = members->names[at];
    }
    std::string refusals;
    for (const NodePlan& node : setup_.config.nodes) {
        Words question = asking("look");
        question["force"] = force;
        Checked<Words> answer = Refusal{""};
        if (node.id == setup_.self) {
            answer = co_await look_here(force);
        } else {
            answer = co_await ask_while_here(node.id, question);
        }
        if (!answer && answer.error().code == RefusalCode::busy) co_return left_meanwhile();
        if (!answer) co_return Refusal{name_of(node.id) + ": " + answer.error().text};
        WordFields fields(*answer);
        const std::vector<Words> list = fields.list("disks", members_max + spares_max);
        BRAID_CO_CHECK(fields.check());
        for (const Words& words : list) {
            WordFields disk(words);
            const std::uint32_t number = disk.number32("number");
            const std::string why = disk.text("why");
            BRAID_CO_CHECK(disk.check());
            const auto name = names.find({node.id, number});
            if (name == names.end()) continue;
            if (!why.empty()) {
                refusals +=
                    fmt::format("{}{}: {}", refusals.empty() ? "" : "\n", name->second, why);
            }
            names.erase(name);
        }
    }
    for (const auto& [place, name] : names) {
        refusals += fmt::format("{}{}: was not looked at", refusals.empty() ? "" : "\n", name);
    }
    if (refusals.size() > told_refusals_size_max) {
        refusals.resize(told_refusals_size_max);
        refusals += " …";
    }
    if (!refusals.empty()) co_return Refusal{std::move(refusals)};
    co_return Unit{};
}

/// This node's disks: why each cannot be used; empty: it can.
Task<Checked<Words>> ClusterNode::look_here(bool force) {
    Words disks = Words::array();
    for (std::uint32_t number = 0; number != shelf_.size(); ++number) {
        const std::shared_ptr<Disk> disk = shelf_[number];
        if (!disk) continue;
        std::string why = co_await why_not_usable(disk, force);
        if (why.size() > told_content_size_max) why.resize(told_content_size_max);
        for (char& one : why)
            one = one >= ' ' && one <= '~' ? one : '?';  // a label may be anything
        Words words;
        words["number"] = number;
        words["why"] = std::move(why);
        disks.push_back(std::move(words));
    }
    Words answer;
    answer["disks"] = std::move(disks);
    co_return answer;
}

namespace {

/// Of "PATH: why", the why.
std::string without(const std::string& path, const std::string& text) {
    const std::string start = path + ": ";
    return text.starts_with(start) ? text.substr(start.size()) : text;
}

}  // namespace

/// To follow its name.
Task<std::string> ClusterNode::why_not_usable(std::shared_ptr<Disk> disk, bool force) {
    const MemberImage image = co_await read_member_image(*disk);
    if (image.os_error != 0) {
        co_return fmt::format("cannot be read: {}", os_error_text(image.os_error));
    }
    if (force) co_return std::string();
    const Checked<std::vector<std::string>> ends = co_await find_signatures(*disk);
    if (!ends) co_return without(disk->info().path, ends.error().text);
    Checked<std::vector<std::string>> probed = std::vector<std::string>();
    if (setup_.probe) probed = co_await setup_.probe(disk->info().path);
    if (!probed) co_return without(disk->info().path, probed.error().text);
    const std::vector<std::string> content = content_of(image, std::move(*probed), *ends);
    if (content.empty()) co_return std::string();
    std::string text = text_of_content(content);
    if (text.size() > told_content_size_max / 2)
        text = text.substr(0, told_content_size_max / 2) + "...";
    co_return fmt::format("holds {}; if it may be lost, say --force", text);
}

}  // namespace braid::cluster
