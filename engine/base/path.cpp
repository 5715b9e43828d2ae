// SPDX-License-Identifier: BSD-3-Clause
#include "engine/base/path.h"

#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <memory>

namespace braid {
namespace {

struct Free {
    void operator()(char* text) const { std::free(text); }
};

}  // namespace

Result<std::string> real_path(const std::string& path) {
    const std::unique_ptr<char, Free> found(realpath(path.c_str(), nullptr));
    if (!found) return Error{Errc::io, "path", errno};
    return std::string(found.get());
}

Result<std::string> real_path_of_new(const std::string& path) {
    const auto slash = path.rfind('/');
    const std::string name = slash == path.npos ? path : path.substr(slash + 1);
    if (name.empty() || name == "." || name == "..") return real_path(path);
    const std::string folder = slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
    const Result<std::string> real = real_path(folder);
    if (!real) return real.error();
    const std::string& parent = *real;
    return parent + (parent.ends_with('/') ? "" : "/") + name;
}

std::string rooted_path(const std::string& path) {
    if (path.starts_with('/')) return path;
    const std::unique_ptr<char, Free> here(getcwd(nullptr, 0));
    return here ? std::string(here.get()) + "/" + path : path;
}

}  // namespace braid
