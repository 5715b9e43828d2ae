// SPDX-License-Identifier: BSD-3-Clause
// The table of kernels: each against the scalar one on random jobs, and BRAID_KERNEL.
#include "parity/kernels.h"

#include "tests/parity/strips.h"

namespace braid::parity::test {
namespace {

class Kernels : public EveryKernel {};
BRAID_EVERY_KERNEL(Kernels);

struct Job {
    explicit Job(std::uint64_t seed)
        : random{seed}, stripe{1 + random() % 40, 64 * (1 + random() % 70), seed, random() % 64} {
        sources = stripe.sources();
        for (const std::byte*& source : sources) {
            if (random() % 8 == 0) source = nullptr;
        }
    }
    std::mt19937_64 random;
    Stripe stripe;
    std::vector<const std::byte*> sources;
    std::size_t size() const { return stripe.p.size(); }
};

TEST_P(Kernels, AgreesWithTheReferenceOnRandomJobs) {
    for (std::uint64_t seed = 0; seed != 300; ++seed) {
        SCOPED_TRACE(seed);
        Job job(seed);
        Bytes p(job.size());
        Bytes q(job.size());
        Bytes p_right(job.size());
        Bytes q_right(job.size());
        GenerateJob generate{.p = p.data(),
                             .q = q.data(),
                             .data = job.sources,
                             .size = job.size(),
                             .streamed = job.random() % 2 == 0};
        GetParam()->generate(generate);
        generate.p = p_right.data();
        generate.q = q_right.data();
        kernel_scalar.generate(generate);
        ASSERT_EQ(p, p_right);
        ASSERT_EQ(q, q_right);

        UpdateJob update{.p = p.data(),
                         .q = q.data(),
                         .factor = static_cast<std::uint8_t>(job.random()),
                         .old_data = job.sources.front(),
                         .new_data = job.sources.back(),
                         .size = job.size()};
        GetParam()->update(update);
        update.p = p_right.data();
        update.q = q_right.data();
        kernel_scalar.update(update);
        ASSERT_EQ(p, p_right);
        ASSERT_EQ(q, q_right);

        const Bytes p_read = p;
        const Bytes q_read = q;
        RecoverJob recover{.first = p.data(),
                           .second = q.data(),
                           .data = job.sources,
                           .p = job.random() % 4 == 0 ? nullptr : p_read.data(),
                           .q = job.random() % 4 == 0 ? nullptr : q_read.data(),
                           .from_p = static_cast<std::uint8_t>(job.random()),
                           .from_q = static_cast<std::uint8_t>(job.random()),
                           .second_adds_first = job.random() % 2 == 0,
                           .size = job.size(),
                           .streamed = job.random() % 2 == 0};
        GetParam()->recover(recover);
        recover.first = p_right.data();
        recover.second = q_right.data();
        kernel_scalar.recover(recover);
        ASSERT_EQ(p, p_right);
        ASSERT_EQ(q, q_right);
    }
}

TEST(KernelTable, EndsWithTheReferenceThatAlwaysWorks) {
    EXPECT_STREQ(kernels().back().name, "scalar");
    EXPECT_TRUE(kernels().back().usable());
    EXPECT_TRUE(kernel().usable());
}

/// What a process started with this BRAID_KERNEL would say; the choice is made once a process.
void exit_with_choice(const char* name) {
    setenv("BRAID_KERNEL", name, 1);
    const char* error = kernel_error();
    std::fprintf(stderr, "%s: %s\n", kernel_name(), error != nullptr ? error : "no error");
    std::exit(0);
}

TEST(KernelDeathTest, EnvironmentChooses) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe";  // a new process, with no choice made
    EXPECT_EXIT(exit_with_choice("scalar"), testing::ExitedWithCode(0), "scalar: no error");
    EXPECT_EXIT(exit_with_choice("mmx"), testing::ExitedWithCode(0), "names no kernel");
    EXPECT_EXIT(exit_with_choice(""), testing::ExitedWithCode(0), "no error");
    for (const Kernel& entry : kernels()) {
        const std::string said = std::string(entry.usable() ? entry.name : "") +
                                 (entry.usable() ? ": no error" : "cannot run");
        EXPECT_EXIT(exit_with_choice(entry.name), testing::ExitedWithCode(0), said);
    }
}

}  // namespace
}  // namespace braid::parity::test
