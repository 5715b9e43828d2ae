// SPDX-License-Identifier: BSD-3-Clause
#include "cli/picture.h"

#include <gtest/gtest.h>

#include "cli/plan_picture.h"

namespace braid::cli {
namespace {

using nlohmann::json;

const Style plain{};
const Style pretty{.colours = true, .utf8 = true};

json sample_status() {
    return json::parse(R"({
      "array": {"name": "demo", "level": 6, "layout": "left-symmetric", "member_count": 4,
                "strip_size": 65536, "data_size": 2147483648},
      "health": "degraded",
      "members": [
        {"role": 0, "path": "/dev/sda", "state": "in_sync", "errors_read": 1},
        {"role": 1, "path": "/dev/sdb", "state": "rebuilding"},
        {"role": 2, "path": "/dev/sdc", "state": "faulty", "notice": "failed: an operator said so"},
        {"role": 3, "path": "", "state": "missing"},
        {"role": null, "path": "/dev/sde", "state": "spare"}],
      "tasks": [{"kind": "rebuilding", "member": 1, "position": 500, "end": 1000,
                 "rate": 104857600, "seconds_left": 65, "throttle": 0.0}],
      "last_scrub": null,
      "volumes": [{"name": "data", "size": 2147483648}],
      "intent": {"on": true, "hindrance": "", "region": 16777216, "stripes_marked": 65, "marks": 2,
                 "marks_max": 1020, "generation": 41, "records": 40, "records_per_second": 2.5,
                 "waiting": 1, "flushes": 5},
      "recovery": null, "bad": [], "bad_bytes": 0,
      "counters": {"reads": 1, "direct_reads": 2, "writes": 3},
      "memory_bytes": 1048576, "memory_bytes_max": 67108864,
      "events": [{"sequence": 1, "time": 1000000000, "severity": "error", "text": "it broke"}]})");
}

TEST(Picture, SizesAndTimes) {
    EXPECT_EQ(size_text(0), "0 bytes");
    EXPECT_EQ(size_text(1023), "1023 bytes");
    EXPECT_EQ(size_text(1024), "1 KiB");
    EXPECT_EQ(size_text(1536), "1.5 KiB");
    EXPECT_EQ(size_text((1u << 20) - 1), "1 MiB");
    EXPECT_EQ(size_text(~std::uint64_t{0}), "16 EiB");
    EXPECT_EQ(duration_text(0), "0:00");
    EXPECT_EQ(duration_text(65), "1:05");
    EXPECT_EQ(duration_text(3723), "1:02:03");
    EXPECT_EQ(duration_text(90000), "1 d 1 h");
    EXPECT_NE(time_text(1000000000).find("2001-09-"), std::string::npos);
}

TEST(Picture, BarsAreFullOnlyAtTheEnd) {
    EXPECT_EQ(bar(0, 10, plain), "----------");
    EXPECT_EQ(bar(0.999, 10, plain), "#########-");
    EXPECT_EQ(bar(1, 10, plain), "##########");
    EXPECT_EQ(bar(7, 4, plain), "####");
    EXPECT_EQ(bar(-1, 4, plain), "----");
    EXPECT_EQ(bar(0.5, 2, pretty), "█░");
}

TEST(Picture, DrawsTheArray) {
    const std::string text = draw_status(sample_status(), plain, 5);
    const char* const expected =
        "demo: RAID-6, 4 members, strips of 64 KiB, 2 GiB of data\n"
        "health: DEGRADED: 2 members are lost, what they held is computed\n"
        "\n"
        "   0  ############  in sync     /dev/sda  1 read error\n"
        "   1  ######------  rebuilding  /dev/sdb\n"
        "   2  xxxxxxxxxxxx  faulty      /dev/sdc\n"
        "      failed: an operator said so\n"
        "   3                missing     (no path known)\n"
        "   -  ............  spare       /dev/sde\n"
        "\n"
        "rebuilding member 1     ###############---------------   50.0 %    100 MiB/s  1:05 left\n"
        "\n"
        "volumes  data 2 GiB\n"
        "requests 3 reads, 3 writes, 0 zeroes or trims, 0 flushes\n"
        "intent   on, 65 stripes marked, 2.5 records/s, 1 write waiting\n"
        "memory   1 MiB of at most 64 MiB\n"
        "\n"
        "events\n";
    EXPECT_EQ(text.substr(0, std::string(expected).size()), expected);
    EXPECT_NE(text.find("it broke"), std::string::npos);
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
    EXPECT_NE(draw_status(sample_status(), pretty, 5).find("\x1b[32m"), std::string::npos);
}

TEST(Picture, WhatNodesCostEachOther) {
    json status = sample_status();
    status["nodes"] = {
        {{"id", 1u},
         {"members", {0u, 3u}},
         {"locks_held", 2u},
         {"locks_handed_over", 7u},
         {"writes", 32u},
         {"round_trips_per_write", 2.96},
         {"messages_per_write", 10.0},
         {"bytes_sent", 1048576u},
         {"this", true},
         {"decides", false}},
        {{"id", 3u}, {"decides", true}, {"state", "decides"}, {"messages_per_write", nullptr}}};
    const std::string expected =
        "node     members   locks  handed over   writes  round trips  messages        sent\n"
        "1              2       2            7       32          3.0      10.0       1 MiB  this one\n"
        "3              0       0            0        0            -         -     0 bytes  decides\n"
        "\n"
        "volumes";
    const std::string text = draw_status(status, plain, 0);
    EXPECT_NE(text.find(expected), std::string::npos) << text;
}

TEST(Picture, WhoDecidesAndForHowLongANodeMayAnswer) {
    json status = sample_status();
    status["cluster"] = {{"name", "vault\x1b"},
                         {"decides", 3u},
                         {"why", "since node 5 stopped"},
                         {"needs_lease", true},
                         {"lease_ms", 1140u}};
    const auto shows = [&status](const std::string& line) {
        const std::string text = draw_status(status, plain, 0);
        EXPECT_NE(text.find("\ncluster  vault?: node 3 decides, since node 5 stopped; " + line),
                  std::string::npos)
            << text;
    };
    shows("lease of this node 1.1 s left\n");
    status["cluster"]["lease_ms"] = nullptr;
    shows("lease of this node none: it waits for others before it answers\n");
    status["cluster"]["needs_lease"] = false;
    shows("lease of this node not needed: it has enough members itself\n");
    status["cluster"] = nullptr;
    EXPECT_EQ(draw_status(status, plain, 0).find("decides"), std::string::npos);
}

TEST(Picture, TheWaysToOtherNodes) {
    json status = sample_status();
    status["nodes"] = {{{"id", 1u},
                        {"channels",
                         {{{"address", "10.0.0.1:10810"},
                           {"up", true},
                           {"round_trip_us", 214.7},
                           {"heard_ms", 123u}},
                          {{"address", "10.1.0.1:\x1b"},
                           {"up", false},
                           {"round_trip_us", nullptr},
                           {"heard_ms", nullptr}}}}},
                       {{"id", 3u}, {"this", true}, {"channels", json::array()}}};
    const std::string expected =
        "\n"
        "node    link   round trip        heard  channel\n"
        "1         up      0.21 ms    0.1 s ago  10.0.0.1:10810\n"
        "1       down        never        never  10.1.0.1:?\n"
        "\n"
        "volumes";
    const std::string text = draw_status(status, plain, 0);
    EXPECT_NE(text.find(expected), std::string::npos) << text;
}

TEST(Picture, WhoHasAVolume) {
    json status = sample_status();
    json& volume = status["volumes"][0];
    const auto line = [&status] {
        const std::string text = draw_status(status, plain, 0);
        const std::size_t at = text.find("volumes  ");
        return text.substr(at, text.find('\n', at) - at);
    };
    volume["reservation"] = {
        {"node", nullptr}, {"holds", false}, {"mode", "shared"}, {"requests_waiting", 0u}};
    EXPECT_EQ(line(), "volumes  data 2 GiB");
    volume["reservation"]["node"] = 2u;
    volume["reservation"]["requests_waiting"] = 3u;
    EXPECT_EQ(line(), "volumes  data 2 GiB (asked for by node 2, 3 requests wait)");
    volume["reservation"] = {
        {"node", 2u}, {"holds", true}, {"mode", "exclusive"}, {"requests_waiting", 0u}};
    EXPECT_EQ(line(), "volumes  data 2 GiB (exclusive, reserved by node 2)");
    volume["reservation"] = 7;
    EXPECT_EQ(line(), "volumes  data 2 GiB");
}

TEST(Picture, ReadErrorsSinceTheStartAndBefore) {
    json status = sample_status();
    status["members"][0]["read_errors"] = 1u;
    std::string text = draw_status(status, plain, 0);
    EXPECT_NE(text.find("/dev/sda  1 read error\n"), std::string::npos) << text;
    status["members"][0]["read_errors"] = 12u;
    status["members"][0]["errors_write"] = 2u;
    text = draw_status(status, plain, 0);
    EXPECT_NE(text.find("1 read error, 2 write errors, 12 read errors since it joined\n"),
              std::string::npos)
        << text;
}

TEST(Picture, ASpareThatIsNotThereIsNoLostMember) {
    json status = sample_status();
    for (json& member : status["members"]) {
        if (member["role"] == 3) member["state"] = "in_sync";
        if (member["state"] == "spare") member["state"] = "missing";
    }
    EXPECT_NE(draw_status(status, plain, 0).find("DEGRADED: 1 member is lost, what it held"),
              std::string::npos)
        << draw_status(status, plain, 0);
}

TEST(Picture, HealthInWords) {
    json status = sample_status();
    for (json& member : status["members"]) {
        if (member["state"] != "spare") member["state"] = "in_sync";
    }
    EXPECT_NE(draw_status(status, plain, 0).find("until the rebuild is done"), std::string::npos);
    status["health"] = "clean";
    EXPECT_NE(draw_status(status, plain, 0).find("health: clean\n"), std::string::npos);
    status["members"][0]["state"] = "faulty";
    status["health"] = "failed";
    status["failure"] = "member 1 (/dev/sdb) is needed, and a flush of it failed";
    const std::string failed = draw_status(status, plain, 0);
    EXPECT_NE(
        failed.find("health: FAILED: member 1 (/dev/sdb) is needed, and a flush of it failed"),
        std::string::npos)
        << failed;
    EXPECT_EQ(failed.find("more than the level"), std::string::npos) << "of RAID-6 one is lost";
}

TEST(Picture, DoubtAndWhatWaits) {
    json status = sample_status();
    for (json& member : status["members"]) {
        if (member["state"] != "spare") member["state"] = "in_sync";
    }
    status["health"] = "clean";
    status["tasks"] = json::array();
    status["in_doubt"] = true;
    status["doubt_bytes"] = 1048576u;
    EXPECT_NE(
        draw_status(status, plain, 0)
            .find("health: clean; parity of 1 MiB of data is in doubt, and is being made true\n"),
        std::string::npos);
    EXPECT_EQ(draw_status(status, pretty, 0).find("\x1b[32mclean"), std::string::npos);
    status["waits"] = json::parse(R"([
        {"what": "resyncing", "member": null, "by_itself": false, "why": "a\u001b[2J disk is full"},
        {"what": "spare", "member": 2, "by_itself": false, "why": "it alone has 4096 bytes"},
        {"what": "rebuilding", "member": 1, "by_itself": true, "why": "member 3 answers no reads"}])");
    const std::string text = draw_status(status, plain, 0);
    for (const char* line :
         {"in doubt, and is not made true just now\n", "the resync waits: a", "disk is full\n",
          "no spare takes the place of member 2: it alone has 4096 bytes\n",
          "the rebuild of member 1 waits: member 3 answers no reads\n\nvolumes"}) {
        EXPECT_NE(text.find(line), std::string::npos) << line << " in\n" << text;
    }
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

// What comes over the socket, or from a member's metadata, does not command the terminal.
TEST(Picture, ControlCharactersAreTakenOut) {
    json status = sample_status();
    status["members"][0]["path"] = "/dev/\x1b[2Jsda\n";
    status["array"]["name"] = "a\rb";
    status["events"][0]["text"] = "\x1b]0;title\x07";
    const std::string text = draw_status(status, plain, 5);
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
    EXPECT_EQ(text.find('\r'), std::string::npos);
    EXPECT_EQ(text.find('\x07'), std::string::npos);
}

TEST(Picture, FieldsMayBeAbsentOrWrong) {
    json status = sample_status();
    for (const char* name :
         {"members", "tasks", "volumes", "events", "counters", "last_scrub", "memory_bytes",
          "health", "intent", "recovery", "bad", "bad_bytes", "waits", "in_doubt", "doubt_bytes"}) {
        for (const json& value : {json(nullptr), json(-1), json("text"), json::array(),
                                  json::array({nullptr, 7, "x"}), json::object()}) {
            json other = status;
            other[name] = value;
            draw_status(other, plain, 5);
            draw_intent(other);
            other.erase(name);
            draw_status(other, plain, 5);
        }
    }
}

TEST(Picture, WriteIntent) {
    json status = sample_status();
    EXPECT_EQ(draw_intent(status),
              "intent   on, 65 stripes marked, 2.5 records/s, 1 write waiting\n"
              "marks    2 of at most 1020, each of 16 MiB of data\n"
              "records  40 since the start, the newest has generation 41\n"
              "flushes  5 of the members, only to take marks away\n");
    status["intent"]["on"] = false;
    EXPECT_EQ(intent_lines(status), "intent   off; after a crash all parity is computed anew\n");
    status["intent"]["hindrance"] = "the members have no room for it";
    EXPECT_EQ(intent_lines(status),
              "intent   off: the members have no room for it; after a crash all parity is "
              "computed anew\n");
}

TEST(Picture, Recovery) {
    json status = sample_status();
    status.erase("intent");
    status["recovery"] = {{"stripes", 640u},  {"stripes_left", 64u}, {"bytes_read", 1u << 20},
                          {"rows_wrong", 0u}, {"rows_unknown", 0u},  {"seconds", 0.5}};
    EXPECT_EQ(intent_lines(status), "recovery 64 of 640 stripes left, 1 MiB read, 0 rows wrong\n");
    status["recovery"]["stripes_left"] = 0u;
    status["recovery"]["rows_wrong"] = 7u;
    status["recovery"]["rows_unknown"] = 1u;
    status["recovery"]["seconds"] = 1.54;
    EXPECT_EQ(intent_lines(status),
              "recovery done in 1.5 s: 640 stripes, 1 MiB read, 7 rows wrong and made true, 1 row "
              "cannot be known\n");
}

TEST(Picture, BadRowsAreNamedWithTheWayOut) {
    json status = sample_status();
    for (std::uint64_t i = 0; i != 10; ++i) {
        status["bad"].push_back(
            {{"volume", "data"}, {"offset", i << 20}, {"size", 4096u}, {"member", 2u}});
    }
    status["bad"][1]["volume"] = nullptr;
    status["bad_bytes"] = 12u * 4096;
    const std::string text = draw_status(status, plain, 0);
    for (const char* words : {"BAD ROWS: 48 KiB cannot be known",
                              "  data          bytes 0 to 4095  (4 KiB, of member 2)\n",
                              "  (no volume)   bytes 1048576 to 1052671",
                              "`braid volume bad` lists them", "Write them anew", "man braid"}) {
        EXPECT_NE(text.find(words), std::string::npos) << words << " in\n" << text;
    }
    EXPECT_NE(text.find("bytes 7340032"), std::string::npos);
    EXPECT_EQ(text.find("bytes 8388608"), std::string::npos) << "a status stays short";
    status["bad"].erase(8);
    status["bad"].erase(8);
    status["bad_bytes"] = 8u * 4096;
    EXPECT_EQ(draw_status(status, plain, 0).find("and more"), std::string::npos);
}

TEST(Picture, ScrubResults) {
    EXPECT_EQ(scrub_result({{"mismatches", 0u}, {"position", 8u}, {"end", 8u}}),
              "all parity was true");
    EXPECT_EQ(scrub_result({{"mismatches", 3u}, {"repaired", 2u}, {"position", 8u}, {"end", 8u}}),
              "3 rows were wrong, 2 of them repaired");
    EXPECT_EQ(scrub_result({{"mismatches", 0u},
                            {"repaired", 0u},
                            {"bytes_unknown", 8192u},
                            {"position", 8u},
                            {"end", 8u}}),
              "8 KiB can neither be read nor computed from the others; all else was true");
    EXPECT_EQ(
        scrub_result({{"mismatches", 3u},
                      {"repaired", 2u},
                      {"bytes_unknown", 4096u},
                      {"position", 8u},
                      {"end", 8u}}),
        "4 KiB can neither be read nor computed from the others; 3 rows were wrong, 2 of them "
        "repaired");
    EXPECT_EQ(scrub_result({{"mismatches", 0u}, {"position", 2u}, {"end", 8u}}),
              "all parity was true up to 25.0 %, where it was stopped");
}

TEST(Picture, SaysWhatIsNotWell) {
    json status = sample_status();
    status["health"] = "damaged";
    status["bad_bytes"] = 8192u;
    EXPECT_NE(draw_status(status, plain, 0)
                  .find("health: DAMAGED: no member is lost, but 8 KiB cannot be known"),
              std::string::npos);
    status["stopping"] = true;
    status["members"][1]["in_flight"] = 3u;
    status["members"][4]["in_flight"] = 1u;
    EXPECT_NE(draw_status(status, plain, 0).find("stopping: waits for I/O of member 1, a spare"),
              std::string::npos);
}

TEST(Picture, ANodeThatWaitsSaysForWhat) {
    const json status = json::parse(R"json({"array": null, "health": null, "members": [],
        "tasks": [], "waits": [], "volumes": [], "events": [],
        "start": {"cluster": "vault\u001b", "node": 1, "master": 3, "phase": "nodes",
                  "why": "waits for node 2 (10.0.0.2:10810)",
                  "nodes": [{"id": 1, "addresses": ["10.0.0.1:10810"], "connected": true,
                             "since": null},
                            {"id": 2, "addresses": ["10.0.0.2:10810", "x:1"], "connected": false,
                             "since": 1000000000},
                            {"id": 3, "addresses": [7], "connected": true,
                             "since": 1000000000}]}})json");
    const std::string text = draw_status(status, plain, 5);
    EXPECT_NE(text.find("vault?: node 1 of a cluster of 3 nodes, serves nothing yet\n"
                        "waits for node 2 (10.0.0.2:10810)\n\nnodes\n"),
              std::string::npos)
        << text;
    EXPECT_NE(text.find("   2  not connected since 2001-09-"), std::string::npos) << text;
    EXPECT_NE(text.find("  10.0.0.2:10810, x:1\n"), std::string::npos) << text;
    EXPECT_NE(text.find("   3  connected since 2001-09-"), std::string::npos) << text;
    EXPECT_NE(text.find("(decides about the array)\n"), std::string::npos) << text;
    EXPECT_FALSE(draw_status(json::parse(R"({"start": {}})"), plain, 5).empty());
}

TEST(Picture, ThePlanOfAnArray) {
    const json answer = json::parse(R"({"made": true, "plan": {"array": "u-u", "name": "kit",
        "level": 5, "layout": "left-symmetric", "member_count": 3, "strip_size": 65536,
        "stripes": 10, "stripe_size": 131072, "data_size": 1572864, "data_offset": 4194304,
        "parity": "zeroed",
        "members": [{"role": 0, "part": "member 0", "path": "node1:/a", "size": 4096},
                    {"role": null, "part": "spare", "path": "b", "size": 1}],
        "volumes": [{"name": "data", "size": 1572864}], "free": 0, "notices": ["small"]},
        "nodes": [{"id": 1, "text": "member 0: it is so"}, {"id": 2, "text": "no member"}]})");
    const std::string future = plan_lines(answer["plan"], true);
    EXPECT_EQ(future.find("u-u"), std::string::npos) << "it has none yet";
    EXPECT_NE(future.find("true at once: the members will be zeroed"), std::string::npos) << future;
    EXPECT_EQ(plan_lines(answer["plan"], false),
              "RAID-5 kit of 3 members, left-symmetric, strips of 64 KiB\n"
              "  array     u-u\n"
              "  data      1.5 MiB in 10 stripes of 128 KiB\n"
              "  begins    at byte 4194304 (4 MiB) of each member\n"
              "  parity    true: the members were zeroed\n"
              "  member 0  node1:/a  4 KiB\n"
              "  spare     b  1 bytes\n"
              "  volume    data  1.5 MiB\n"
              "  note      small\n");
    EXPECT_NE(
        placement_lines(answer).find("  node 1    member 0: it is so\n  node 2    no member\n"),
        std::string::npos);
    EXPECT_EQ(placement_lines(json::object()), "");
}

TEST(Picture, ReadonlyIsNotMistakenForOff) {
    json status = sample_status();
    status["readonly"] = true;
    status["recovery"] = {{"stripes", 640u}, {"stripes_left", 640u}, {"rows_wrong", 0u}};
    const std::string text = draw_status(status, plain, 0);
    EXPECT_NE(text.find("intent   at rest while the array is served for reading only\n"),
              std::string::npos)
        << text;
    EXPECT_NE(
        text.find("recovery 640 stripes in doubt, made true when the array is served for writing"),
        std::string::npos)
        << text;
}

}  // namespace
}  // namespace braid::cli
