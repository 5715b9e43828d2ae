// SPDX-License-Identifier: BSD-3-Clause
// A file for one test.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace braid::test {

/// A file that is gone with its object.
class TemporaryFile {
  public:
    TemporaryFile(const std::string& folder, std::uint64_t size) : path_(folder + "/braid.XXXXXX") {
        const int fd = mkstemp(path_.data());
        EXPECT_GE(fd, 0) << path_;
        EXPECT_EQ(ftruncate(fd, static_cast<off_t>(size)), 0);
        close(fd);
    }
    ~TemporaryFile() { unlink(path_.c_str()); }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    const std::string& path() const { return path_; }

  private:
    std::string path_;
};

/// The folder that the test runs in.
inline std::string here() { return std::filesystem::current_path().string(); }

}  // namespace braid::test
