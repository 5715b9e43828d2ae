// SPDX-License-Identifier: BSD-3-Clause
// A guard against one fault of nbdkit 1.32, which Debian 12 has: when a client goes away while two
// replies are on their way to it, the thread of the second one fails the assertion
// `raw_send_socket: sock >= 0' in nbdkit's server/connections.c, and the whole server aborts: all
// clients lose their disks because one of them was killed. The guard recognises that assertion by
// its text and puts the thread to sleep for good instead; it holds nothing but the lock of the
// connection that is dead. Every other abort takes its course.
//
// Which versions need it: 1.32.5 has the assertion, and braid takes none older than 1.32. 1.33.10
// has an EBADF in its place, and the release notes of 1.34.0 (14 April 2023, "Security") tell of
// the mend: so 1.34 and newer need no guard. Of 1.33 before .10, and of what the branch of 1.32 got
// after .5, it is not known here; there the guard stays, which does no harm where nothing fails.
// nbdkit does not tell a plugin its version at run time: what counts is the version that the plugin
// is built with, and nbdkit promises nothing to a plugin that is loaded by an older one. Source:
// nbdkit, docs/nbdkit-release-notes-1.34.pod, server/connections.c.
#pragma once

namespace braid::plugin {

/// Whether nbdkit of this version (NBDKIT_VERSION_MAJOR, _MINOR) may have the fault.
constexpr bool needs_assertion_guard(int major, int minor) {
    return major < 1 || (major == 1 && minor < 34);
}

/// Once a process, after the fork. False where the C library does not tell why it aborts.
bool guard_against_assertion();

}  // namespace braid::plugin
