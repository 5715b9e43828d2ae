// SPDX-License-Identifier: BSD-3-Clause
// A guard against one fault of nbdkit 1.32, which Debian 12 has: when a client goes away while two
// replies are on their way to it, the thread of the second one fails the assertion
// `raw_send_socket: sock >= 0' in nbdkit's server/connections.c, and the whole server aborts: all
// clients lose their disks because one of them was killed. The guard recognises that assertion by
// its text and puts the thread to sleep for good instead; it holds nothing but the lock of the
// connection that is dead. Every other abort takes its course.
#pragma once

namespace braid::plugin {

/// Once a process, after the fork. False where the C library does not tell why it aborts.
bool guard_against_assertion();

}  // namespace braid::plugin
