// SPDX-License-Identifier: BSD-3-Clause
// The client of torture_test.py: writes to a volume over several connections, kills the server in
// the middle, and knows afterwards which bytes each sector may hold.
//
// Every sector of 512 bytes that is written names the write it comes from, in all of its bytes. For
// each sector a list of candidates is kept: the writes that may be the last one. A write is on it
// from the moment when it is sent; it leaves when another one is acknowledged that was sent after
// the first had been acknowledged. What was acknowledged must survive a killed server, for the
// kernel has it; what was on its way may be there or not. A row of 4096 bytes may also be bad:
// reading it is an error.
//
//   torture_writer init   --state FILE --size BYTES --strip BYTES --data MEMBERS
//   torture_writer run    --state FILE --socket PATH --seed N --kill PID --after REQUESTS ...
//   torture_writer verify --state FILE --socket PATH --bad FILE ...
#include <fmt/format.h>
#include <libnbd.h>

#include <memory>
#include <string>
#include <string_view>

#include "tests/system/torture_modes.h"

namespace braid::torture {

std::unique_ptr<nbd_handle, void (*)(nbd_handle*)> connected(const std::string& socket) {
    std::unique_ptr<nbd_handle, void (*)(nbd_handle*)> handle(nbd_create(), nbd_close);
    if (!handle || nbd_connect_unix(handle.get(), socket.c_str()) != 0) {
        fail(fmt::format("no connection to {}: {}", socket, nbd_get_error()));
    }
    return handle;
}

namespace {

int init(const Options& options) {
    Oracle oracle;
    oracle.size = options.number("size");
    oracle.strip = options.number("strip");
    oracle.data = options.number("data");
    if (oracle.size == 0 || oracle.size % oracle.stripe_size() != 0) fail("--size is odd");
    prepare(oracle);
    save(oracle, options.text("state"));
    return 0;
}

}  // namespace
}  // namespace braid::torture

int main(int count, char** words) {
    using namespace braid::torture;
    const std::string_view mode = count > 1 ? words[1] : "";
    const Options options(count, words);
    if (mode == "init") return init(options);
    if (mode == "run") return run(options);
    if (mode == "verify") return verify(options);
    fail("say init, run or verify");
}
