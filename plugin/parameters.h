// SPDX-License-Identifier: BSD-3-Clause
// The plugin's parameters: what nbdkit's command line said, checked as far as that goes without
// opening any member for good. Refuses what is unknown, doubled or impossible, and says what would
// be right.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/array.h"
#include "engine/base/disk_identity.h"
#include "engine/base/result.h"

namespace braid::plugin {

struct Parameters {
    std::vector<std::string> members;  // real paths, each a different file
    std::string config;                // path of the cluster's file, or empty: a node alone
    std::uint32_t node{0};             // of the cluster, which this server is
    std::string socket;                // absolute path of the control socket, or empty
    std::string volume;                // of the default export, or empty: the first one
    bool readonly{false};
    bool force{false};
    bool help{false};     // print the help and exit
    IntentChange intent;  // what was said of the write intent; the rest is as the array has it
    std::uint32_t rebuild_delay{600};  // seconds: ArrayOptions
    std::uint32_t member_timeout{10};  // seconds: ArrayOptions
};

class ParameterParser {
  public:
    /// One `key=value`, in the order of the command line. Relative paths are taken from the
    /// directory that is current now, since nbdkit leaves it later.
    Checked<Unit> take(std::string_view key, std::string_view value);
    /// After the last one.
    Checked<Parameters> complete() &&;

  private:
    Checked<Unit> take_member(std::string_view value);
    Checked<Unit> take_config(std::string_view value);
    Checked<Unit> take_node(std::string_view value);
    Checked<Unit> take_socket(std::string_view value);
    Checked<Unit> take_volume(std::string_view value);
    Checked<Unit> take_flag(std::string_view key, std::string_view value, bool& flag);
    Checked<Unit> take_intent(std::string_view value);
    Checked<Unit> take_intent_region(std::string_view value);
    Checked<Unit> take_seconds(std::string_view key, std::string_view value, std::uint32_t max,
                               std::string_view zero, std::uint32_t* seconds);
    Checked<Unit> once(std::string_view key);

    Parameters parameters_;
    std::vector<DiskIdentity> files_;  // of the members, in their order
    std::vector<std::string> given_;   // keys that may come once only
};

/// For `nbdkit braid --help`.
extern const char* const parameters_help;
/// Longest path of a unix socket that the kernel takes.
extern const std::size_t socket_path_size_max;

}  // namespace braid::plugin
