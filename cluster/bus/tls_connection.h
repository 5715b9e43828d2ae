// SPDX-License-Identifier: BSD-3-Clause
// Connections between nodes that have the cluster's key: TLS over any Connection. What they carry
// nobody else can read, and nobody can change it without its being seen: a receive fails with
// EBADMSG then.
//
// Not shown to be true is the end: somebody between the two can break off a connection at any
// place, with TLS as without. What was not acknowledged by a message counts as lost.
#pragma once

#include <memory>

#include "cluster/config/key_file.h"
#include "engine/base/result.h"
#include "engine/io/net.h"
#include "engine/io/task.h"

namespace braid::cluster {

/// What has connected becomes a connection with the key. Refused: the other side has another key,
/// does not talk TLS as we do, goes away. There is no bound in time here: whoever sets one shuts
/// `inner` when it is over, which lives until this is.
Task<Checked<std::unique_ptr<Connection>>> tls_connect(std::unique_ptr<Connection> inner,
                                                       ClusterKey key);
/// The same for what was accepted.
Task<Checked<std::unique_ptr<Connection>>> tls_accept(std::unique_ptr<Connection> inner,
                                                      ClusterKey key);

}  // namespace braid::cluster
