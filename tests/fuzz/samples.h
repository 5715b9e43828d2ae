// SPDX-License-Identifier: BSD-3-Clause
// What a fuzz target gives to the driver to start from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

/// Valid or nearly valid inputs; the driver mutates them. libFuzzer does not need them.
std::vector<std::string> fuzz_samples();

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
