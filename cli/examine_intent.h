// SPDX-License-Identifier: BSD-3-Clause
// What braid examine shows of the write intent and of rows that cannot be known. Pure: text and
// JSON out of what was found on the members.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/layout/configuration.h"
#include "engine/metadata/member_metadata.h"

namespace braid::cli {

/// A member of an array, by what it is called.
struct IntentHolder {
    std::string path;
    const MemberFindings* findings{nullptr};
};

/// The newest record of a node, and who holds it.
struct NewestIntent {
    const IntentRecord* record{nullptr};
    std::vector<std::string> held_by;
};
/// In order of nodes; points into the holders' findings.
std::vector<NewestIntent> newest_intents(const std::vector<IntentHolder>& holders);

/// A member's slots, a line each; `newest`: of its array.
std::string intent_lines_of(const MemberFindings& findings,
                            const std::vector<NewestIntent>& newest);
/// What the array goes by: settings, the newest records with the bytes that they mark, bad rows.
/// @param unclean  it was not stopped cleanly: only then a record counts
std::string intent_lines_of(const Configuration& configuration, bool unclean,
                            const std::vector<NewestIntent>& newest);

nlohmann::ordered_json intent_json(const MemberFindings& findings,
                                   const std::vector<NewestIntent>& newest);
nlohmann::ordered_json intent_json(const Configuration& configuration,
                                   const std::vector<NewestIntent>& newest);
nlohmann::ordered_json bad_rows_json(const Configuration& configuration);

}  // namespace braid::cli
