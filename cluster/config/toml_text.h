// SPDX-License-Identifier: BSD-3-Clause
// What a text has to be before toml++ may see it. Version 3.3, which Debian has, does undefined things
// where it meets some characters beyond ASCII outside of strings and comments, or what it takes for
// that; and it takes tables down by recursion, of which a text with many dots makes very deep ones.
// Pure.
#pragma once

#include <string>
#include <string_view>

#include "engine/base/result.h"

namespace braid::cluster {

/// The same text, line by line, in ASCII: without comments and a byte-order mark, other characters in
/// strings as escapes. Refused: characters beyond ASCII outside of strings and comments, what is no
/// UTF-8 in strings, strings of several lines, more than key_dots_max dots outside of strings.
/// Refusals begin with `file` and the line. Where a string does not end in its line the text is no
/// TOML, and ends after that line.
Checked<std::string> text_for_parser(std::string_view text, const std::string& file);

}  // namespace braid::cluster
