// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/wire/heartbeat.h"

#include <fmt/format.h>

#include <cstring>
#include <string>

#include "cluster/wire/message_body.h"
#include "engine/layout/register.h"
#include "parity/require.h"

namespace braid::cluster {
namespace {

Refusal refused_heartbeat(const std::string& why) {
    return refused_message(MessageType::heartbeat, why);
}

Checked<Unit> check_heartbeat(const Heartbeat& heartbeat) {
    if (heartbeat.stamp == 0) return refused_heartbeat("it has no stamp");
    if (heartbeat.echo == 0 && heartbeat.held != 0)
        return refused_heartbeat("nothing was held for a while");
    if ((heartbeat.hears & 1) != 0) return refused_heartbeat("there is no node 0 to be heard");
    if ((heartbeat.flags & ~heartbeat_flags::known) != 0) {
        return refused_heartbeat(
            fmt::format("flags {:#x} are not known", heartbeat.flags & ~heartbeat_flags::known));
    }
    if (heartbeat.epoch > epoch_max || heartbeat.promise > epoch_max) {
        return refused_heartbeat("an epoch beyond any");
    }
    return Unit{};
}

}  // namespace

std::vector<std::byte> encode_heartbeat(const Heartbeat& heartbeat) {
    BRAID_REQUIRE(check_heartbeat(heartbeat).has_value());
    HeartbeatBytes raw{};
    raw.stamp = heartbeat.stamp;
    raw.echo = heartbeat.echo;
    raw.held = heartbeat.held;
    raw.hears = heartbeat.hears;
    raw.flags = heartbeat.flags;
    raw.epoch = heartbeat.epoch;
    raw.promise = heartbeat.promise;
    std::vector<std::byte> body(sizeof raw);
    std::memcpy(body.data(), &raw, sizeof raw);
    return body;
}

Checked<Heartbeat> decode_heartbeat(ByteView body) {
    if (body.size() != sizeof(HeartbeatBytes)) {
        return refused_heartbeat(fmt::format("its body has {} bytes", body.size()));
    }
    HeartbeatBytes raw;
    std::memcpy(&raw, body.data(), sizeof raw);
    Heartbeat heartbeat;
    heartbeat.stamp = raw.stamp;
    heartbeat.echo = raw.echo;
    heartbeat.held = raw.held;
    heartbeat.hears = raw.hears;
    heartbeat.flags = raw.flags;
    heartbeat.epoch = raw.epoch;
    heartbeat.promise = raw.promise;
    BRAID_CHECK(check_heartbeat(heartbeat));
    return heartbeat;
}

}  // namespace braid::cluster
