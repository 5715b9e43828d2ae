// SPDX-License-Identifier: BSD-3-Clause
#include "plugin/control_server.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <microhttpd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>

#include "control/status_json.h"
#include "engine/base/os_error.h"
#include "engine/base/path.h"
#include "engine/deciding/member_names.h"
#include "engine/io/identify.h"
#include "engine/io/socket_address.h"
#include "plugin/errors.h"

namespace braid::plugin {
namespace {

constexpr auto poll_slice = std::chrono::milliseconds{200};
constexpr auto start_wait_max = std::chrono::seconds{2};

/// What is wrong with the parameter.
Refusal of_parameter(const Refusal& refused) {
    return {fmt::format("socket: {}", refused.text), refused.code};
}

Task<Checked<Unit>> stop_scrub_task(Array* array) { co_return array->stop_scrub(); }
Task<ArrayStatus> status_task(Array* array) { co_return array->status(); }

std::string error_body(const std::string& text) { return dump({{"error", text}}); }
const std::string done_body = "{}\n";

// --- Between libmicrohttpd and a ControlRequest ------------------------------------------------

struct Exchange {
    ControlRequest request;
    bool too_long{false};
};

MHD_Result add_query(void* list, MHD_ValueKind, const char* key, const char* value) {
    static_cast<std::vector<std::pair<std::string, std::string>>*>(list)->emplace_back(
        key, value != nullptr ? value : "");
    return MHD_YES;
}

MHD_Result send(MHD_Connection* connection, const ControlAnswer& answer) {
    MHD_Response* response = MHD_create_response_from_buffer(
        answer.body.size(), const_cast<char*>(answer.body.data()),  // NOLINT: copied at once
        MHD_RESPMEM_MUST_COPY);
    if (response == nullptr) return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    if (!answer.allow.empty()) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, answer.allow.c_str());
    }
    if (answer.closes) MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    const MHD_Result queued = MHD_queue_response(connection, answer.status, response);
    MHD_destroy_response(response);
    return queued;
}

bool is_too_many(MHD_Connection* connection) {
    const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != nullptr && info->socket_context != nullptr;
}

/// Called once with the headers, then for each piece of the body, then without one at its end.
MHD_Result on_request(void* server, MHD_Connection* connection, const char* url, const char* method,
                      const char*, const char* body, std::size_t* body_size, void** state) {
    if (*state == nullptr && is_too_many(connection)) {
        return send(
            connection,
            {.status = 503,
             .body = error_body(fmt::format("{} connections are open already, and more are not "
                                            "served; try again when one of them has ended",
                                            control_connections_max)),
             .closes = true});
    }
    if (*state == nullptr) {
        auto fresh = std::make_unique<Exchange>();
        fresh->request.method = method;
        fresh->request.path = url;
        MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, add_query,
                                  &fresh->request.query);
        *state = fresh.release();
        return MHD_YES;
    }
    auto& exchange = *static_cast<Exchange*>(*state);
    if (*body_size != 0) {
        std::string& so_far = exchange.request.body;
        exchange.too_long |= so_far.size() + *body_size > control_body_size_max;
        if (!exchange.too_long) so_far.append(body, *body_size);
        *body_size = 0;
        return MHD_YES;
    }
    if (exchange.too_long) {
        return send(connection, {.status = 413,
                                 .body = error_body(fmt::format("a body has at most {} bytes",
                                                                control_body_size_max))});
    }
    return send(connection, static_cast<ControlServer*>(server)->answer(exchange.request));
}

/// A connection has our context if it is one too many.
void on_connection(void* server, MHD_Connection*, void** context,
                   MHD_ConnectionNotificationCode code) {
    static char too_many;
    auto* const control = static_cast<ControlServer*>(server);
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = control->enter() ? nullptr : &too_many;
    } else if (*context == nullptr) {
        control->leave();
    }
}

void on_end(void*, MHD_Connection*, void** state, MHD_RequestTerminationCode) {
    delete static_cast<Exchange*>(*state);
    *state = nullptr;
}

}  // namespace

Checked<Unit> ControlServer::bind(const std::string& path) {
    const NetAddress address{AddressKind::unix_socket, path, 0};
    const auto place = socket_address_of(address);
    if (!place) return of_parameter(place.error());
    const auto cleared = clear_path(address, Forks::yes);
    if (!cleared) return of_parameter(cleared.error());
    auto listener = listen_at(*place, path);
    if (!listener) return of_parameter(cannot_listen(address, listener.error().os_error));
    listener_ = std::move(listener).value();
    return Unit{};
}

bool ControlServer::enter() {
    if (++connections_ <= control_connections_max) return true;
    --connections_;
    return false;
}

void ControlServer::serve(Bridge& bridge, UringLoop& loop) {
    const std::lock_guard lock(serving_);
    bridge_ = &bridge;
    loop_ = &loop;
    serves_ = true;
    serving_changed_.notify_all();
}

void ControlServer::refuse_orders() {
    const std::lock_guard lock(serving_);
    stopping_ = true;
    serving_changed_.notify_all();
}

/// False: it ends before.
bool ControlServer::wait_until_it_serves() {
    std::unique_lock lock(serving_);
    serving_changed_.wait(lock, [this] { return serves_ || stopping_; });
    return serves_;
}

Checked<Unit> ControlServer::start(EventHub& events, StartDesk* desk) {
    events_ = &events;
    desk_ = desk;
    daemon_ = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION |
                                   MHD_USE_POLL | MHD_USE_ITC,
                               0, nullptr, nullptr, on_request, this, MHD_OPTION_LISTEN_SOCKET,
                               listener_.fd.get(), MHD_OPTION_CONNECTION_LIMIT, control_threads_max,
                               MHD_OPTION_CONNECTION_TIMEOUT, control_idle_seconds_max,
                               MHD_OPTION_NOTIFY_COMPLETED, on_end, nullptr,
                               MHD_OPTION_NOTIFY_CONNECTION, on_connection, this, MHD_OPTION_END);
    if (daemon_ == nullptr) {
        return Refusal{
            fmt::format("socket: the HTTP server does not start: {}", os_error_text(errno))};
    }
    [[maybe_unused]] const int closed_by_the_daemon = listener_.fd.release();
    return Unit{};
}

void ControlServer::stop() {
    ended_ = true;
    refuse_orders();
    listener_.file.remove();  // nobody is to find a socket at which nobody listens
    if (daemon_ != nullptr) {
        MHD_stop_daemon(daemon_);  // closes the listening socket, too
        daemon_ = nullptr;
    }
    listener_ = {};
}

namespace {

bool is_question(const ControlCommand& command) {
    return std::holds_alternative<StatusQuery>(command) ||
           std::holds_alternative<VolumesQuery>(command) ||
           std::holds_alternative<ScrubQuery>(command) ||
           std::holds_alternative<EventsQuery>(command) ||
           std::holds_alternative<BadQuery>(command) ||
           std::holds_alternative<IntentQuery>(command);
}

}  // namespace

ControlAnswer ControlServer::answer(const ControlRequest& request) {
    const auto run_it = [&]() -> Result<std::string, HttpError> {
        BRAID_TRY(const ControlCommand command, parse_control(request));
        if (ended_ || (stopping_ && !is_question(command))) {
            return HttpError{503, "the array is being stopped", ""};
        }
        return serves_ ? run(command) : run_waiting(command);
    };
    auto result = run_it();
    if (result) return {.body = std::move(result).value()};
    const HttpError& error = result.error();
    return {.status = error.status, .body = error_body(error.text), .allow = error.allow};
}

ArrayStatus ControlServer::status() {
    return bridge_->run_on_loop([](Array& array) { return status_task(&array); });
}

namespace {

/// A path may lead to a member's disk in some other way than the array knows.
MemberName name_of(const std::string& name) {
    DiskIdentity identity;
    if (name.starts_with('/')) {
        if (const auto found = identify_path(name)) identity = *found;
    }
    return {name, identity};
}

std::uint64_t last_event(const ArrayStatus& status) {
    return status.events.empty() ? 0 : status.events.back().sequence;
}

unsigned status_of(RefusalCode code) {
    switch (code) {
        case RefusalCode::not_found:
            return 404;
        case RefusalCode::invalid:
            return 400;
        case RefusalCode::stopping:
            return 503;
        case RefusalCode::conflict:
        case RefusalCode::ambiguous:
        case RefusalCode::busy:
        case RefusalCode::io:
            return 409;
    }
    return 500;
}

HttpError error_of(const Refusal& refusal) { return {status_of(refusal.code), refusal.text, ""}; }

Result<std::string, HttpError> answer_of(const Checked<Unit>& result) {
    if (result) return done_body;
    return error_of(result.error());
}

}  // namespace

/// While there is no array.
Result<std::string, HttpError> ControlServer::run_waiting(const ControlCommand& command) {
    if (const auto* query = std::get_if<EventsQuery>(&command)) return run_events(*query);
    const auto waits =
        desk_ != nullptr ? desk_->start_status() : Checked<cluster::StartStatus>(Refusal{""});
    if (!waits) {  // the start is over, or as good as that
        if (wait_until_it_serves()) return run(command);
        return HttpError{503, "the server is being stopped", ""};
    }
    if (std::holds_alternative<StatusQuery>(command)) return dump(json_of(*waits));
    if (const auto* create = std::get_if<CreateArray>(&command)) {
        auto made = desk_->create(create->order);
        if (!made) return error_of(made.error());
        return dump(*made);
    }
    if (const auto* without = std::get_if<StartWithout>(&command)) {
        return answer_of(desk_->start_without(without->nodes));
    }
    return HttpError{409, fmt::format("there is no array here yet: {}", waits->why), ""};
}

Result<std::string, HttpError> ControlServer::run(const ControlCommand& command) {
    if (std::holds_alternative<StatusQuery>(command)) return dump(json_of(status()));
    if (std::holds_alternative<CreateArray>(command)) {
        return HttpError{409,
                         fmt::format("this server serves array {} already; another one takes "
                                     "another server",
                                     status().configuration.array.text()),
                         ""};
    }
    if (std::holds_alternative<StartWithout>(command)) {
        return HttpError{409, "the array is served: its start waits for nobody", ""};
    }
    if (std::holds_alternative<VolumesQuery>(command)) {
        return dump({{"volumes", volumes_json(status())}});
    }
    if (std::holds_alternative<ScrubQuery>(command)) return dump(scrub_json(status()));
    if (const auto* query = std::get_if<EventsQuery>(&command)) return run_events(*query);
    if (const auto* query = std::get_if<BadQuery>(&command)) {
        return dump(bad_json(status().configuration, query->first, query->count));
    }
    if (std::holds_alternative<IntentQuery>(command)) return dump(intent_json(status()));
    if (const auto* intent = std::get_if<ChangeIntent>(&command)) {
        return answer_of(bridge_->run_on_loop(
            [&](Array& array) { return array.change_intent(intent->change); }));
    }
    if (const auto* add = std::get_if<AddMember>(&command)) return run_add(*add);
    if (const auto* replace = std::get_if<ReplaceMember>(&command)) return run_replace(*replace);
    if (const auto* fail = std::get_if<FailMember>(&command)) {
        const MemberName name = name_of(fail->name);
        return answer_of(bridge_->run_on_loop(
            [&](Array& array) { return array.fail_member(name, Force{fail->force}); }));
    }
    if (const auto* remove = std::get_if<RemoveMember>(&command)) {
        const MemberName name = name_of(remove->name);
        return answer_of(
            bridge_->run_on_loop([&](Array& array) { return array.remove_member(name); }));
    }
    if (const auto* scrub = std::get_if<StartScrub>(&command)) {
        return answer_of(bridge_->run_on_loop(
            [&](Array& array) { return array.start_scrub(ScrubMode{scrub->repair}); }));
    }
    if (const auto* reserve = std::get_if<ReserveVolume>(&command)) {
        return answer_of(
            bridge_->run_on_loop([&](Array& array) { return array.reserve(reserve->name); }));
    }
    if (const auto* release = std::get_if<ReleaseVolume>(&command)) {
        return answer_of(
            bridge_->run_on_loop([&](Array& array) { return array.release(release->name); }));
    }
    if (const auto* order = std::get_if<OrderNode>(&command)) {
        return answer_of(bridge_->run_on_loop(
            [&](Array& array) { return array.order_node(order->what, order->node); }));
    }
    return answer_of(bridge_->run_on_loop([](Array& array) { return stop_scrub_task(&array); }));
}

/// The background starts what was ordered a moment later. Who asks for the status after the answer
/// is to see it run.
void ControlServer::wait_for_start(std::uint64_t before) {
    const auto until = std::chrono::steady_clock::now() + start_wait_max;
    while (!stopping_ && std::chrono::steady_clock::now() < until) {
        for (const ArrayEvent& event : events_->wait_after(before, poll_slice)) {
            before = event.sequence;
            if (event.kind.ends_with("_started")) return;
        }
    }
}

/// For a member that was added or put into a place, if there is something to rebuild.
void ControlServer::wait_for_rebuild(std::uint64_t before) {
    const ArrayStatus now = status();
    const auto has = [&now](MemberState state) {
        return std::ranges::any_of(
            now.members, [state](const auto& member) { return member.record.state == state; });
    };
    const bool takes_over = has(MemberState::spare) && now.health == Health::degraded;
    if (now.walks.empty() && (has(MemberState::rebuilding) || takes_over)) wait_for_start(before);
}

Result<std::string, HttpError> ControlServer::run_events(const EventsQuery& query) {
    // In slices, so that stop() need not wait for it.
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(query.wait_seconds);
    for (;;) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            until - std::chrono::steady_clock::now());
        const auto slice = std::clamp(left, std::chrono::milliseconds{0}, poll_slice);
        const auto found = events_->wait_after(query.after, slice);
        if (!found.empty() || left.count() <= 0 || ended_) {
            return dump({{"events", json_of(found)}});
        }
    }
}

/// A file that is a member already would be refused as locked by "another process".
Result<MemberFile, HttpError> ControlServer::open_new_member(const std::string& path) {
    const auto real = real_path(path);
    if (!real) {
        return HttpError{409, fmt::format("{}: {}", path, os_error_text(real.error().os_error)),
                         ""};
    }
    const auto identity = identify_path(*real);
    const ArrayStatus now = status();
    for (const MemberStatus& member : now.members) {
        const MemberRecord& record = member.record;
        // One that failed is being closed: the lock is waited for.
        if (!member.open || record.state == MemberState::faulty || !identity) continue;
        if (!member.identity.overlaps(*identity)) continue;
        return HttpError{409, member_already(path, record), ""};
    }
    auto file = open_member_file(*real, {});
    if (!file) return error_of(file.error());
    return std::move(file).value();
}

Result<std::string, HttpError> ControlServer::run_add(const AddMember& command) {
    BRAID_TRY(MemberFile file, open_new_member(command.path));
    const std::uint64_t before = last_event(status());
    const auto result = bridge_->run_on_loop([&](Array& array) {
        return array.add_member(std::make_unique<UringDisk>(*loop_, std::move(file)),
                                Force{command.force});
    });
    if (result) wait_for_rebuild(before);
    return answer_of(result);
}

Result<std::string, HttpError> ControlServer::run_replace(const ReplaceMember& command) {
    const MemberName name = name_of(command.name);
    BRAID_TRY(MemberFile file, open_new_member(command.path));
    const std::uint64_t before = last_event(status());
    const auto result = bridge_->run_on_loop([&](Array& array) {
        return array.replace_member(name, std::make_unique<UringDisk>(*loop_, std::move(file)),
                                    Force{command.force});
    });
    if (result) wait_for_rebuild(before);
    return answer_of(result);
}

}  // namespace braid::plugin
