// SPDX-License-Identifier: BSD-3-Clause
#include "plugin/assertion_guard.h"

#include <dlfcn.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

namespace braid::plugin {
namespace {

/// What glibc says of an abort. Source: glibc 2.36, include/stdlib.h, struct abort_msg_s; the
/// variable is private (GLIBC_PRIVATE), yet debuggers and crash reporters have relied on it since
/// 2.12. Only nbdkit before 1.34 needs this: assertion_guard.h.
struct AbortMessage {
    unsigned int size;
    char text[1];  // and more, up to a NUL
};
const AbortMessage* const* abort_message = nullptr;

bool is_the_known_one() {
    const AbortMessage* message = *abort_message;
    return message != nullptr && std::strstr(message->text, "raw_send_socket") != nullptr &&
           std::strstr(message->text, "sock >= 0") != nullptr;
}

/// Returning from here lets abort() go on. It runs where the assertion failed, not just anywhere.
void on_abort(int) {
    if (!is_the_known_one()) return;
    constexpr char text[] =
        "braid: a client went away in the middle of replies; nbdkit's assertion is held off, the "
        "other clients go on\n";
    [[maybe_unused]] const auto written = write(STDERR_FILENO, text, sizeof text - 1);
    for (;;) pause();
}

}  // namespace

bool guard_against_assertion() {
    abort_message = static_cast<const AbortMessage* const*>(dlsym(RTLD_DEFAULT, "__abort_msg"));
    if (abort_message == nullptr) return false;
    struct sigaction action {};
    action.sa_handler = on_abort;
    return sigaction(SIGABRT, &action, nullptr) == 0;
}

}  // namespace braid::plugin
