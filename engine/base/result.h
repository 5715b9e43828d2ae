// SPDX-License-Identifier: BSD-3-Clause
// Errors are values. Result<T> is a T or an Error; Checked<T> is a T or a Refusal, whose text is
// written for people. The member names are those of C++23's std::expected, to become it one day.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "parity/require.h"

namespace braid {

/// Why something failed; plugin/errors.cpp alone turns it into errno.
enum class Errc : unsigned char {
    io,           // a member answered with an error and the others could not stand in
    failed,       // more members are lost than the level allows
    unknown,      // bytes that cannot be known: on the bad-row list (R4)
    doubt,        // parity in doubt and a strip lost: a resync has yet to decide what is known
    fenced,       // our epoch ended, or the array stopped
    readonly,     // the array or the volume is served for reading only
    range,        // beyond the end of the volume
    unsupported,  // the members cannot do it, or cannot do it fast
    busy,         // somebody else has it, or something else must end first
    invalid,      // an argument that cannot be right
    full,         // no room left
    cancelled,    // told to stop before it was done
    reserved,     // another node has the volume for itself: Error::node
    again,  // nodes agreed anew meanwhile who serves: what was locked is to be done again, from
            // the start; no client hears of it
};

constexpr std::string_view text_of(Errc code) {
    switch (code) {
        case Errc::io:
            return "input/output error on a member";
        case Errc::failed:
            return "more members are lost than the level allows";
        case Errc::unknown:
            return "these bytes cannot be known; they are on the bad-row list";
        case Errc::doubt:
            return "parity in doubt and a strip lost";
        case Errc::fenced:
            return "the array has stopped";
        case Errc::readonly:
            return "served for reading only";
        case Errc::range:
            return "beyond the end of the volume";
        case Errc::unsupported:
            return "not supported by the members";
        case Errc::busy:
            return "busy";
        case Errc::invalid:
            return "invalid argument";
        case Errc::full:
            return "no room left";
        case Errc::cancelled:
            return "cancelled";
        case Errc::reserved:
            return "the volume is reserved by another node";
        case Errc::again:
            return "the nodes agreed anew on who serves";
    }
    return "unknown error";
}

/// What went wrong and where. `where` is a string literal, so that an Error never allocates;
/// `os_error` is the errno behind it, or 0; `node` the node of a cluster that it is about, or 0.
struct Error {
    Errc code{Errc::invalid};
    const char* where{""};
    int os_error{0};
    std::uint32_t node{0};
    constexpr std::string_view text() const { return text_of(code); }
};

/// Whether what an order would cost, and would be refused for, is given up. Made from a flag that
/// somebody set as `Force{flag}`.
enum class Force : bool { no, yes };

/// What kind of thing a Refusal is about, for programs.
enum class RefusalCode : unsigned char {
    conflict,   // the state of things does not allow it
    invalid,    // asked for what cannot be, whatever the state
    not_found,  // what was named is not there
    ambiguous,  // several are called so
    busy,       // something else must end first
    stopping,   // no more orders are taken
    io,         // it was tried, and a member or the system failed
};

/// A sentence for people: the thing, the reason, and the way out. For set-up and operators'
/// commands, never on the path of a client's request.
struct Refusal {
    std::string text;
    RefusalCode code{RefusalCode::conflict};
};

struct Unit {};

template <class T, class E = Error>
class [[nodiscard]] Result {
  public:
    using value_type = T;
    using error_type = E;
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT
    Result(E error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

    bool has_value() const { return state_.index() == 0; }
    explicit operator bool() const { return has_value(); }
    T& value() & {
        BRAID_REQUIRE(has_value());
        return *std::get_if<0>(&state_);
    }
    const T& value() const& {
        BRAID_REQUIRE(has_value());
        return *std::get_if<0>(&state_);
    }
    T&& value() && {
        BRAID_REQUIRE(has_value());
        return std::move(*std::get_if<0>(&state_));
    }
    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T* operator->() { return &value(); }
    const T* operator->() const { return &value(); }
    const E& error() const {
        BRAID_REQUIRE(!has_value());
        return *std::get_if<1>(&state_);
    }

  private:
    std::variant<T, E> state_;
};

template <class E>
class [[nodiscard]] Result<void, E> {
  public:
    using value_type = void;
    using error_type = E;
    Result() = default;
    Result(E error) : error_(std::move(error)) {}  // NOLINT

    bool has_value() const { return !error_.has_value(); }
    explicit operator bool() const { return has_value(); }
    void value() const { BRAID_REQUIRE(has_value()); }
    const E& error() const {
        BRAID_REQUIRE(!has_value());
        return *error_;
    }

  private:
    std::optional<E> error_;
};

template <class T>
using Checked = Result<T, Refusal>;

}  // namespace braid

#define BRAID_CONCAT_(a, b) a##b
#define BRAID_CONCAT(a, b) BRAID_CONCAT_(a, b)

// Declares `decl` from the value of `expr`, or returns its error. Statements, because GCC 12 dies
// on a co_return inside a statement expression.
#define BRAID_TRY_(decl, expr, temp, leave) \
    auto temp = (expr);                     \
    if (!temp) [[unlikely]]                 \
        leave temp.error();                 \
    decl = std::move(temp).value()
#define BRAID_CHECK_(expr, leave)                                   \
    do {                                                            \
        if (auto braid_result = (expr); !braid_result) [[unlikely]] \
            leave braid_result.error();                             \
    } while (false)

#define BRAID_TRY(decl, expr) BRAID_TRY_(decl, expr, BRAID_CONCAT(braid_try_, __LINE__), return )
#define BRAID_CO_TRY(decl, expr) \
    BRAID_TRY_(decl, expr, BRAID_CONCAT(braid_try_, __LINE__), co_return )
#define BRAID_CHECK(expr) BRAID_CHECK_(expr, return )
#define BRAID_CO_CHECK(expr) BRAID_CHECK_(expr, co_return )
