// SPDX-License-Identifier: BSD-3-Clause
// One crash point of a small array: an operation that is run up to its n'th member write, at which
// the power goes (crash_point.cpp), and what starts make of each subset of the unflushed writes that
// stays (crash_point_checks.cpp). crash_points_test.cpp goes through them, and says what must hold.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/engine/array_fixture.h"

namespace braid::sim::crash {

inline constexpr std::uint64_t stripes = 20;
inline constexpr std::uint64_t strip = row_size;
inline constexpr std::uint64_t region = 64u << 10;
inline constexpr std::uint64_t region_changed = 128u << 10;  // by the configuration change

enum class What {
    small,
    several,
    full,
    trim,
    clean,
    configuration,
    heal,
    rebuild,
    no_room,
    kept,
    start,
    start_after_crash,
    stop
};
const char* text_of(What what);

struct Case {
    Level level{Level::raid5};
    What what{What::small};
    std::set<std::size_t> lost;  // members, before the operation
    std::uint32_t refuses{0};  // the role whose member refuses writes of its row, or would have no
                               // room for them
    bool fails() const { return what == What::no_room || what == What::kept; }
    bool starts() const { return what == What::start || what == What::start_after_crash; }
    bool has_histories() const { return starts() || what == What::stop; }
};
std::string text_of(const Case& one);

class Point {
  public:
    Point(const Case& the_case, std::uint64_t stop_after)
        : case_(the_case), sim(options_of(the_case)), stop_after_(stop_after) {}

    /// Runs the operation up to its stop_after'th member write; true if that was before its end.
    bool run();
    /// Starts from what every subset leaves; gives their number.
    std::uint64_t check_all();

  private:
    using Stays = std::function<bool(std::size_t)>;  // which of the loose writes
    using Opened = Checked<std::unique_ptr<Array>>;

    static SimArrayOptions options_of(const Case& the_case);
    static std::vector<Buffer>& scratch(std::size_t which);
    static bool is_member(const SimPlatter& platter);
    static const SimArray& filled(const Case& the_case);
    std::uint64_t stripe_size() const { return 3 * strip; }
    std::uint64_t writes() const;
    std::vector<std::size_t> here(std::optional<std::uint32_t> also_away = std::nullopt) const;

    // The operation.
    void prepare();
    void prepare_history();
    void kill();
    void begin_request(IoKind kind, std::uint64_t offset, std::uint64_t size);
    void begin_write(std::uint64_t offset, std::uint64_t size) {
        begin_request(IoKind::write, offset, size);
    }
    static Task<void> keep(Task<Checked<Unit>> task, bool* done);
    static Task<void> keep_opened(Task<Opened> task, std::optional<Opened>* opened);
    static Task<void> keep_stopped(Task<Result<void>> task, bool* done);
    void begin();
    void begin_start(const std::vector<std::size_t>& indexes, std::size_t first);
    bool is_over();
    SimPlatter& refusing() const;
    bool is_failure_over();
    void take_what_was_read(std::uint64_t stripe);

    // What it leaves.
    void lay(const Stays& stays);
    std::string where(std::uint64_t number) const;
    void check_histories(const Stays& stays, std::uint64_t number);
    void die_in_start(std::size_t first, std::size_t without, std::uint64_t stop_after);
    void serve_without(const std::vector<std::size_t>& all, const std::set<std::size_t>& without,
                       bool may_be_refused);
    void check_subset(const Stays& stays, std::uint64_t number);
    std::vector<std::byte> expect_old_or_new(bool degraded);
    bool is_listed(std::uint64_t at) const;

    struct Loose {
        std::size_t member;
        std::size_t write;
    };
    Case case_;
    SimArray sim;
    std::uint64_t stop_after_;
    std::set<std::size_t> away_;
    std::list<Asked> flights_;
    bool command_done_{true};
    bool flushed_{false};
    std::optional<Opened> opened_;  // by a start that is to die
    bool served_{false};
    bool has_no_doubt_{false};         // nothing is in doubt: no errors but for `unknown_`
    std::set<std::uint64_t> unknown_;  // sectors that were errors before the power went
    std::pair<std::uint64_t, std::uint64_t> touched_{~std::uint64_t{0}, 0};
    std::vector<std::byte> after_;
    std::vector<Buffer>& content_{scratch(0)};  // as the power went
    std::vector<std::vector<SimPlatter::Write>> unflushed_;
    std::vector<Loose> loose_;
    std::vector<Buffer>& left_{scratch(1)};  // as the power cut leaves it
};

}  // namespace braid::sim::crash
