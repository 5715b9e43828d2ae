// SPDX-License-Identifier: BSD-3-Clause
// What torture_writer does besides init, and what its modes share: the command line, connections.
#pragma once

#include <fmt/format.h>
#include <libnbd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "tests/system/torture_oracle.h"

namespace braid::torture {

class Options {
  public:
    Options(int count, char** words) {
        for (int i = 2; i < count; i += 2) {
            if (i + 1 == count || std::strncmp(words[i], "--", 2) != 0) {
                fail(fmt::format("{} makes no sense", words[i]));
            }
            values_[words[i] + 2] = words[i + 1];
        }
    }
    std::string text(const char* name) const {
        const auto found = values_.find(name);
        if (found == values_.end()) fail(fmt::format("--{} is missing", name));
        return found->second;
    }
    std::uint64_t number(const char* name, std::optional<std::uint64_t> otherwise = {}) const {
        if (otherwise && !values_.contains(name)) return *otherwise;
        return std::strtoull(text(name).c_str(), nullptr, 10);
    }

  private:
    std::map<std::string, std::string> values_;
};

std::unique_ptr<nbd_handle, void (*)(nbd_handle*)> connected(const std::string& socket);

/// Writes, and kills the server. Each returns the exit code.
int run(const Options& options);
/// Compares the volume with what its sectors may hold.
int verify(const Options& options);

}  // namespace braid::torture
