// SPDX-License-Identifier: BSD-3-Clause
#include "plugin/errors.h"

#include <cerrno>
#include <cstring>

namespace braid::plugin {

int to_errno(const Error& error, IoKind kind) {
    const bool writes = kind == IoKind::write || kind == IoKind::zero;
    switch (error.code) {
        case Errc::io:
        case Errc::failed:
        case Errc::unknown:
        case Errc::doubt:
        case Errc::busy:
        case Errc::again:
            return EIO;
        case Errc::fenced:
        case Errc::cancelled:
            return ESHUTDOWN;
        case Errc::readonly:
            return EROFS;
        case Errc::range:
            return writes ? ENOSPC : EINVAL;
        case Errc::unsupported:
            return EOPNOTSUPP;
        case Errc::invalid:
            return EINVAL;
        case Errc::full:
            return ENOSPC;
        case Errc::reserved:
            return EPERM;
    }
    return EIO;
}

}  // namespace braid::plugin
