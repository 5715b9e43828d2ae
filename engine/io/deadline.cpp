// SPDX-License-Identifier: BSD-3-Clause
#include "engine/io/deadline.h"

#include <cerrno>

#include "engine/io/clock.h"

namespace braid {
namespace {

struct Deadline {
    RingOp& op;
    Timer timer;
    bool over{false};    // the operation is
    bool struck{false};  // it was taken back
};

Task<void> keep(Deadline* deadline) {
    if (!deadline->over) co_await deadline->timer;
    if (deadline->over || !deadline->op.under_way()) co_return;
    deadline->struck = true;
    deadline->op.loop.cancel(deadline->op);
}

}  // namespace

Task<int> run_until(RingOp* op, Nanos until) {
    Deadline deadline{*op, Timer(op->loop, until)};
    TaskGroup keeper(op->loop.ready());
    keeper.spawn(keep(&deadline));
    const int result = co_await *op;
    deadline.over = true;
    deadline.timer.cancel();
    co_await keeper.join();
    co_return deadline.struck&& result < 0 ? -ETIMEDOUT : result;
}

}  // namespace braid
