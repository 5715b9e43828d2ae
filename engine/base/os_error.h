// SPDX-License-Identifier: BSD-3-Clause
// What the system calls its errors, for messages.
#pragma once

#include <cstring>

namespace braid {

/// "No such file or directory". strerror() is for one thread only, and translates.
inline const char* os_error_text(int number) {
    const char* const text = strerrordesc_np(number);
    return text != nullptr ? text : "unknown error";
}

}  // namespace braid
