// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a request to the control socket: a command or an HTTP error, never an abort. The
// input is "METHOD PATH[?KEY=VALUE[&...]]", an end of line, and the body.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "control/control_parse.h"
#include "control/status_json.h"
#include "parity/require.h"

using namespace braid;
using namespace braid::control;

namespace {

/// Takes what comes before `end` off the front of `rest`.
std::string_view take(std::string_view& rest, char end) {
    const std::size_t at = rest.find(end);
    const std::string_view part = rest.substr(0, at);
    rest = at == rest.npos ? std::string_view{} : rest.substr(at + 1);
    return part;
}

ControlRequest request_of(std::string_view input) {
    ControlRequest request;
    std::string_view line = take(input, '\n');
    request.method = take(line, ' ');
    request.path = take(line, '?');
    while (!line.empty()) {
        std::string_view pair = take(line, '&');
        const std::string key(take(pair, '='));
        request.query.emplace_back(key, std::string(pair));
    }
    request.body = input;
    return request;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto command = parse_control(request_of({reinterpret_cast<const char*>(data), size}));
    if (command) return 0;
    BRAID_REQUIRE(command.error().status >= 400 && command.error().status < 500);
    BRAID_REQUIRE(!command.error().text.empty() && command.error().text.size() < 1000);
    (void)dump({{"error", command.error().text}});
    return 0;
}

std::vector<std::string> fuzz_samples() {
    return {
        "GET /v1/status\n",
        "GET /v1/events?after=12&wait=30\n",
        "POST /v1/members\n{\"path\": \"/dev/sdx\", \"force\": true}",
        "POST /v1/members/2/replace\n{\"path\": \"/dev/sdx\"}",
        "POST /v1/members//dev/sdb/fail\n{}",
        "DELETE /v1/scrub\n",
        "POST /v1/scrub\n{\"repair\": true}",
        "GET /v1/intent\n",
        "POST /v1/array\n{\"level\": 6, \"layout\": \"ls\", \"strip_size\": 65536, \"name\": \"kit\", "
        "\"volumes\": [{\"name\": \"a\", \"size\": 4096}], \"spares\": [\"node1:/dev/sdx\"], "
        "\"force\": true, \"dry_run\": false}",
        "POST /v1/intent\n{\"on\": false, \"region\": 16777216}",
        "GET /v1/bad?first=100&count=1000\n",
    };
}
