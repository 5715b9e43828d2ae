// SPDX-License-Identifier: BSD-3-Clause
// IoRequest: what a client asks of the array. It lives in the client's memory until `done` is
// called, by who leads the loop; nothing is allocated for it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/base/result.h"
#include "engine/base/units.h"

namespace braid {

enum class IoKind : std::uint8_t { read, write, zero, flush };

struct IoRequest {
    IoKind kind{IoKind::read};
    bool fua{false};           // write, zero: durable when done
    bool fast_only{false};     // zero: Errc::unsupported rather than writing zeros out
    bool may_free{false};      // zero: members may give space back
    bool trim{false};          // zero: a hint. Whole stripes, where that is fast; nothing is
                               // written, and what is not zeroed keeps what it has
    ArrayOffset offset{};      // any alignment
    std::uint64_t size{0};     // bytes; read and write at most request_size_max
    std::byte* data{nullptr};  // read: filled; write: only read from; any alignment
    void (*done)(IoRequest&){nullptr};
    void* user{nullptr};  // of whoever set `done`

    bool ok{true};  // after done
    Error error;    // when not ok

    // The engine's own, from submit() to done().
    ArrayOffset next{};            // the begin of the stripe up to which it was split
    std::uint32_t next_window{0};  // and the window in it
    std::uint32_t pending{0};      // parts that are not done
    bool splitting{false};         // not all of it was split yet
    bool let_in{false};            // by a RequestGate
    bool is_part{false};           // of another one, which is done anew if this one cannot be yet
    IoRequest* link{nullptr};
};

}  // namespace braid
