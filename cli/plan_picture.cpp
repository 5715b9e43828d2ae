// SPDX-License-Identifier: BSD-3-Clause
#include "cli/plan_picture.h"

#include <fmt/format.h>

#include "cli/fields.h"
#include "cli/text.h"

namespace braid::cli {
namespace {

using nlohmann::json;

std::string parity_words(const std::string& parity, bool future) {
    if (parity == "zeroed") {
        return future ? "true at once: the members will be zeroed"
                      : "true: the members were zeroed";
    }
    if (parity == "resynced") return "made true by a resync, when the array is first served";
    if (parity == "assumed") return "taken for true, as --assume-clean says";
    return harmless(parity);
}

std::string member_lines(const json& plan) {
    std::string text;
    for (const json& member : list_in(plan, "members")) {
        text +=
            fmt::format("  {:<9} {}  {}\n", harmless(text_in(member, "part")),
                        harmless(text_in(member, "path")), size_text(number_in(member, "size")));
    }
    return text;
}

}  // namespace

std::string plan_lines(const json& plan, bool future) {
    const std::string name = harmless(text_in(plan, "name"));
    const std::uint64_t level = number_in(plan, "level");
    const std::string layout = level == 5 ? ", " + harmless(text_in(plan, "layout")) : "";
    const std::uint64_t offset = number_in(plan, "data_offset");
    std::string text = fmt::format("RAID-{}{}{} of {} members{}, strips of {}\n", level,
                                   name.empty() ? "" : " ", name, number_in(plan, "member_count"),
                                   layout, size_text(number_in(plan, "strip_size")));
    if (!future) text += fmt::format("  array     {}\n", harmless(text_in(plan, "array")));
    text +=
        fmt::format("  data      {} in {} stripes of {}\n", size_text(number_in(plan, "data_size")),
                    number_in(plan, "stripes"), size_text(number_in(plan, "stripe_size")));
    text += fmt::format("  begins    at byte {} ({}) of each member\n", offset, size_text(offset));
    text += fmt::format("  parity    {}\n", parity_words(text_in(plan, "parity"), future));
    text += member_lines(plan);
    for (const json& volume : list_in(plan, "volumes")) {
        text += fmt::format("  volume    {}  {}\n", harmless(text_in(volume, "name")),
                            size_text(number_in(volume, "size")));
    }
    if (const std::uint64_t left = number_in(plan, "free"); left != 0) {
        text += fmt::format("  free      {}\n", size_text(left));
    }
    for (const json& notice : list_in(plan, "notices")) {
        if (notice.is_string()) {
            text += fmt::format("  note      {}\n", harmless(notice.get<std::string>()));
        }
    }
    return text;
}

std::string placement_lines(const json& answer) {
    const json& nodes = list_in(answer, "nodes");
    std::string text;
    for (const json& node : nodes) {
        text += fmt::format("  {:<9} {}\n", fmt::format("node {}", number_in(node, "id")),
                            harmless(text_in(node, "text")));
    }
    return text;
}

}  // namespace braid::cli
