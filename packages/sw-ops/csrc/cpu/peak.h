// What this machine could do at most, for the bench to compare with.
#pragma once
#include "partition.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

int64_t multiply_adds(int threads) {
    constexpr int chains = 10;  // enough to hide the latency of each, few enough for the registers
    constexpr int64_t steps = 1 << 15;
    parallel(threads, threads, [&](int64_t) {
        const Vector<float> factor = Vector<float>{} + 1.0f / static_cast<float>(threads + 1);
        Vector<float> sum[chains];
        for (int k = 0; k < chains; ++k) sum[k] = factor * static_cast<float>(k);  // all alike would be computed once
        for (int64_t step = 0; step < steps; ++step) {
            unroll<chains>([&](auto k) SW_INLINE_LAMBDA {
                sum[k] = sum[k] * factor + factor;
            });
        }
        std::memcpy(thread_scratch(sizeof sum), sum, sizeof sum);  // or the compiler would leave them out
    });
    return threads * steps * chains * lanes<float>;
}

}  // namespace sw::cpu::SW_INSTRUCTION_SET
