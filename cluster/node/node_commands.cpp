// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/node/node_commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/node/fence_words.h"
#include "engine/base/hex.h"
#include "engine/base/limits.h"
#include "engine/layout/register.h"

namespace braid::cluster {
namespace {

constexpr std::array step_names{"prepare", "store", "adopt"};
constexpr std::array node_command_words{node_words::cable_check, node_words::node_read,
                                        node_words::node_write,  node_words::negotiate,
                                        node_words::kill,        node_words::inquiry};

/// Kinds of events, and the words under which they are told.
struct EventWord {
    std::string_view kind;
    const char* word;
};
constexpr std::array event_words{
    EventWord{"rebuild_received", node_words::rebuild_received},
    EventWord{"rebuild_started", node_words::rebuild_started},
    EventWord{"rebuild_done", node_words::rebuild_completed},
};

std::string hex_of(const std::byte* bytes, std::size_t count) {
    std::string text;
    text.reserve(2 * count);
    for (std::size_t i = 0; i != count; ++i) append_hex(text, static_cast<std::uint8_t>(bytes[i]));
    return text;
}

/// 1 to echo_block_size bytes.
std::vector<std::byte> bytes_in(WordFields& fields, const char* key) {
    const std::string text = fields.text(key);
    const bool fits = !text.empty() && text.size() % 2 == 0 && text.size() <= 2 * echo_block_size;
    std::vector<std::byte> bytes;
    for (std::size_t i = 0; fits && i != text.size(); i += 2) {
        const auto high = value_of_hex(text[i]);
        const auto low = value_of_hex(text[i + 1]);
        if (!high || !low) break;
        bytes.push_back(static_cast<std::byte>(*high * 16 + *low));
    }
    if (!fits || bytes.size() != text.size() / 2) {
        fields.is_wrong(key, fmt::format("1 to {} bytes in hexadecimal", echo_block_size));
    }
    return bytes;
}

Checked<Unit> check_place(std::size_t offset, std::size_t count) {
    if (offset + count <= echo_block_size) return Unit{};
    return Refusal{fmt::format("bytes {} to {} are beyond a block of {}", offset, offset + count,
                               echo_block_size),
                   RefusalCode::invalid};
}

}  // namespace

// ---- as they travel ----------------------------------------------------------------------------

Words words_of(const CableCheckAnswer& answer) {
    return {{"channel", answer.channel}, {"address", answer.address}};
}

Checked<CableCheckAnswer> cable_check_answer_of(const Words& words) {
    WordFields fields(words);
    CableCheckAnswer answer;
    answer.channel = fields.number32("channel", node_addresses_max - 1);
    answer.address = fields.text("address");
    BRAID_CHECK(fields.check());
    return answer;
}

Words words_of(const BlockRead& command) {
    Words words = asking(node_words::node_read);
    words["offset"] = command.offset;
    words["count"] = command.count;
    return words;
}

Checked<BlockRead> block_read_of(const Words& words) {
    WordFields fields(words);
    BlockRead command;
    command.offset = fields.number32("offset", echo_block_size - 1);
    command.count = fields.number32("count", echo_block_size);
    if (command.count == 0) fields.is_wrong("count", "at least one");
    BRAID_CHECK(fields.check());
    BRAID_CHECK(check_place(command.offset, command.count));
    return command;
}

Words words_of(const BlockWrite& command) {
    Words words = asking(node_words::node_write);
    words["offset"] = command.offset;
    words["data"] = hex_of(command.data.data(), command.data.size());
    return words;
}

Checked<BlockWrite> block_write_of(const Words& words) {
    WordFields fields(words);
    BlockWrite command;
    command.offset = fields.number32("offset", echo_block_size - 1);
    command.data = bytes_in(fields, "data");
    BRAID_CHECK(fields.check());
    BRAID_CHECK(check_place(command.offset, command.data.size()));
    return command;
}

Checked<std::vector<std::byte>> block_of(const Words& words) {
    WordFields fields(words);
    std::vector<std::byte> bytes = bytes_in(fields, "data");
    BRAID_CHECK(fields.check());
    return bytes;
}

Words words_of(const Negotiate& command) {
    Words words = asking(node_words::negotiate);
    words["step"] = step_names[static_cast<std::size_t>(command.step)];
    words["fence"] = command.fence;
    return words;
}

Checked<Negotiate> negotiate_of(const Words& words) {
    WordFields fields(words);
    Negotiate command;
    const std::string step = fields.text("step");
    const auto at = std::ranges::find(step_names, step);
    if (at == step_names.end()) {
        fields.is_wrong("step", "a step of the barrier");
    } else {
        command.step = static_cast<NegotiateStep>(at - step_names.begin());
    }
    command.fence = fields.number("fence", epoch_max);
    BRAID_CHECK(fields.check());
    return command;
}

Words words_of(const Kill& command) {
    Words words = asking(node_words::kill);
    words["boot"] = command.boot;
    words["why"] = command.why;
    return words;
}

Checked<Kill> kill_of(const Words& words) {
    WordFields fields(words);
    Kill command;
    command.boot = fields.number("boot");
    command.why = fields.text("why");
    BRAID_CHECK(fields.check());
    return command;
}

Words words_of(const InquiryAnswer& answer) {
    return {{"node", answer.node},       {"boot", answer.boot},       {"booting", answer.booting},
            {"stopped", answer.stopped}, {"decides", answer.decides}, {"epoch", answer.epoch},
            {"nodes", answer.nodes}};
}

Checked<InquiryAnswer> inquiry_answer_of(const Words& words) {
    WordFields fields(words);
    InquiryAnswer answer;
    answer.node = fields.number32("node", nodes_max - 1);
    answer.boot = fields.number("boot");
    answer.booting = fields.flag("booting");
    answer.stopped = fields.flag("stopped");
    answer.decides = fields.flag("decides");
    answer.epoch = fields.number("epoch", epoch_max);
    BRAID_TRY(answer.nodes, nodes_in(fields, "nodes"));
    return answer;
}

// ---- the answers -------------------------------------------------------------------------------

bool NodeCommands::has(std::string_view word) {
    return std::ranges::find(node_command_words, word) != node_command_words.end();
}

Checked<Words> NodeCommands::answer(std::uint32_t from, std::string_view word, const Words& words) {
    if (word == node_words::cable_check) {
        const auto channel = setup_.channel_of(from);
        if (!channel) return Refusal{"the session is over", RefusalCode::busy};
        return words_of(*channel);
    }
    if (word == node_words::node_read) return read(from, words);
    if (word == node_words::node_write) return write(from, words);
    if (word == node_words::inquiry) return words_of(setup_.about_this_node());
    if (word == node_words::negotiate) {
        BRAID_TRY(const Negotiate command, negotiate_of(words));
        return Refusal{fmt::format("fence {} cannot begin: it is for the one who decides about an "
                                   "array that is served here to propose it",
                                   command.fence),
                       RefusalCode::conflict};
    }
    BRAID_REQUIRE(word == node_words::kill);
    BRAID_TRY(const Kill command, kill_of(words));
    const std::uint64_t boot = setup_.about_this_node().boot;
    if (command.boot != boot) {
        return Refusal{"it is for another start of this node", RefusalCode::conflict};
    }
    BRAID_CHECK(setup_.kill(from, command));
    return Words::object();
}

Checked<Words> NodeCommands::read(std::uint32_t from, const Words& words) const {
    BRAID_TRY(const BlockRead command, block_read_of(words));
    const auto at = blocks_.find(from);
    const Block blank{};
    const Block& block = at == blocks_.end() ? blank : at->second;
    return Words{{"data", hex_of(block.data() + command.offset, command.count)}};
}

Checked<Words> NodeCommands::write(std::uint32_t from, const Words& words) {
    BRAID_TRY(const BlockWrite command, block_write_of(words));
    Block& block = blocks_[from];
    std::ranges::copy(command.data, block.begin() + command.offset);
    return Words::object();
}

// ---- what is told of rebuilds ------------------------------------------------------------------

bool is_rebuild_order(std::string_view order) { return order == "add" || order == "replace"; }

const char* word_of_event(std::string_view kind, bool rebuilt) {
    if (rebuilt && (kind == "clean" || kind == "damaged")) return node_words::rebuilt_all;
    const auto at = std::ranges::find(event_words, kind, &EventWord::kind);
    return at == event_words.end() ? "event" : at->word;
}

bool is_event(std::string_view word) {
    return word == "event" || word == node_words::rebuilt_all ||
           std::ranges::find(event_words, word, [](const EventWord& at) {
               return std::string_view(at.word);
           }) != event_words.end();
}

}  // namespace braid::cluster
