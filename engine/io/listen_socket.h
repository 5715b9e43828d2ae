// SPDX-License-Identifier: BSD-3-Clause
// Sockets that listen. A unix socket has a file: that of a process that is gone is replaced, and
// ours goes when nobody listens any more.
#pragma once

#include <sys/types.h>

#include <string>

#include "engine/base/result.h"
#include "engine/base/unique_fd.h"
#include "engine/io/net.h"
#include "engine/io/socket_address.h"

namespace braid {

/// The file of a unix socket of this process; nothing for others.
class SocketFile {
  public:
    SocketFile() = default;
    explicit SocketFile(std::string path);
    SocketFile(SocketFile&& other) noexcept;
    SocketFile& operator=(SocketFile other) noexcept;
    ~SocketFile() { remove(); }
    /// Unless another process has replaced it by its own. Again: nothing.
    void remove();

  private:
    std::string path_;
    dev_t device_{};
    ino_t inode_{};
};

struct ListenSocket {
    UniqueFd fd;
    SocketFile file;
};

/// Whether a process forks after it has begun to listen, as nbdkit does that becomes a daemon. The
/// kernel goes on to name the parent then, which is gone, and so does not say who is alive.
enum class Forks : bool { no, yes };

/// Makes way for a unix socket: takes away the file of one at which nobody listens. Refused: anything
/// else is there. One that is alive is asked for its name, and has then had a comer who says nothing.
/// @param forks  what those do that listen at this address
Checked<Unit> clear_path(const NetAddress& address, Forks forks);

/// Listens at `place`; `path` is that of a unix socket, or empty. os_error says why not.
Result<ListenSocket> listen_at(const SocketAddress& place, const std::string& path);
/// What people are told of that.
Refusal cannot_listen(const NetAddress& address, int os_error);

}  // namespace braid
