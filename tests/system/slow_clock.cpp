// SPDX-License-Identifier: BSD-3-Clause
// For LD_PRELOAD: a clock that goes wrong. CLOCK_BOOTTIME, by which leases are reckoned, goes at a fifth
// of its rate from the first time that the process asks for it. All other clocks are as they are.
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace {

constexpr long nanos_per_second = 1'000'000'000;

long boot_time() {
    timespec now{};
    syscall(SYS_clock_gettime, CLOCK_BOOTTIME, &now);
    return now.tv_sec * nanos_per_second + now.tv_nsec;
}

}  // namespace

extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
    if (clock != CLOCK_BOOTTIME) {
        return static_cast<int>(syscall(SYS_clock_gettime, clock, time));
    }
    static const long first = boot_time();
    const long slow = first + (boot_time() - first) / 5;
    time->tv_sec = slow / nanos_per_second;
    time->tv_nsec = slow % nanos_per_second;
    return 0;
}
