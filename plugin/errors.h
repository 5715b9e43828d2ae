// SPDX-License-Identifier: BSD-3-Clause
// What an Error is called in NBD. The only place where Errc becomes errno.
#pragma once

#include "engine/base/os_error.h"
#include "engine/base/result.h"
#include "engine/io_request.h"

namespace braid::plugin {

/// NBD knows EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP and ESHUTDOWN; nbdkit turns
/// EROFS into EPERM and what it does not know into EINVAL.
int to_errno(const Error& error, IoKind kind);

}  // namespace braid::plugin
