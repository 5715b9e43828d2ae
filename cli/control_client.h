// SPDX-License-Identifier: BSD-3-Clause
// ControlClient: asks a running server over its control socket. What goes wrong comes back as a
// sentence that says what to do about it.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "engine/base/result.h"

namespace braid::cli {

class ControlClient {
  public:
    static constexpr long command_timeout_seconds =
        120;  // an order waits for what the array is doing
    explicit ControlClient(std::string socket_path);
    ~ControlClient();

    /// `resource` begins with "/v1/"; its parts must be escaped already.
    Checked<nlohmann::json> get(const std::string& resource, long timeout_seconds = 30);
    Checked<nlohmann::json> post(const std::string& resource, const nlohmann::json& body,
                                 long timeout_seconds = command_timeout_seconds);
    Checked<nlohmann::json> remove(const std::string& resource);

    /// `text` with %-escapes, as one part of a resource.
    static std::string escape(std::string_view text);

  private:
    struct Link;
    Checked<nlohmann::json> ask(const std::string& resource, long timeout_seconds);
    Refusal no_connection() const;

    std::string path_;
    std::unique_ptr<Link> link_;
};

/// The status with the names that the control socket gives it, or nothing if it has none of them:
/// what a server of another version says is not taken for ours.
/// Also of a node of a cluster that waits until there is an array: "array" is null then, and "start"
/// says for what it waits.
Checked<nlohmann::json> get_any_status(ControlClient& client);
/// The same of an array that is served; refused: there is none yet.
Checked<nlohmann::json> get_status(ControlClient& client);

}  // namespace braid::cli
