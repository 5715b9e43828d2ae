// SPDX-License-Identifier: BSD-3-Clause
#include "cli/control_client.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "cli/fields.h"
#include "cli/text.h"
#include "engine/base/limits.h"
#include "engine/base/os_error.h"
#include "engine/io/uring_disk.h"

namespace braid::cli {
namespace {

std::size_t append_answer(char* bytes, std::size_t, std::size_t size, void* answer) {
    auto& text = *static_cast<std::string*>(answer);
    if (text.size() + size > control_answer_size_max) return 0;  // makes curl give up
    text.append(bytes, size);
    return size;
}

}  // namespace

struct ControlClient::Link {
    CURL* handle{curl_easy_init()};
    ~Link() { curl_easy_cleanup(handle); }
};

ControlClient::ControlClient(std::string socket_path)
    : path_(std::move(socket_path)), link_(std::make_unique<Link>()) {}
ControlClient::~ControlClient() = default;

std::string ControlClient::escape(std::string_view text) {
    std::string escaped;
    for (const char one : text) {
        const bool plain = (one >= '0' && one <= '9') || (one >= 'a' && one <= 'z') ||
                           (one >= 'A' && one <= 'Z') || one == '-' || one == '_' || one == '.';
        escaped +=
            plain ? std::string(1, one) : fmt::format("%{:02X}", static_cast<unsigned char>(one));
    }
    return escaped;
}

/// Why the socket cannot be reached: curl tells it too shortly.
Refusal ControlClient::no_connection() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path_.size() >= sizeof address.sun_path) {
        return {fmt::format("{}: too long for a unix socket, which has at most {} bytes", path_,
                            sizeof address.sun_path - 1)};
    }
    std::memcpy(address.sun_path, path_.data(), path_.size());
    struct stat status {};
    if (stat(path_.c_str(), &status) != 0 && errno == ENOENT) {
        return {
            fmt::format("no server at {}: there is no such socket. Is the array served, with "
                        "the parameter socket={}? (`nbdkit braid socket={} MEMBER...`)",
                        path_, path_, path_)};
    }
    const UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
        return {fmt::format("the server at {} hung up without an answer", path_)};
    }
    switch (errno) {
        case EACCES:
        case EPERM:
            return {
                fmt::format("{}: permission denied; only the user who started the server, "
                            "and root, may command it",
                            path_)};
        case ECONNREFUSED:
            return {S_ISSOCK(status.st_mode)
                        ? fmt::format("no server at {}: the socket is there, but nobody listens; "
                                      "the server ended without a clean stop",
                                      path_)
                        : fmt::format("{} is not a socket; --socket wants the path that the server "
                                      "was given as socket=PATH",
                                      path_)};
        default:
            return {fmt::format("{}: {}", path_, os_error_text(errno))};
    }
}

Checked<nlohmann::json> ControlClient::ask(const std::string& resource, long timeout_seconds) {
    CURL* handle = link_->handle;
    std::string answer;
    const std::string url = "http://braid" + resource;
    curl_easy_setopt(handle, CURLOPT_UNIX_SOCKET_PATH, path_.c_str());
    curl_easy_setopt(handle, CURLOPT_URL, url.c_str());
    curl_easy_setopt(handle, CURLOPT_PROXY, "");  // whatever http_proxy says
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_TIMEOUT, timeout_seconds);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, append_answer);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, &answer);
    const CURLcode result = curl_easy_perform(handle);
    if (result == CURLE_OPERATION_TIMEDOUT) {
        return Refusal{fmt::format("the server at {} did not answer within {} seconds", path_,
                                   timeout_seconds)};
    }
    if (result == CURLE_COULDNT_CONNECT || result == CURLE_COULDNT_RESOLVE_HOST ||
        result == CURLE_GOT_NOTHING || result == CURLE_RECV_ERROR || result == CURLE_SEND_ERROR) {
        return no_connection();
    }
    if (result != CURLE_OK) {
        return Refusal{fmt::format("{}: {}", path_, curl_easy_strerror(result))};
    }
    long status = 0;
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    auto value = nlohmann::json::parse(answer, nullptr, false);
    if (value.is_discarded() || !value.is_object()) {
        return Refusal{
            fmt::format("what answers at {} is no braid server (HTTP {})", path_, status)};
    }
    if (status == 200) return value;
    const auto error = value.find("error");
    return Refusal{error != value.end() && error->is_string()
                       ? error->get<std::string>()
                       : fmt::format("the server at {} answered with HTTP {}", path_, status)};
}

Checked<nlohmann::json> ControlClient::get(const std::string& resource, long timeout_seconds) {
    curl_easy_reset(link_->handle);
    return ask(resource, timeout_seconds);
}

Checked<nlohmann::json> ControlClient::post(const std::string& resource, const nlohmann::json& body,
                                            long timeout_seconds) {
    curl_easy_reset(link_->handle);
    const std::string text = one_line(body);
    curl_slist* headers = curl_slist_append(nullptr, "Content-Type: application/json");
    curl_easy_setopt(link_->handle, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(link_->handle, CURLOPT_POSTFIELDSIZE, static_cast<long>(text.size()));
    curl_easy_setopt(link_->handle, CURLOPT_COPYPOSTFIELDS, text.c_str());
    auto answer = ask(resource, timeout_seconds);
    curl_slist_free_all(headers);
    return answer;
}

Checked<nlohmann::json> ControlClient::remove(const std::string& resource) {
    curl_easy_reset(link_->handle);
    curl_easy_setopt(link_->handle, CURLOPT_CUSTOMREQUEST, "DELETE");
    return ask(resource, command_timeout_seconds);
}

Checked<nlohmann::json> get_any_status(ControlClient& client) {
    BRAID_TRY(nlohmann::json status, client.get("/v1/status"));
    for (const char* name : {"array", "members", "tasks", "volumes", "events"}) {
        if (!status.contains(name)) {
            return Refusal{fmt::format(
                "the server's status has no \"{}\": is it of another version of braid?", name)};
        }
    }
    return status;
}

Checked<nlohmann::json> get_status(ControlClient& client) {
    BRAID_TRY(nlohmann::json status, get_any_status(client));
    if (const nlohmann::json* start = object_in(status, "start")) {
        return Refusal{
            fmt::format("there is no array here yet: {}", harmless(text_in(*start, "why")))};
    }
    return status;
}

}  // namespace braid::cli
