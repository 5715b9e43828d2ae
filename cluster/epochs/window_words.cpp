// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/epochs/window_words.h"

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "engine/base/hex.h"
#include "engine/base/limits.h"

namespace braid::cluster {
namespace {

constexpr std::size_t page_bytes = WindowSet::page_windows / 8;

std::string hex_of(const WindowSet::Page& page) {
    std::string text;
    text.reserve(2 * page_bytes);
    for (std::uint64_t word : page) {
        for (std::size_t i = 0; i != sizeof word; ++i) {
            append_hex(text, static_cast<std::uint8_t>(word & 0xff));
            word >>= 8;
        }
    }
    return text;
}

std::optional<WindowSet::Page> page_of(std::string_view text) {
    if (text.size() != 2 * page_bytes) return std::nullopt;
    WindowSet::Page page{};
    for (std::size_t i = 0; i != page_bytes; ++i) {
        const auto high = value_of_hex(text[2 * i]);
        const auto low = value_of_hex(text[2 * i + 1]);
        if (!high || !low) return std::nullopt;
        page[i / 8] |= std::uint64_t{static_cast<std::uint8_t>(*high << 4 | *low)} << (i % 8 * 8);
    }
    return page;
}

}  // namespace

std::optional<std::uint64_t> put_windows(Words* words, const WindowSet& windows,
                                         std::uint64_t from) {
    Words& list = (*words)["pages"] = Words::array();
    for (auto at = windows.pages().lower_bound(from); at != windows.pages().end(); ++at) {
        if (list.size() == pages_told_max) return at->first;
        list.push_back({at->first, hex_of(at->second)});
    }
    return std::nullopt;
}

Checked<Unit> take_windows(WordFields& fields, const Geometry& geometry, WindowSet* windows) {
    for (const Words& one : fields.list("pages", pages_told_max)) {
        const auto* pair = one.get_ptr<const Words::array_t*>();
        const bool is_pair =
            pair != nullptr && pair->size() == 2 && (*pair)[0].is_number_integer() &&
            (*pair)[1].is_string() &&
            ((*pair)[0].is_number_unsigned() || (*pair)[0].get<std::int64_t>() >= 0);
        if (!is_pair) return Refusal{"\"pages\" has what is no page of windows"};
        const auto number = (*pair)[0].get<std::uint64_t>();
        const auto page = page_of((*pair)[1].get_ref<const std::string&>());
        if (!page) return Refusal{"\"pages\" has what is no page of windows"};
        WindowSet one_page;
        const std::uint64_t last = (raw(geometry.window_end()) - 1) / WindowSet::page_windows;
        if (number <= last) (void)one_page.add(number, *page);
        constexpr WindowIndex forever{~std::uint64_t{0}};
        if (number > last || one_page.next_in(geometry.window_end(), forever) != forever) {
            return Refusal{"\"pages\" has windows beyond the array"};
        }
        if (!windows->add(one_page)) return Refusal{"\"pages\" has more than there is room for"};
    }
    return fields.check();
}

std::vector<Words> words_of_behind(MemberIndex member, const WindowSet& behind) {
    std::vector<Words> all;
    for (std::optional<std::uint64_t> from = 0; from;) {
        Words words = telling("behind");
        words["member"] = raw(member);
        words["first"] = all.empty();
        from = put_windows(&words, behind, *from);
        all.push_back(std::move(words));
    }
    return all;
}

}  // namespace braid::cluster
