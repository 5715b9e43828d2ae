// SPDX-License-Identifier: BSD-3-Clause
// JSON that a server or a member gave: its fields, or what stands for them; and JSON as people read
// it (json_text.h).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/base/json_text.h"

namespace braid::cli {

// A field that is absent or of another type is 0, empty, false or an empty list, or null.
std::uint64_t number_in(const nlohmann::json& object, const char* name);
std::string text_in(const nlohmann::json& object, const char* name);
double real_in(const nlohmann::json& object, const char* name);
bool flag_in(const nlohmann::json& object, const char* name);
const nlohmann::json& list_in(const nlohmann::json& object, const char* name);
const nlohmann::json* object_in(const nlohmann::json& object, const char* name);

}  // namespace braid::cli
