// SPDX-License-Identifier: BSD-3-Clause
#include "engine/assembly/create_order.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "engine/base/limits.h"

namespace braid {
namespace {

using nlohmann::json;

Refusal wrong(std::string text) { return {std::move(text), RefusalCode::invalid}; }

/// The fields of an object: what is there has to be of its type, and what is not keeps its default.
class Fields {
  public:
    explicit Fields(const json& object) : object_(object) {}

    void take(const char* name, bool* into) {
        const json* at = find(name);
        if (at == nullptr) return;
        if (!at->is_boolean()) return refuse(name, "true or false");
        *into = at->get<bool>();
    }
    void take(const char* name, std::string* into) {
        const json* at = find(name);
        if (at == nullptr) return;
        if (!at->is_string()) return refuse(name, "a string");
        *into = at->get<std::string>();
    }
    void take(const char* name, std::uint64_t* into) {
        const json* at = find(name);
        if (at == nullptr) return;
        if (!at->is_number_unsigned()) return refuse(name, "a whole number");
        *into = at->get<std::uint64_t>();
    }
    std::vector<json> list(const char* name, std::size_t count_max) {
        const json* at = find(name);
        if (at == nullptr) return {};
        if (!at->is_array() || at->size() > count_max) {
            refuse(name, fmt::format("a list of at most {}", count_max));
            return {};
        }
        return at->get<std::vector<json>>();
    }
    bool has(const char* name) const { return object_.contains(name); }
    /// All was right, and nothing is left over.
    Checked<Unit> finish() const {
        if (!wrong_.empty()) return wrong(wrong_);
        for (const auto& [key, value] : object_.items()) {
            if (std::ranges::find(known_, key) != known_.end()) continue;
            return wrong(
                "there is an unknown field; the fields are level, layout, strip_size, name, "
                "volumes, spares, witness, data_offset, assume_clean, force, force_placement, "
                "dry_run, and name and size of a volume");
        }
        return Unit{};
    }

  private:
    const json* find(const char* name) {
        known_.emplace_back(name);
        const auto found = object_.find(name);
        return found == object_.end() ? nullptr : &*found;
    }
    void refuse(const char* name, std::string_view what) {
        if (wrong_.empty()) wrong_ = fmt::format("\"{}\" must be {}", name, what);
    }

    const json& object_;
    std::vector<std::string> known_;
    std::string wrong_;
};

Checked<VolumeWish> volume_of(const json& value) {
    if (!value.is_object()) return wrong("a volume must be an object: {\"name\": …, \"size\": …}");
    VolumeWish wish;
    Fields fields(value);
    fields.take("name", &wish.name);
    fields.take("size", &wish.size);
    BRAID_CHECK(fields.finish());
    return wish;
}

}  // namespace

Checked<Level> level_of(const std::string& text) {
    if (text == "4") return Level::raid4;
    if (text == "5") return Level::raid5;
    if (text == "6") return Level::raid6;
    return wrong(
        fmt::format("level {}: braid makes RAID-4, RAID-5 and RAID-6, so say 4, 5 or 6", text));
}

Checked<Layout> layout_named(const std::string& text) {
    const std::map<std::string_view, Layout> short_names{{"ls", Layout::left_symmetric},
                                                         {"la", Layout::left_asymmetric},
                                                         {"rs", Layout::right_symmetric},
                                                         {"ra", Layout::right_asymmetric}};
    if (text.empty()) return Layout::left_symmetric;
    if (const auto layout = layout_of(text)) return *layout;
    if (const auto found = short_names.find(text); found != short_names.end()) return found->second;
    return wrong(
        fmt::format("layout {}: say left-symmetric, left-asymmetric, right-symmetric or "
                    "right-asymmetric",
                    text));
}

json json_of(const CreateOrder& order) {
    const CreateOptions& options = order.options;
    json value;
    value["level"] = static_cast<std::uint64_t>(options.level);
    value["layout"] = text_of(options.layout);
    value["strip_size"] = options.strip_size;
    value["name"] = options.name;
    value["volumes"] = json::array();
    for (const VolumeWish& wish : options.volumes) {
        value["volumes"].push_back({{"name", wish.name}, {"size", wish.size}});
    }
    value["spares"] = order.spares;
    if (!order.witness.empty()) value["witness"] = order.witness;
    if (options.data_offset) value["data_offset"] = *options.data_offset;
    value["assume_clean"] = options.assume_clean;
    value["force"] = order.force;
    value["force_placement"] = order.force_placement;
    value["dry_run"] = order.dry_run;
    return value;
}

Checked<CreateOrder> create_order_of(const json& object) {
    if (!object.is_object()) return wrong("the order must be a JSON object: {\"level\": 6}");
    CreateOrder order;
    CreateOptions& options = order.options;
    Fields fields(object);
    std::uint64_t level = 0;
    std::string layout;
    std::uint64_t data_offset = 0;
    fields.take("level", &level);
    fields.take("layout", &layout);
    fields.take("strip_size", &options.strip_size);
    fields.take("name", &options.name);
    fields.take("witness", &order.witness);
    fields.take("data_offset", &data_offset);
    fields.take("assume_clean", &options.assume_clean);
    fields.take("force", &order.force);
    fields.take("force_placement", &order.force_placement);
    fields.take("dry_run", &order.dry_run);
    const std::vector<json> volumes = fields.list("volumes", volumes_max);
    const std::vector<json> spares = fields.list("spares", spares_max);
    BRAID_CHECK(fields.finish());
    if (!fields.has("level")) return wrong("\"level\" is missing: 4, 5 or 6");
    BRAID_TRY(options.level, level_of(std::to_string(level)));
    BRAID_TRY(options.layout, layout_named(layout));
    if (fields.has("data_offset")) options.data_offset = data_offset;
    for (const json& volume : volumes) {
        BRAID_TRY(options.volumes.emplace_back(), volume_of(volume));
    }
    for (const json& spare : spares) {
        if (!spare.is_string()) return wrong("\"spares\" must be strings: members of the cluster");
        order.spares.push_back(spare.get<std::string>());
    }
    return order;
}

namespace {

std::string_view text_of(InitialParity parity) {
    switch (parity) {
        case InitialParity::zeroed:
            return "zeroed";
        case InitialParity::resynced:
            return "resynced";
        case InitialParity::assumed:
            return "assumed";
    }
    return "unknown";
}

}  // namespace

json json_of(const CreatePlan& plan) {
    const Configuration& c = plan.configuration;
    json value;
    value["array"] = c.array.text();
    value["name"] = c.name;
    value["level"] = static_cast<std::uint64_t>(c.level);
    value["layout"] = c.level == Level::raid4 ? json(nullptr) : json(text_of(c.layout));
    value["strip_size"] = c.strip_size;
    value["member_count"] = c.member_count;
    value["stripes"] = c.stripes;
    value["stripe_size"] = c.stripe_data_size();
    value["data_size"] = c.data_size();
    value["data_offset"] = c.members[0].data_offset;
    value["parity"] = text_of(plan.parity);
    value["members"] = json::array();
    for (const MemberRecord& member : c.members) {
        value["members"].push_back({{"role", member.role ? json(raw(*member.role)) : json(nullptr)},
                                    {"part", text_of_part(member)},
                                    {"path", member.path},
                                    {"size", member.size}});
    }
    value["volumes"] = json::array();
    for (const VolumeRecord& volume : c.volumes) {
        value["volumes"].push_back({{"name", volume.name}, {"size", c.area_of(volume).size}});
    }
    const std::uint64_t used = c.volumes.empty() ? 0 : raw(c.volumes.back().end());
    value["free"] = (c.stripes - used) * c.stripe_data_size();
    value["notices"] = plan.notices;
    return value;
}

}  // namespace braid
