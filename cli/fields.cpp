// SPDX-License-Identifier: BSD-3-Clause
#include "cli/fields.h"

namespace braid::cli {

using nlohmann::json;

std::uint64_t number_in(const json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}
std::string text_in(const json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}
double real_in(const json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_number() ? found->get<double>() : 0;
}
bool flag_in(const json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_boolean() && found->get<bool>();
}
const json& list_in(const json& object, const char* name) {
    static const json nothing = json::array();
    const auto found = object.find(name);
    return found != object.end() && found->is_array() ? *found : nothing;
}
const json* object_in(const json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_object() ? &*found : nullptr;
}

}  // namespace braid::cli
