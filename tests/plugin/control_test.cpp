// SPDX-License-Identifier: BSD-3-Clause
// The control socket: what it understands, what it answers, and the HTTP around that.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "control/status_json.h"
#include "engine/base/limits.h"
#include "engine/base/os_error.h"
#include "engine/io/identify.h"
#include "plugin/control_server.h"
#include "tests/plugin/fake_array.h"

namespace {
int listen_fails_with = 0;
}
/// In the place of the C library's.
extern "C" int listen(int fd, int backlog) noexcept {
    if (listen_fails_with == 0) return static_cast<int>(syscall(SYS_listen, fd, backlog));
    errno = listen_fails_with;
    return -1;
}

namespace braid::plugin {
namespace {

using nlohmann::json;

Result<ControlCommand, HttpError> parse(const char* method, const char* path,
                                        std::string body = "") {
    return parse_control({method, path, {}, std::move(body)});
}
unsigned status_of(const char* method, const char* path, std::string body = "") {
    const auto parsed = parse(method, path, std::move(body));
    return parsed ? 200 : parsed.error().status;
}
template <class T>
T expect(const Result<ControlCommand, HttpError>& parsed) {
    EXPECT_TRUE(parsed.has_value()) << (parsed ? "" : parsed.error().text);
    EXPECT_TRUE(parsed && std::holds_alternative<T>(*parsed));
    return parsed && std::holds_alternative<T>(*parsed) ? std::get<T>(*parsed) : T{};
}

TEST(ControlParse, AnOrderToMakeAnArray) {
    const auto order = expect<CreateArray>(parse("POST", "/v1/array", R"({"level": 5,
        "layout": "ra", "strip_size": 131072, "name": "kit", "spares": ["node1:/dev/sdx"],
        "volumes": [{"name": "a", "size": 4096}], "data_offset": 8388608, "assume_clean": true,
        "force": true, "force_placement": true, "dry_run": true})"))
                           .order;
    EXPECT_EQ(order.options.level, Level::raid5);
    EXPECT_EQ(order.options.layout, Layout::right_asymmetric);
    EXPECT_EQ(order.options.strip_size, 131072u);
    ASSERT_EQ(order.options.volumes.size(), 1u);
    EXPECT_EQ(order.options.volumes[0].size, 4096u);
    EXPECT_EQ(order.spares, (std::vector<std::string>{"node1:/dev/sdx"}));
    EXPECT_TRUE(order.options.assume_clean && order.force && order.force_placement);
    // As it goes on to another node, it is the same.
    EXPECT_EQ(json_of(*create_order_of(json_of(order))), json_of(order));
    const auto least = expect<CreateArray>(parse("POST", "/v1/array", R"({"level": 6})")).order;
    EXPECT_FALSE(least.force || least.force_placement || least.dry_run);
    EXPECT_EQ(json_of(*create_order_of(json_of(least))), json_of(least));
    EXPECT_EQ(status_of("GET", "/v1/array"), 405u);
    for (const char* body :
         {"", "[]", "{", "{}", R"({"level": "6"})", R"({"level": 1})", R"({"level": 6, "x": 1})",
          R"({"level": 6, "force": 1})", R"({"level": 6, "spares": "x"})",
          R"({"level": 6, "spares": [1]})", R"({"level": 6, "volumes": [{"name": 1}]})",
          R"({"level": 6, "volumes": [{"name": "a", "size": 1, "x": 2}]})",
          R"({"level": 6, "layout": "round"})", R"({"level": 6, "strip_size": -1})"}) {
        EXPECT_EQ(status_of("POST", "/v1/array", body), 400u) << body;
    }
}

TEST(ControlParse, Commands) {
    expect<StatusQuery>(parse("GET", "/v1/status"));
    expect<VolumesQuery>(parse("GET", "/v1/volumes"));
    EXPECT_EQ(expect<ReserveVolume>(parse("POST", "/v1/volumes/a/reserve")).name, "a");
    EXPECT_EQ(expect<ReleaseVolume>(parse("POST", "/v1/volumes/a b/release", "{}")).name, "a b");
    const std::pair<const char*, NodeOrder> orders[]{{"kill", NodeOrder::kill},
                                                     {"resume", NodeOrder::resume},
                                                     {"stop", NodeOrder::stop},
                                                     {"add", NodeOrder::add},
                                                     {"remove", NodeOrder::remove}};
    for (const auto& [verb, what] : orders) {
        const std::string path = std::string("/v1/nodes/31/") + verb;
        const auto order = expect<OrderNode>(parse("POST", path.c_str(), "{}"));
        EXPECT_EQ(order.what, what) << verb;
        EXPECT_EQ(order.node, 31u);
    }
    EXPECT_EQ(status_of("GET", "/v1/nodes/3/kill"), 405u);
    EXPECT_EQ(status_of("GET", "/v1/nodes/3/stop"), 405u);
    EXPECT_EQ(status_of("POST", "/v1/nodes/3/hug"), 404u);
    EXPECT_EQ(status_of("POST", "/v1/nodes/3/kill", R"({"force": true})"), 400u);
    for (const char* node : {"", "0", "32", "-1", "3x", "99999999999"}) {
        EXPECT_EQ(status_of("POST", (std::string("/v1/nodes/") + node + "/kill").c_str()), 400u)
            << node;
    }
    EXPECT_EQ(expect<StartWithout>(parse("POST", "/v1/start", R"({"without": [3, 1]})")).nodes,
              (std::vector<std::uint32_t>{3, 1}));
    EXPECT_EQ(status_of("GET", "/v1/start"), 405u);
    for (const char* body :
         {"", "{}", "[3]", R"({"without": 3})", R"({"without": []})", R"({"without": [0]})",
          R"({"without": [32]})", R"({"without": ["3"]})", R"({"without": [3], "force": true})"}) {
        EXPECT_EQ(status_of("POST", "/v1/start", body), 400u) << body;
    }
    EXPECT_EQ(status_of("GET", "/v1/volumes/a/reserve"), 405u);
    EXPECT_EQ(status_of("POST", "/v1/volumes/a/steal"), 404u);
    EXPECT_EQ(status_of("POST", "/v1/volumes//reserve"), 400u);
    EXPECT_EQ(status_of("POST", "/v1/volumes/a/release", R"({"force": true})"), 400u);
    expect<ScrubQuery>(parse("GET", "/v1/scrub"));
    expect<StopScrub>(parse("DELETE", "/v1/scrub"));
    expect<IntentQuery>(parse("GET", "/v1/intent"));
    EXPECT_FALSE(expect<StartScrub>(parse("POST", "/v1/scrub")).repair);
    EXPECT_TRUE(expect<StartScrub>(parse("POST", "/v1/scrub", R"({"repair": true})")).repair);
    EXPECT_EQ(expect<FailMember>(parse("POST", "/v1/members/2/fail", "{}")).name, "2");
    EXPECT_EQ(expect<RemoveMember>(parse("POST", "/v1/members//dev/sdb/remove")).name, "/dev/sdb");
    const auto replace = expect<ReplaceMember>(
        parse("POST", "/v1/members/2/replace", R"({"path": "/dev/sdx", "force": true})"));
    EXPECT_EQ(replace.path, "/dev/sdx");
    EXPECT_TRUE(replace.force);
    EXPECT_EQ(expect<AddMember>(parse("POST", "/v1/members", R"({"path": "/x"})")).path, "/x");
    const auto events = expect<EventsQuery>(
        parse_control({"GET", "/v1/events", {{"after", "12"}, {"wait", "30"}}, ""}));
    EXPECT_EQ(events.after, 12u);
    EXPECT_EQ(events.wait_seconds, 30u);
}

TEST(ControlParse, WriteIntent) {
    const auto both =
        expect<ChangeIntent>(parse("POST", "/v1/intent", R"({"on": false, "region": 65536})"));
    EXPECT_EQ(both.change.on, false);
    EXPECT_EQ(both.change.region, 65536u);
    const auto one = expect<ChangeIntent>(parse("POST", "/v1/intent", R"({"on": true})"));
    EXPECT_EQ(one.change.on, true);
    EXPECT_FALSE(one.change.region) << "what was not said stays as it is";
    for (const char* body :
         {"", "{}", R"({"on": 1})", R"({"on": null})", R"({"region": "16M"})", R"({"region": -1})",
          R"({"region": 65536.5})", R"({"region": 65535})", R"({"region": 102400})",
          R"({"region": 1099511627777})", R"({"region": 18446744073709551616})",
          R"({"on": true, "regoin": 65536})"}) {
        EXPECT_EQ(status_of("POST", "/v1/intent", body), 400u) << body;
    }
    EXPECT_EQ(status_of("DELETE", "/v1/intent"), 405u);
    EXPECT_EQ(parse("PUT", "/v1/intent").error().allow, "GET, POST");
    EXPECT_EQ(status_of("GET", "/v1/intent", R"({"on": true})"), 400u);
    EXPECT_FALSE(parse_control({"GET", "/v1/intent", {{"on", "true"}}, ""}));
}

TEST(ControlParse, PathsNeedNotBeUtf8) {
    const auto add = expect<AddMember>(
        parse("POST", "/v1/members", R"({"path_escaped": "%2Ftmp%2F%ff%FE%25x"})"));
    EXPECT_EQ(add.path, "/tmp/\xff\xfe%x");
    const auto plain = expect<AddMember>(parse("POST", "/v1/members", R"({"path": "/tmp/%ff"})"));
    EXPECT_EQ(plain.path, "/tmp/%ff");
    for (const char* body : {R"({"path_escaped": "/tmp/%"})", R"({"path_escaped": "/tmp/%f"})",
                             R"({"path_escaped": "/tmp/%fg"})", R"({"path_escaped": "/tmp/%-1"})",
                             R"({"path_escaped": "/tmp/%00"})", R"({"path_escaped": "relative"})",
                             R"({"path_escaped": 1})", R"({"path": "/x", "path_escaped": "/x"})"}) {
        EXPECT_EQ(status_of("POST", "/v1/members", body), 400u) << body;
    }
}

TEST(ControlParse, BadRows) {
    const auto all = expect<BadQuery>(parse("GET", "/v1/bad"));
    EXPECT_EQ(all.first, 0u);
    EXPECT_EQ(all.count, bad_page_default);
    const auto page = expect<BadQuery>(
        parse_control({"GET", "/v1/bad", {{"first", "100"}, {"count", "10000"}}, ""}));
    EXPECT_EQ(page.first, 100u);
    EXPECT_EQ(page.count, 10'000u);
    for (const auto& [key, value] :
         {std::pair{"count", "0"}, std::pair{"count", "10001"}, std::pair{"first", "x"},
          std::pair{"first", "10000001"}, std::pair{"first", "-1"}, std::pair{"after", "1"}}) {
        EXPECT_FALSE(parse_control({"GET", "/v1/bad", {{key, value}}, ""})) << key << value;
    }
    EXPECT_EQ(status_of("POST", "/v1/bad", "{}"), 405u);
}

TEST(ControlParse, Refusals) {
    EXPECT_EQ(status_of("GET", "/"), 404u);
    EXPECT_EQ(status_of("GET", ""), 404u);
    EXPECT_EQ(status_of("GET", "/v1/status/"), 404u);
    EXPECT_EQ(status_of("POST", "/v1/members/2"), 404u);
    EXPECT_EQ(status_of("POST", "/v1/members/2/explode"), 404u);
    EXPECT_EQ(status_of("POST", "/v1/status"), 405u);
    EXPECT_EQ(status_of("PUT", "/v1/scrub"), 405u);
    EXPECT_EQ(status_of("GET", "/v1/members"), 405u);
    EXPECT_EQ(status_of("GET", "/v1/members/2/fail"), 405u);
    EXPECT_EQ(status_of("POST", "/v1/members//fail"), 400u);
    EXPECT_EQ(status_of("POST", "/v1/scrub", "{"), 400u);
    EXPECT_EQ(status_of("POST", "/v1/scrub", "[]"), 400u);
    EXPECT_EQ(status_of("POST", "/v1/scrub", R"({"repiar": true})"), 400u);
    EXPECT_EQ(status_of("POST", "/v1/scrub", R"({"repair": 1})"), 400u);
    EXPECT_EQ(status_of("POST", "/v1/members", "{}"), 400u);
    EXPECT_EQ(status_of("POST", "/v1/members", R"({"path": "relative"})"), 400u);
    EXPECT_EQ(status_of("POST", "/v1/members", R"({"path": ["/x"]})"), 400u);
    EXPECT_EQ(status_of("POST", "/v1/members/1/fail", R"({"force": 1})"), 400u);
    EXPECT_EQ(status_of("GET", "/v1/status", R"({"x": 1})"), 400u);
    EXPECT_EQ(status_of("POST", "/v1/scrub", std::string(control_body_size_max + 1, ' ')), 413u);
    EXPECT_EQ(status_of("POST", "/v1/scrub", std::string(60'000, '[')), 400u);
    for (const auto& [key, value] :
         {std::pair{"after", "x"}, std::pair{"after", "-1"}, std::pair{"wait", "61"},
          std::pair{"wait", ""}, std::pair{"until", "1"}}) {
        EXPECT_FALSE(parse_control({"GET", "/v1/events", {{key, value}}, ""})) << key << value;
    }
    EXPECT_FALSE(parse_control({"GET", "/v1/status", {{"verbose", ""}}, ""}));
    EXPECT_EQ(parse("PUT", "/v1/scrub").error().allow, "GET, POST, DELETE");
    const std::string text =
        parse("GET", ("/\x1b[2J" + std::string(5000, 'x')).c_str()).error().text;
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
    EXPECT_LT(text.size(), 400u);
}

TEST(StatusJson, HasWhatProgramsAskFor) {
    const FakeArray array;
    const json value = json::parse(dump(json_of(array.status())));
    EXPECT_EQ(value["health"], "degraded");
    EXPECT_EQ(value["array"]["level"], 6);
    EXPECT_EQ(value["array"]["layout"], "left-symmetric");
    ASSERT_EQ(value["members"].size(), 7u);
    EXPECT_EQ(value["members"][2]["role"], 2);
    EXPECT_EQ(value["members"][2]["path"], "/fake/2");
    EXPECT_EQ(value["members"][2]["state"], "faulty");
    EXPECT_EQ(value["members"][2]["notice"], "failed by fake");
    EXPECT_EQ(value["members"][6]["role"], nullptr);
    EXPECT_EQ(value["members"][6]["state"], "spare");
    ASSERT_EQ(value["tasks"].size(), 1u);
    EXPECT_EQ(value["tasks"][0]["kind"], "scrubbing");
    EXPECT_EQ(value["tasks"][0]["position"], 1000);
    EXPECT_EQ(value["tasks"][0]["rate"], 100);
    EXPECT_EQ(value["tasks"][0]["seconds_left"], 30);
    EXPECT_EQ(value["last_scrub"], nullptr);
    EXPECT_EQ(value["scrub_waits"], false) << "it runs";
    EXPECT_EQ(value["volumes"][1]["offset"], 128u * 4 * 65536);
    EXPECT_EQ(value["memory_bytes"], 1234);
    EXPECT_EQ(value["intent"], json::parse(R"({"on": true, "hindrance": "", "region": 16777216,
        "stripes_marked": 65, "marks": 2, "marks_max": 1020, "generation": 41, "records": 40,
        "records_per_second": 2.5, "waiting": 3, "flushes": 5})"));
    EXPECT_EQ(value["recovery"], json::parse(R"({"stripes": 640, "stripes_left": 64,
        "bytes_read": 1048576, "rows_wrong": 7, "rows_unknown": 2, "seconds": 1.5})"));
    EXPECT_EQ(value["bad"], json::array());
    EXPECT_EQ(value["bad_bytes"], 0);
    EXPECT_EQ(value["events"][0]["severity"], "error");
    EXPECT_EQ(value["events"][0]["sequence"], 1);
    EXPECT_EQ(value["events"][0]["epoch"], 7);
    EXPECT_EQ(value["events"][0]["revision"], 2);
    EXPECT_TRUE(value["cluster"].is_null());
}

TEST(StatusJson, WhyItHasFailed) {
    ArrayStatus status;
    EXPECT_EQ(json_of(status)["failure"], "");
    status.health = Health::failed;
    status.failure = "a flush failed";
    EXPECT_EQ(json_of(status)["failure"], "a flush failed");
}

TEST(StatusJson, WhatOughtToRunAndDoesNot) {
    ArrayStatus status;
    EXPECT_EQ(json_of(status)["waits"], json::array());
    status.waits.push_back({"spare", MemberIndex{1}, false, "somebody is to see to it"});
    status.waits.push_back({"resyncing", {}, true, "stands"});
    status.in_doubt = true;
    status.doubt_bytes = 4096;
    const json value = json::parse(dump(json_of(status)));
    EXPECT_EQ(value["waits"], json::parse(R"([
        {"what": "spare", "member": 1, "by_itself": false, "why": "somebody is to see to it"},
        {"what": "resyncing", "member": null, "by_itself": true, "why": "stands"}])"));
    EXPECT_EQ(value["in_doubt"], true);
    EXPECT_EQ(value["doubt_bytes"], 4096);
}

TEST(StatusJson, AScrubThatWasOrderedMayWait) {
    ArrayStatus status;
    EXPECT_EQ(json_of(status)["scrub_waits"], false);
    status.configuration.scrub = ScrubRecord{};
    EXPECT_EQ(json_of(status)["scrub_waits"], true);
    status.walks.emplace_back().kind = WalkKind::rebuilding;
    EXPECT_EQ(json_of(status)["scrub_waits"], true);
    status.walks.back().kind = WalkKind::scrubbing;
    EXPECT_EQ(json_of(status)["scrub_waits"], false);
}

TEST(StatusJson, NothingToRecoverIsNull) {
    const json value = json::parse(dump(json_of(ArrayStatus{})));
    EXPECT_EQ(value["recovery"], nullptr);
    EXPECT_EQ(value["intent"]["on"], false);
}

TEST(StatusJson, BadRowsComeInPages) {
    FakeArray array;
    array.bad_stripes = 150;  // in six, two have their parity there
    ArrayStatus status = array.status();
    ASSERT_EQ(status.bad_bytes, 100u * 4096);
    const json value = json::parse(dump(json_of(status)));
    EXPECT_EQ(value["bad"].size(), bad_in_status_max) << "a status has a bound";
    EXPECT_EQ(value["bad_bytes"], 100 * 4096);
    EXPECT_EQ(value["bad"][0]["volume"], "first");
    EXPECT_EQ(value["bad"][0]["size"], 4096);
    EXPECT_EQ(value["bad"][0]["member"], 2);
    std::vector<std::pair<std::string, std::uint64_t>> found;
    std::vector<std::size_t> pages;
    for (json first = 0; first != nullptr;) {
        const json page = bad_json(status.configuration, first.get<std::uint64_t>(), 30);
        EXPECT_EQ(page["bad_bytes"], 100 * 4096);
        for (const json& range : page["bad"]) found.emplace_back(range["volume"], range["offset"]);
        pages.push_back(page["bad"].size());
        first = page["next"];
    }
    EXPECT_EQ(pages, (std::vector<std::size_t>{30, 30, 30, 10}));
    ASSERT_EQ(found.size(), status.bad.size());
    for (std::size_t i = 0; i != found.size(); ++i) {
        EXPECT_EQ(found[i], std::pair(status.bad[i].volume, status.bad[i].offset.value));
    }
    EXPECT_EQ(bad_json(status.configuration, 0, 100)["next"], nullptr) << "the last page is full";
    status.configuration.volumes.clear();
    EXPECT_EQ(bad_json(status.configuration, 0, 1)["bad"][0]["volume"], nullptr);
    const json beyond = bad_json(status.configuration, bad_first_max, bad_page_max);
    EXPECT_TRUE(beyond["bad"].empty());
    EXPECT_EQ(beyond["next"], nullptr);
}

TEST(StatusJson, PathsNeedNotBeUtf8) {
    ArrayStatus status;
    MemberStatus member;
    member.record.path = "/dev/\xff\xfe";
    status.members.push_back(member);
    EXPECT_TRUE(json::accept(dump(json_of(status))));
}

TEST(EventHub, GivesWhatCameAfter) {
    EventHub hub;
    EXPECT_TRUE(hub.wait_after(0, std::chrono::milliseconds{0}).empty());
    for (std::uint64_t sequence = 1; sequence <= 1000; ++sequence) {
        ArrayEvent event;
        event.sequence = sequence;
        hub.publish(event);
    }
    EXPECT_EQ(hub.wait_after(0, std::chrono::milliseconds{0}).size(), events_kept_max);
    EXPECT_EQ(hub.wait_after(998, std::chrono::hours{1}).size(), 2u);
    std::thread waiter(
        [&hub] { EXPECT_TRUE(hub.wait_after(1000, std::chrono::hours{1}).empty()); });
    hub.close();
    waiter.join();
    EXPECT_TRUE(hub.closed());
}

class ControlServerTest : public testing::Test {
  protected:
    ControlServerTest() {
        char name[] = "/tmp/braid-control-XXXXXX";
        folder_ = mkdtemp(name);
        path_ = folder_ + "/socket";
    }
    ~ControlServerTest() override {
        control_.stop();
        std::filesystem::remove_all(folder_);
    }
    void start() {
        ASSERT_TRUE(control_.bind(path_));
        ASSERT_TRUE(control_.start(events_, nullptr));
        control_.serve(bridge_, server_.loop());
    }
    /// Sends bytes, returns all that comes until the server hangs up.
    std::string exchange(const std::string& bytes) const {
        const UniqueFd link(socket(AF_UNIX, SOCK_STREAM, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path_.copy(address.sun_path, sizeof address.sun_path - 1);
        if (connect(link.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
            return "no connection";
        }
        std::size_t sent = 0;
        while (sent != bytes.size()) {
            const ssize_t count =
                send(link.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
            if (count <= 0) break;
            sent += static_cast<std::size_t>(count);
        }
        shutdown(link.get(), SHUT_WR);
        std::string answer(1 << 20, '\0');
        std::size_t got = 0;
        for (;;) {
            const ssize_t count = recv(link.get(), answer.data() + got, answer.size() - got, 0);
            if (count <= 0) break;
            got += static_cast<std::size_t>(count);
        }
        answer.resize(got);
        return answer;
    }
    std::string ask(const std::string& line, const std::string& body = "") const {
        return exchange(line + " HTTP/1.1\r\nHost: braid\r\nConnection: close\r\nContent-Length: " +
                        std::to_string(body.size()) + "\r\n\r\n" + body);
    }

    std::string folder_;
    std::string path_;
    LoopThread server_;
    Bridge bridge_{server_.loop(), server_.array()};
    EventHub events_;
    ControlServer control_;
};

TEST_F(ControlServerTest, AnswersOverHttp) {
    start();
    struct stat status {};
    ASSERT_EQ(lstat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
    const std::string answer = ask("GET /v1/status");
    EXPECT_NE(answer.find("HTTP/1.1 200"), std::string::npos) << answer;
    EXPECT_NE(answer.find("application/json"), std::string::npos);
    EXPECT_NE(answer.find("\"health\": \"degraded\""), std::string::npos);
    EXPECT_NE(ask("GET /v1/nothing").find("HTTP/1.1 404"), std::string::npos);
    EXPECT_NE(ask("PUT /v1/scrub").find("Allow: GET, POST, DELETE"), std::string::npos);
    EXPECT_NE(ask("POST /v1/scrub", "{}").find("HTTP/1.1 200"), std::string::npos);
    EXPECT_NE(ask("POST /v1/scrub", "{").find("HTTP/1.1 400"), std::string::npos);
    EXPECT_NE(ask("POST /v1/scrub", std::string(1 << 20, ' ')).find("HTTP/1.1 413"),
              std::string::npos);
    EXPECT_NE(ask("POST /v1/members/%2Ffake%2F3/fail").find("HTTP/1.1 200"), std::string::npos);
    control_.stop();
    EXPECT_EQ(server_.array().orders, (std::vector<std::string>{"scrub", "fail 3"}));
    EXPECT_NE(lstat(path_.c_str(), &status), 0) << "the socket is still there";
}

/// A node that waits for another one, and then for an array.
class FakeDesk final : public StartDesk {
  public:
    Checked<cluster::StartStatus> start_status() override {
        if (over) return Refusal{"it is over", RefusalCode::busy};
        cluster::StartStatus status;
        status.cluster = "vault";
        status.self = 1;
        status.master = 2;
        status.why = "waits for node 2 (10.0.0.2:10810)";
        status.nodes = {{1, {"10.0.0.1:10810"}, true, 0}, {2, {"10.0.0.2:10810"}, false, 1234}};
        return status;
    }
    Checked<Unit> start_without(std::vector<std::uint32_t> nodes) override {
        orders.push_back(nodes);
        return Unit{};
    }
    Checked<nlohmann::json> create(CreateOrder order) override {
        orders.push_back(json_of(order));
        if (!order.force) return Refusal{"node2:/dev/sdb: holds a file system (ext4)"};
        return json{{"made", true}};
    }
    std::atomic<bool> over{false};
    std::vector<json> orders;
};

TEST_F(ControlServerTest, ANodeThatWaitsSaysForWhat) {
    FakeDesk desk;
    ASSERT_TRUE(control_.bind(path_));
    ASSERT_TRUE(control_.start(events_, &desk));
    const json status = json::parse(control_.answer({"GET", "/v1/status", {}, ""}).body);
    EXPECT_TRUE(status["array"].is_null());
    EXPECT_EQ(status["start"]["phase"], "nodes");
    EXPECT_EQ(status["start"]["nodes"][1]["since"], 1234);
    EXPECT_TRUE(status["start"]["nodes"][0]["since"].is_null());
    for (const char* list : {"members", "tasks", "volumes", "events"}) {
        EXPECT_EQ(status[list], json::array());
    }
    for (const char* question : {"/v1/scrub", "/v1/volumes", "/v1/intent", "/v1/bad"}) {
        const ControlAnswer answer = control_.answer({"GET", question, {}, ""});
        EXPECT_EQ(answer.status, 409u) << question;
        EXPECT_NE(answer.body.find("waits for node 2"), std::string::npos) << answer.body;
    }
    EXPECT_EQ(control_.answer({"POST", "/v1/scrub", {}, "{}"}).status, 409u);
    EXPECT_NE(ask("GET /v1/events").find("HTTP/1.1 200"), std::string::npos);
    EXPECT_EQ(control_.answer({"POST", "/v1/array", {}, R"({"level": 7})"}).status, 400u);
    EXPECT_EQ(control_.answer({"POST", "/v1/array", {}, R"({"level": 6})"}).status, 409u);
    const ControlAnswer made =
        control_.answer({"POST", "/v1/array", {}, R"({"level": 6, "force": true})"});
    EXPECT_EQ(made.status, 200u) << made.body;
    EXPECT_EQ(desk.orders.size(), 2u);
    EXPECT_TRUE(server_.array().orders.empty());

    // Between the start's end and the array's first answer a question waits.
    desk.over = true;
    std::thread asks([this] {
        EXPECT_NE(ask("GET /v1/status").find("\"health\": \"degraded\""), std::string::npos);
    });
    control_.serve(bridge_, server_.loop());
    asks.join();
    EXPECT_TRUE(
        json::parse(control_.answer({"GET", "/v1/status", {}, ""}).body)["start"].is_null());
    const ControlAnswer late = control_.answer({"POST", "/v1/array", {}, R"({"level": 6})"});
    EXPECT_EQ(late.status, 409u);
    EXPECT_NE(late.body.find("already"), std::string::npos) << late.body;
}

TEST_F(ControlServerTest, WhoAsksAStartThatComesToNothingIsToldSo) {
    FakeDesk desk;
    desk.over = true;
    ASSERT_TRUE(control_.bind(path_));
    ASSERT_TRUE(control_.start(events_, &desk));
    std::thread asks(
        [this] { EXPECT_NE(ask("GET /v1/status").find("HTTP/1.1 503"), std::string::npos); });
    control_.refuse_orders();
    asks.join();
}

TEST_F(ControlServerTest, GarbageDoesNoHarm) {
    start();
    Rng rng(5);
    for (int round = 0; round != 50; ++round) {
        std::string bytes(rng.below(3000), '\0');
        for (char& one : bytes) one = static_cast<char>(rng.next() & 0xff);
        if (round % 3 == 0) bytes = "GET " + bytes;
        exchange(bytes);
    }
    exchange("POST /v1/scrub HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n{}");
    exchange("GET /" + std::string(200'000, 'a') + " HTTP/1.1\r\n\r\n");
    EXPECT_NE(ask("GET /v1/status").find("HTTP/1.1 200"), std::string::npos);
}

TEST_F(ControlServerTest, CommandsReachTheArray) {
    ASSERT_TRUE(control_.start(events_, nullptr));
    control_.serve(bridge_, server_.loop());
    const std::string fresh = folder_ + "/fresh";
    std::ofstream(fresh) << std::string(8192, 'x');
    const auto status = [&](const char* path, json body) {
        return control_.answer({"POST", path, {}, body.dump()}).status;
    };
    EXPECT_EQ(status("/v1/members", {{"path", fresh}}), 200u);
    EXPECT_EQ(status("/v1/members/2/replace", {{"path", fresh}, {"force", true}}), 200u);
    EXPECT_EQ(status("/v1/members/0/remove", json::object()), 200u);
    EXPECT_EQ(status("/v1/members/1/fail", json::object()), 409u);
    EXPECT_EQ(status("/v1/members/9/fail", json::object()), 404u);
    EXPECT_EQ(status("/v1/members/9/replace", {{"path", fresh}}), 404u);
    EXPECT_EQ(status("/v1/members", {{"path", folder_}}), 409u);
    EXPECT_EQ(status("/v1/members", {{"path", folder_ + "/absent"}}), 409u);
    EXPECT_EQ(control_.answer({"DELETE", "/v1/scrub", {}, ""}).status, 409u);
    const ControlAnswer unknown = control_.answer({"POST", "/v1/members/9/fail", {}, ""});
    EXPECT_NE(unknown.body.find("/fake/3"), std::string::npos) << "names the members there are";
    control_.stop();
    EXPECT_EQ(
        server_.array().orders,
        (std::vector<std::string>{"add " + fresh, "replace 2 " + fresh + " force", "remove 0"}));
    EXPECT_EQ(control_.answer({"GET", "/v1/status", {}, ""}).status, 503u);
}

TEST_F(ControlServerTest, QuestionsAreAnsweredWhileTheArrayStops) {
    start();
    control_.refuse_orders();
    EXPECT_NE(ask("GET /v1/status").find("HTTP/1.1 200"), std::string::npos);
    EXPECT_NE(ask("GET /v1/events").find("HTTP/1.1 200"), std::string::npos);
    const std::string refused = ask("POST /v1/scrub", "{}");
    EXPECT_NE(refused.find("HTTP/1.1 503"), std::string::npos) << refused;
    EXPECT_NE(refused.find("is being stopped"), std::string::npos) << refused;
    // A long poll waits as before: who watches does not ask over and over.
    const auto begin = std::chrono::steady_clock::now();
    ask("GET /v1/events?wait=1");
    EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds{900});
    control_.stop();
    EXPECT_TRUE(server_.array().orders.empty());
}

TEST_F(ControlServerTest, AConnectionTooManyIsToldSo) {
    start();
    std::vector<UniqueFd> links;
    for (int i = 0; i != control_connections_max; ++i) {
        UniqueFd link(socket(AF_UNIX, SOCK_STREAM, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path_.copy(address.sun_path, sizeof address.sun_path - 1);
        ASSERT_EQ(connect(link.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
                  0);
        links.push_back(std::move(link));
    }
    const std::string answer = ask("GET /v1/status");
    EXPECT_NE(answer.find("HTTP/1.1 503"), std::string::npos) << answer;
    EXPECT_NE(answer.find("32 connections are open already"), std::string::npos) << answer;
    EXPECT_NE(ask("POST /v1/scrub", "{}").find("HTTP/1.1 503"), std::string::npos);
    links.clear();
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds{20};
    std::string later;
    do {
        later = ask("GET /v1/status");
    } while (later.find("HTTP/1.1 200") == std::string::npos &&
             std::chrono::steady_clock::now() < until);
    EXPECT_NE(later.find("HTTP/1.1 200"), std::string::npos) << later;
    control_.stop();
    EXPECT_TRUE(server_.array().orders.empty());
}

TEST_F(ControlServerTest, AMemberHasManyNames) {
    start();
    const Uuid uuid = server_.array().configuration().members[3].uuid;
    std::string capitals = uuid.text();
    for (char& one : capitals) one = static_cast<char>(std::toupper(one));
    ASSERT_NE(capitals, uuid.text());
    const auto status = [&](const std::string& name) {
        return control_.answer({"POST", "/v1/members/" + name + "/fail", {}, ""}).status;
    };
    EXPECT_EQ(status(uuid.text()), 200u);
    EXPECT_EQ(status(capitals), 200u);
    EXPECT_EQ(status("3"), 200u);
    EXPECT_EQ(status("/fake/3"), 200u);
    EXPECT_EQ(status("/fake/33"), 404u);
    control_.stop();
    EXPECT_EQ(server_.array().orders,
              (std::vector<std::string>{"fail 3", "fail 3", "fail 3", "fail 3"}));
}

TEST_F(ControlServerTest, APathMeansTheDiskThatItLeadsTo) {
    const std::string disk = folder_ + "/disk";
    const std::string link = folder_ + "/link";
    std::ofstream(disk) << std::string(8192, 'x');
    std::filesystem::create_hard_link(disk, link);
    server_.array().identities[3] = *identify_path(disk);
    start();
    const auto fail = [&](const std::string& name) {
        return control_.answer({"POST", "/v1/members/" + name + "/fail", {}, ""}).status;
    };
    EXPECT_EQ(fail(link), 200u);
    EXPECT_EQ(fail("/fake/3"), 200u);
    EXPECT_EQ(fail("/fake/4"), 200u);
    EXPECT_EQ(fail("/nobody"), 404u);
    control_.stop();
    EXPECT_EQ(server_.array().orders, (std::vector<std::string>{"fail 3", "fail 3", "fail 4"}));
}

TEST_F(ControlServerTest, ARefusalsCodeDecidesTheStatus) {
    start();
    const std::pair<RefusalCode, unsigned> expected[] = {
        {RefusalCode::conflict, 409},  {RefusalCode::invalid, 400}, {RefusalCode::not_found, 404},
        {RefusalCode::ambiguous, 409}, {RefusalCode::busy, 409},    {RefusalCode::stopping, 503},
        {RefusalCode::io, 409}};
    for (const auto& [code, status] : expected) {
        server_.array().refuses_scrub = code;
        const ControlAnswer answer = control_.answer({"POST", "/v1/scrub", {}, "{}"});
        EXPECT_EQ(answer.status, status);
        EXPECT_NE(answer.body.find("no scrub now"), std::string::npos);
    }
    control_.stop();
}

TEST_F(ControlServerTest, TheWriteIntentIsChanged) {
    server_.array().bad_stripes = 9;
    start();
    EXPECT_NE(ask("GET /v1/intent").find("\"marks_max\": 1020"), std::string::npos);
    EXPECT_NE(ask("GET /v1/bad?first=2").find("\"size\": 4096"), std::string::npos);
    EXPECT_NE(ask("POST /v1/intent", R"({"on": false})").find("HTTP/1.1 200"), std::string::npos);
    EXPECT_NE(ask("POST /v1/intent", R"({"region": 65536})").find("HTTP/1.1 200"),
              std::string::npos);
    EXPECT_NE(ask("POST /v1/intent", R"({"region": 1})").find("HTTP/1.1 400"), std::string::npos);
    server_.array().no_room = true;
    const std::string refused = ask("POST /v1/intent", R"({"on": true})");
    EXPECT_NE(refused.find("HTTP/1.1 409"), std::string::npos);
    EXPECT_NE(refused.find("no room"), std::string::npos);
    control_.stop();
    const auto& changes = server_.array().changes;
    ASSERT_EQ(changes.size(), 2u);
    EXPECT_EQ(changes[0].on, false);
    EXPECT_FALSE(changes[0].region);
    EXPECT_FALSE(changes[1].on);
    EXPECT_EQ(changes[1].region, 65536u);
}

TEST_F(ControlServerTest, EventsAreWaitedFor) {
    start();
    std::thread late([this] {
        std::this_thread::sleep_for(std::chrono::milliseconds{50});
        ArrayEvent event;
        event.sequence = 5;
        event.text = "something came";
        events_.publish(event);
    });
    EXPECT_NE(ask("GET /v1/events?after=4&wait=30").find("something came"), std::string::npos);
    late.join();
    EXPECT_EQ(ask("GET /v1/events?after=5").find("something came"), std::string::npos);
    // stop() does not wait for a poll to run out.
    std::thread poll([this] { ask("GET /v1/events?after=5&wait=60"); });
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
    const auto begin = std::chrono::steady_clock::now();
    control_.stop();
    poll.join();
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds{20});
}

TEST_F(ControlServerTest, ThePathMustBeFree) {
    std::ofstream(path_) << "precious";
    const auto refused = control_.bind(path_);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text.find(path_), std::string::npos);
    EXPECT_EQ(std::filesystem::file_size(path_), 8u);
    std::filesystem::remove(path_);
    start();
    ControlServer second;
    const auto busy = second.bind(path_);
    ASSERT_FALSE(busy);
    EXPECT_NE(busy.error().text.find("another server"), std::string::npos);
    EXPECT_FALSE(ControlServer().bind("/tmp/" + std::string(200, 'x')));
    EXPECT_FALSE(ControlServer().bind(folder_ + "/no/such/folder"));
}

// nbdkit forks once it is ready, and its parent ends.
TEST_F(ControlServerTest, TheSocketOfAServerThatHasForkedIsInUse) {
    const UniqueFd kept(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(bind(kept.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    const pid_t parent = fork();
    if (parent == 0) _exit(listen(kept.get(), 8) == 0 ? 0 : 1);
    int status = -1;
    ASSERT_EQ(waitpid(parent, &status, 0), parent);
    ASSERT_EQ(status, 0);
    const auto busy = control_.bind(path_);
    ASSERT_FALSE(busy);
    EXPECT_NE(busy.error().text.find("another server"), std::string::npos) << busy.error().text;
    EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(ControlServerTest, AServerWithoutTimeForOneMoreIsNotWaitedFor) {
    const UniqueFd kept(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    const auto* at = reinterpret_cast<const sockaddr*>(&address);
    ASSERT_EQ(bind(kept.get(), at, sizeof address), 0);
    ASSERT_EQ(listen(kept.get(), 0), 0);
    std::vector<UniqueFd> comers;
    do {
        comers.emplace_back(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    } while (connect(comers.back().get(), at, sizeof address) == 0);
    ASSERT_EQ(errno, EAGAIN);
    const auto busy = control_.bind(path_);
    ASSERT_FALSE(busy);
    EXPECT_NE(busy.error().text.find("another server"), std::string::npos) << busy.error().text;
    EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(ControlServerTest, AnothersSocketStaysWhenOursEnds) {
    start();
    std::filesystem::remove(path_);
    ControlServer second;
    ASSERT_TRUE(second.bind(path_));
    control_.stop();
    EXPECT_TRUE(std::filesystem::exists(path_));
    second.stop();
    EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(ControlServerTest, WhyItCannotListenIsTold) {
    listen_fails_with = ENOBUFS;
    const auto refused = control_.bind(path_);
    listen_fails_with = 0;
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().text, "socket: unix:" + path_ + ": nobody can listen there (" +
                                        os_error_text(ENOBUFS) + "): choose another address");
    EXPECT_FALSE(std::filesystem::exists(path_)) << "nobody listens there";
    start();
    EXPECT_NE(ask("GET /v1/volumes").find("second"), std::string::npos);
}

TEST_F(ControlServerTest, ADeadSocketIsReplaced) {
    {
        const UniqueFd dead(socket(AF_UNIX, SOCK_STREAM, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path_.copy(address.sun_path, sizeof address.sun_path - 1);
        ASSERT_EQ(bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    }
    start();
    EXPECT_NE(ask("GET /v1/volumes").find("second"), std::string::npos);
    EXPECT_NE(ask("POST /v1/volumes/second/reserve").find("HTTP/1.1 200"), std::string::npos);
    EXPECT_NE(ask("POST /v1/volumes/second/release").find("HTTP/1.1 200"), std::string::npos);
}

}  // namespace
}  // namespace braid::plugin
