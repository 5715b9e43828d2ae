// SPDX-License-Identifier: BSD-3-Clause
// The commands between nodes that are about the nodes themselves: what each asks, what it answers,
// and the answers. Any node asks any other one, whether there is an array or not. With those about
// volumes and rebuilds, which stand where volumes and rebuilds do, they are the sixteen that
// braid-protocol(7) has a table of, "NODE COMMANDS".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/bus/talk.h"
#include "engine/base/buffer.h"

namespace braid::cluster {

/// Of a node's block for one other node, which that one writes and reads to see whether bytes come
/// through as they are. It is in nobody's way: nothing else is ever there.
inline constexpr std::size_t echo_block_size = 4096;

namespace node_words {
// asked
inline constexpr const char* cable_check = "cable_check";
inline constexpr const char* node_read = "node_read";
inline constexpr const char* node_write = "node_write";
inline constexpr const char* negotiate = "negotiate";
inline constexpr const char* kill = "kill";
inline constexpr const char* inquiry = "inquiry";
inline constexpr const char* rebuild_ordered = "inform_master_rebuild_received";
inline constexpr const char* rebuild = "rebuild";
// told
inline constexpr const char* reservation = "reservation";
inline constexpr const char* rebuild_received = "inform_rebuild_received";
inline constexpr const char* rebuild_started = "inform_rebuild_started";
inline constexpr const char* rebuild_status = "inform_rebuild_status";
inline constexpr const char* rebuild_completed = "inform_rebuild_completed";
inline constexpr const char* rebuilt_all = "inform_rebuilt_all";
}  // namespace node_words

/// By which of its addresses, or of the asked one's, a question came.
struct CableCheckAnswer {
    std::uint32_t channel{0};  // from 0 on, of the node with the lower id
    std::string address;
    bool operator==(const CableCheckAnswer&) const = default;
};

/// Bytes of the asker's block.
struct BlockRead {
    std::uint32_t offset{0};
    std::uint32_t count{0};  // at least one
    bool operator==(const BlockRead&) const = default;
};
struct BlockWrite {
    std::uint32_t offset{0};
    std::vector<std::byte> data;  // at least one byte
    bool operator==(const BlockWrite&) const = default;
};

/// A step of the barrier that begins a fence.
enum class NegotiateStep : std::uint8_t { prepare, store, adopt };
struct Negotiate {
    NegotiateStep step{NegotiateStep::prepare};
    std::uint64_t fence{0};
    bool operator==(const Negotiate&) const = default;
};

/// The asked one stops what it had begun, if it still is that start of the node.
struct Kill {
    std::uint64_t boot{0};
    std::string why;  // for people
    bool operator==(const Kill&) const = default;
};

struct InquiryAnswer {
    std::uint32_t node{0};
    std::uint64_t boot{0};
    bool booting{true};   // it does not serve yet
    bool stopped{false};  // its array has stopped, and what it serves now is errors
    bool decides{false};
    std::uint64_t epoch{0};         // in force; 0: there is no array
    std::set<std::uint32_t> nodes;  // of the cluster, as it knows them
    bool operator==(const InquiryAnswer&) const = default;
};

// As they travel. What comes is checked field by field.
Words words_of(const CableCheckAnswer& answer);
Words words_of(const BlockRead& command);
Words words_of(const BlockWrite& command);
Words words_of(const Negotiate& command);
Words words_of(const Kill& command);
Words words_of(const InquiryAnswer& answer);
Checked<CableCheckAnswer> cable_check_answer_of(const Words& words);
Checked<BlockRead> block_read_of(const Words& words);
Checked<BlockWrite> block_write_of(const Words& words);
Checked<std::vector<std::byte>> block_of(const Words& words);  // what node_read answers
Checked<Negotiate> negotiate_of(const Words& words);
Checked<Kill> kill_of(const Words& words);
Checked<InquiryAnswer> inquiry_answer_of(const Words& words);

/// Answers them.
class NodeCommands {
  public:
    struct Setup {
        /// By which channel the node's session goes just now. None: it does not.
        std::function<std::optional<CableCheckAnswer>(std::uint32_t node)> channel_of;
        std::function<InquiryAnswer()> about_this_node;
        /// Refused: nothing of it could be stopped.
        std::function<Checked<Unit>(std::uint32_t by, const Kill& kill)> kill;
    };
    explicit NodeCommands(Setup setup) : setup_(std::move(setup)) {}

    static bool has(std::string_view word);
    /// To what has() knows.
    Checked<Words> answer(std::uint32_t from, std::string_view word, const Words& words);
    /// What a node had written is gone with it.
    void forget(std::uint32_t node) { blocks_.erase(node); }

  private:
    using Block = std::array<std::byte, echo_block_size>;
    Checked<Words> read(std::uint32_t from, const Words& words) const;
    Checked<Words> write(std::uint32_t from, const Words& words);

    Setup setup_;
    std::map<std::uint32_t, Block> blocks_;  // of the nodes that have written, of which there are
                                             // as many as sessions
};

/// Whether an order is one that begins a rebuild, if a member is lost.
bool is_rebuild_order(std::string_view order);

/// An event about a rebuild is told under its own name, and any other as "event".
/// @param rebuilt  a rebuild is done, and it was not told yet that all are
const char* word_of_event(std::string_view kind, bool rebuilt);
/// "event", or one of the names.
bool is_event(std::string_view word);

}  // namespace braid::cluster
