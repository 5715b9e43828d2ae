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
    explicit ControlClient(std::string socket_path);
    ~ControlClient();

    /// `resource` begins with "/v1/"; its parts must be escaped already.
    Checked<nlohmann::json> get(const std::string& resource, long timeout_seconds = 30);
    Checked<nlohmann::json> post(const std::string& resource, const nlohmann::json& body);
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
Checked<nlohmann::json> get_status(ControlClient& client);

}  // namespace braid::cli
