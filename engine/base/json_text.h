// SPDX-License-Identifier: BSD-3-Clause
// JSON as text, whatever bytes the strings hold: what is no UTF-8 is replaced.
#pragma once

#include <string>

namespace braid {

/// Indented, as people read it; without a newline at the end. Of either kind of nlohmann's JSON.
template <class Json>
std::string readable(const Json& value) {
    return value.dump(2, ' ', false, Json::error_handler_t::replace);
}

/// In one line: for programs, which read a line at a time.
template <class Json>
std::string one_line(const Json& value) {
    return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace braid
