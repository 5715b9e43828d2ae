// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/config/toml_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>

#include "engine/base/limits.h"

namespace braid::cluster {
namespace {

constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";

bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }

struct Character {
    std::uint32_t code{0};
    std::size_t size{0};  // bytes
};

/// The first character of `text`, which is not ASCII; none: it is no UTF-8 (RFC 3629).
std::optional<Character> decode(std::string_view text) {
    const auto first = static_cast<unsigned char>(text[0]);
    const std::size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    constexpr std::array<std::uint32_t, 5> least{0, 0, 0x80, 0x800, 0x10000};
    if (first < 0xc0 || first > 0xf7 || text.size() < size) return std::nullopt;
    std::uint32_t code = first & (0x7fu >> size);
    for (std::size_t at = 1; at != size; ++at) {
        const auto next = static_cast<unsigned char>(text[at]);
        if ((next & 0xc0) != 0x80) return std::nullopt;
        code = code << 6 | (next & 0x3f);
    }
    if (code < least[size] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
        return std::nullopt;
    }
    return Character{code, size};
}

/// The content of a string, as one in double quotes has it, in ASCII.
std::optional<std::string> escaped(std::string_view content, bool is_literal) {
    std::string result;
    while (!content.empty()) {
        const char c = content[0];
        if (is_ascii(c)) {
            if (is_literal && (c == '"' || c == '\\')) result += '\\';
            result += c;
            content.remove_prefix(1);
            continue;
        }
        const auto character = decode(content);
        if (!character) return std::nullopt;
        result += fmt::format("\\U{:08x}", character->code);
        content.remove_prefix(character->size);
    }
    return result;
}

class Scanner {
  public:
    Scanner(std::string_view text, const std::string& file) : text_(text), file_(file) {}

    Checked<std::string> scan() {
        while (at_ != text_.size() && !open_string_) {
            const char c = text_[at_];
            if (c == '#') {
                at_ = end_of_line();
            } else if (c == '"' || c == '\'') {
                BRAID_CHECK(take_string(c));
            } else {
                BRAID_CHECK(take_plain(c));
            }
        }
        return std::move(kept_);
    }

  private:
    Refusal refuse(const std::string& text) const {
        return {fmt::format("{}:{}: {}", file_, line_, text), RefusalCode::invalid};
    }
    std::size_t end_of_line() const { return std::min(text_.find('\n', at_), text_.size()); }

    Checked<Unit> take_plain(char c) {
        if (!is_ascii(c)) {
            return refuse("a character beyond ASCII stands outside of quotes");
        }
        if (c == '.' && ++dots_ > key_dots_max) {
            return refuse(
                fmt::format("more than {} dots stand outside of quotes, where addresses and paths "
                            "belong in them",
                            key_dots_max));
        }
        if (c == '\n') ++line_;
        kept_ += c;
        ++at_;
        return Unit{};
    }

    /// With its quotes; in double quotes what follows a backslash does not end it.
    Checked<Unit> take_string(char quote) {
        if (text_.substr(at_, 3) == std::string(3, quote)) {
            return refuse("a string begins with three quotes: say it in one line, with one");
        }
        const std::string_view line = text_.substr(at_, end_of_line() - at_);
        std::size_t end = 1;
        while (end < line.size() && line[end] != quote) {
            end += quote == '"' && line[end] == '\\' ? 2 : 1;
        }
        open_string_ = end >= line.size();
        const std::string_view string = line.substr(0, end + 1);
        at_ += string.size();
        if (std::ranges::all_of(string, is_ascii)) {
            kept_ += string;
        } else {
            const std::size_t quotes = open_string_ ? 1 : 2;
            const auto ascii = escaped(string.substr(1, string.size() - quotes), quote == '\'');
            if (!ascii) return refuse("a string has bytes that are no UTF-8");
            kept_.append("\"").append(*ascii).append(open_string_ ? "" : "\"");
        }
        if (open_string_) kept_ += '\n';
        return Unit{};
    }

    std::string_view text_;
    const std::string& file_;
    std::size_t at_{0};
    std::uint32_t line_{1};
    std::size_t dots_{0};
    bool open_string_{false};
    std::string kept_;
};

}  // namespace

Checked<std::string> text_for_parser(std::string_view text, const std::string& file) {
    if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
    return Scanner(text, file).scan();
}

}  // namespace braid::cluster
