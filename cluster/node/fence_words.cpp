// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/node/fence_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <utility>

#include "cluster/node/node_commands.h"
#include "engine/base/limits.h"
#include "engine/layout/register.h"

namespace braid::cluster {
namespace {

/// So many numbers; nullopt: it is something else.
template <std::size_t count>
std::optional<std::array<std::uint64_t, count>> numbers_of(const Words& words) {
    const auto* list = words.get_ptr<const Words::array_t*>();
    if (list == nullptr || list->size() != count) return std::nullopt;
    std::array<std::uint64_t, count> numbers{};
    for (std::size_t i = 0; i != count; ++i) {
        // What was an int here is signed until it has travelled.
        if (!(*list)[i].is_number_integer()) return std::nullopt;
        if (!(*list)[i].is_number_unsigned() && (*list)[i].get<std::int64_t>() < 0) {
            return std::nullopt;
        }
        numbers[i] = (*list)[i].get<std::uint64_t>();
    }
    return numbers;
}

NodeBoot node_boot_of(WordFields& fields) {
    NodeBoot of;
    of.node = fields.number32("node", nodes_max - 1);
    of.boot = fields.number("boot");
    if (of.node == 0) fields.is_wrong("node", "a node's");
    if (of.boot == 0) fields.is_wrong("boot", "a node's");
    return of;
}

Words piece(const char* what, std::uint64_t fence) { return {{"tell", what}, {"fence", fence}}; }

Words piece_of(const char* what, std::uint64_t fence, const NodeBoot& of) {
    Words words = piece(what, fence);
    words["node"] = of.node;
    words["boot"] = of.boot;
    return words;
}

std::vector<std::uint64_t> numbers(WordFields& fields, const char* key) {
    std::vector<std::uint64_t> all;
    for (const Words& one : fields.list(key, writes_told_max)) {
        if (!one.is_number_unsigned()) fields.is_wrong(key, "numbers of writes");
        if (one.is_number_unsigned()) all.push_back(one.get<std::uint64_t>());
    }
    return all;
}

/// Calls each with so many of them; once also where there are none.
template <class T, class Each>
void in_pieces(std::span<const T> all, Each each) {
    do {
        const auto now = all.first(std::min(all.size(), writes_told_max));
        each(now);
        all = all.subspan(now.size());
    } while (!all.empty());
}

}  // namespace

void put_nodes(Words* words, const char* key, const std::vector<NodeBoot>& nodes) {
    (*words)[key] = Words::array();
    for (const NodeBoot& node : nodes) (*words)[key].push_back({node.node, node.boot});
}

std::vector<NodeBoot> nodes_of(WordFields& fields, const char* key) {
    std::vector<NodeBoot> nodes;
    for (const Words& one : fields.list(key, nodes_max)) {
        const auto of = numbers_of<2>(one);
        if (!of || (*of)[0] == 0 || (*of)[0] >= nodes_max || (*of)[1] == 0) {
            fields.is_wrong(key, "nodes, each with its boot");
            break;
        }
        nodes.push_back({static_cast<std::uint32_t>((*of)[0]), (*of)[1]});
    }
    return nodes;
}

Checked<std::set<std::uint32_t>> nodes_in(WordFields& fields, const char* key) {
    std::set<std::uint32_t> nodes;
    for (const Words& one : fields.list(key, nodes_max)) {
        const bool is_node = one.is_number_integer() && one.get<std::int64_t>() > 0 &&
                             one.get<std::int64_t>() < std::int64_t{nodes_max};
        if (!is_node) {
            return Refusal{fmt::format("\"{}\" has what is no node", key), RefusalCode::invalid};
        }
        nodes.insert(one.get<std::uint32_t>());
    }
    BRAID_CHECK(fields.check());
    return nodes;
}

Words words_of(const PrepareWords& prepare) {
    Words words = words_of(Negotiate{NegotiateStep::prepare, prepare.fence});
    put_nodes(&words, "gone", prepare.gone);
    put_nodes(&words, "joined", prepare.joined);
    words["left"] = prepare.left;
    return words;
}

Checked<PrepareWords> prepare_of(const Words& words) {
    PrepareWords prepare;
    WordFields fields(words);
    prepare.fence = fields.number("fence", epoch_max);
    prepare.gone = nodes_of(fields, "gone");
    prepare.joined = nodes_of(fields, "joined");
    BRAID_TRY(prepare.left, nodes_in(fields, "left"));
    return prepare;
}

namespace {

bool is_step(const Words& words, NegotiateStep step) {
    const auto ask = words.find("ask");
    const auto at = words.find("step");
    return ask != words.end() && *ask == node_words::negotiate && at != words.end() &&
           *at == words_of(Negotiate{step, 1})["step"];
}

}  // namespace

bool is_prepare(const Words& words) { return is_step(words, NegotiateStep::prepare); }
bool is_adopt(const Words& words) { return is_step(words, NegotiateStep::adopt); }

void put_rebuilt(Words* adopt, const std::vector<Rebuilt>& rebuilt) {
    (*adopt)["rebuilt"] = Words::array();
    for (const Rebuilt& at : rebuilt) {
        (*adopt)["rebuilt"].push_back({std::uint64_t{raw(at.member)}, raw(at.upto)});
    }
}

Checked<std::vector<Rebuilt>> rebuilt_of(const Words& words, const Geometry& geometry) {
    std::vector<Rebuilt> rebuilt;
    WordFields fields(words);
    for (const Words& one : fields.list("rebuilt", members_max)) {
        const auto of = numbers_of<2>(one);
        if (!of || (*of)[0] >= geometry.member_count || (*of)[1] > raw(geometry.window_end())) {
            fields.is_wrong("rebuilt", "of members");
            break;
        }
        rebuilt.push_back(
            {MemberIndex{static_cast<std::uint32_t>((*of)[0])}, WindowIndex{(*of)[1]}});
    }
    BRAID_CHECK(fields.check());
    return rebuilt;
}

namespace {

std::vector<Words> pieces_of(const char* what, std::uint64_t fence, const WriteVerdict& verdict) {
    std::vector<Words> all;
    for (const auto& [writer, judged] : verdict.writers) {
        const std::vector<std::uint64_t> happen(judged.happen.begin(), judged.happen.end());
        in_pieces(std::span<const std::uint64_t>(happen), [&](auto numbers) {
            all.push_back(piece_of(what, fence, writer));
            all.back()["upto"] = judged.upto;
            all.back()["happen"] = std::vector<std::uint64_t>(numbers.begin(), numbers.end());
        });
    }
    return all;
}

Checked<Unit> take_piece(const Words& words, const char* epoch, WriteVerdict* verdict) {
    WordFields fields(words);
    const std::uint64_t fence = fields.number(epoch, epoch_max);
    const NodeBoot writer = node_boot_of(fields);
    const std::uint64_t upto = fields.number("upto");
    const auto happen = numbers(fields, "happen");
    BRAID_CHECK(fields.check());
    verdict->epoch = fence;
    Judged& judged = verdict->writers[writer];
    judged.upto = upto;
    judged.happen.insert(happen.begin(), happen.end());
    return Unit{};
}

}  // namespace

std::vector<Words> words_of(std::uint64_t fence, const Prepared& prepared) {
    const PrepareAnswer& answer = prepared.answer;
    std::vector<Words> all = pieces_of(fence_words::judged, fence, answer.verdict);
    for (Words& words : all) words["epoch"] = answer.verdict.epoch;
    in_pieces(std::span<const std::uint64_t>(answer.decided), [&](auto numbers) {
        all.push_back(piece(fence_words::decided, fence));
        all.back()["writes"] = std::vector<std::uint64_t>(numbers.begin(), numbers.end());
    });
    for (const auto& [writer, book] : answer.books) {
        in_pieces(std::span<const RowBook::Known>(book), [&](auto writes) {
            all.push_back(piece_of(fence_words::known, fence, writer));
            all.back()["writes"] = Words::array();
            for (const RowBook::Known& one : writes) {
                all.back()["writes"].push_back({one.write.sequence, one.members, one.participants,
                                                std::uint64_t{one.decided}});
            }
        });
    }
    all.push_back(piece(fence_words::prepared, fence));
    all.back()["newest"] = answer.sequence;
    all.back()["ages"] = Words::array();
    for (const auto& [node, age] : answer.ages) {
        all.back()["ages"].push_back({std::uint64_t{raw(node)}, age.value});
    }
    all.back()["roles"] = Words::array();
    for (const RoleSeen& role : prepared.roles) {
        all.back()["roles"].push_back({std::uint64_t{role.takes_part}, std::uint64_t{role.node},
                                       std::uint64_t{role.disk}, raw(role.rebuilt)});
    }
    return all;
}

Checked<bool> take_prepared(const Words& words, Prepared* prepared) {
    PrepareAnswer* const answer = &prepared->answer;
    WordFields fields(words);
    const std::string what = fields.text("tell");
    BRAID_CHECK(fields.check());
    if (what == fence_words::decided) {
        const auto more = numbers(fields, "writes");
        BRAID_CHECK(fields.check());
        answer->decided.insert(answer->decided.end(), more.begin(), more.end());
        return false;
    }
    if (what == fence_words::known) {
        const NodeBoot writer = node_boot_of(fields);
        std::vector<RowBook::Known> more;
        for (const Words& one : fields.list("writes", writes_told_max)) {
            const auto of = numbers_of<4>(one);
            if (!of || (*of)[3] > 1) {
                fields.is_wrong("writes", "of four numbers each");
                break;
            }
            more.push_back({{writer, (*of)[0]}, (*of)[1], (*of)[2], (*of)[3] != 0});
        }
        BRAID_CHECK(fields.check());
        std::vector<RowBook::Known>& book = answer->books[writer];
        book.insert(book.end(), more.begin(), more.end());
        return false;
    }
    if (what == fence_words::judged) {
        BRAID_CHECK(take_piece(words, "epoch", &answer->verdict));
        return false;
    }
    answer->sequence = fields.number("newest");
    for (const Words& one : fields.list("ages", nodes_max)) {
        const auto of = numbers_of<2>(one);
        if (!of || (*of)[0] >= nodes_max) {
            fields.is_wrong("ages", "of nodes");
            break;
        }
        answer->ages[NodeId{static_cast<std::uint32_t>((*of)[0])}] = Nanos{(*of)[1]};
    }
    for (const Words& one : fields.list("roles", members_max)) {
        const auto of = numbers_of<4>(one);
        if (!of || (*of)[0] > 1 || (*of)[1] >= nodes_max || (*of)[2] > ~std::uint32_t{0}) {
            fields.is_wrong("roles", "of roles");
            break;
        }
        prepared->roles.push_back({(*of)[0] != 0, static_cast<std::uint32_t>((*of)[1]),
                                   static_cast<std::uint32_t>((*of)[2]), WindowIndex{(*of)[3]}});
    }
    BRAID_CHECK(fields.check());
    return true;
}

std::vector<Words> words_of(const WriteVerdict& verdict) {
    return pieces_of(fence_words::verdict, verdict.epoch, verdict);
}

Checked<Unit> take_verdict(const Words& words, WriteVerdict* verdict) {
    return take_piece(words, "fence", verdict);
}

}  // namespace braid::cluster
