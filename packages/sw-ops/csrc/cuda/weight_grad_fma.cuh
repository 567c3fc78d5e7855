// The plain engine of weight_grad.cu: f32.
//
// A lane owns one line and 16 taps at a time: per pixel one read of x, one of the gradient and 16 multiply-adds. The
// lanes' sums meet by shuffles after every chunk, and the chunks' in shared memory, where each tap has one writer.
#pragma once
#include "weight_grad.cuh"

namespace sw::cuda {

struct FmaGradient {
    using Scalar = float;
    static constexpr bool oriented = false;
    static constexpr int warps = 12, least_blocks = 1, blocks_wanted = 1;  // per multiprocessor
    static constexpr int taps = 64, unit_step = 4, stride_step = 1, block = 1;
    static constexpr int most_plane_bits = 3, group = 16;
    static constexpr int scratch_words = across_per_block * taps << most_plane_bits;
    static constexpr bool scratch_stays = true;

    __host__ __device__ static int start(int reach, bool) { return reach; }
    __host__ __device__ static int needed(int grad_count, int along_taps) { return grad_count + along_taps - 1; }

    // Lines of neighbouring units should lie in different banks, as those of one unit do.
    static int plane_size(int words, int across, int plane_bits) {
        while (((words << plane_bits) - lines_per_unit * across) % 32) ++words;
        return words;
    }

    __device__ void start(const Chunk&, uint32_t* scratch) {
        for (int i = threadIdx.x; i < scratch_words; i += blockDim.x) scratch[i] = 0;
    }

    __device__ void accumulate(const Chunk& agreed, const Stage& stage, uint32_t* scratch) {
        const Chunk c = agreed;  // which the sums in shared memory cannot change
        const int lane = threadIdx.x % 32, unit = lane / lines_per_unit, line = lane % lines_per_unit;
        for (int task = warp_index(); task < c.across_taps << c.plane_bits; task += warps) {
            const int plane = task & ((1 << c.plane_bits) - 1), a = task >> c.plane_bits;
            for (int first = 0; first < c.units; first += unit_step) {
                const int number = ((first + unit) << c.plane_bits) + plane;
                const auto* x = reinterpret_cast<const float*>(stage.x) + number * c.x_plane + (line + a) * c.x_across;
                const auto* grad =
                    reinterpret_cast<const float*>(stage.grad) + number * c.grad_plane + line * c.grad_across;
                auto* target = reinterpret_cast<float*>(scratch) + task * taps;
                for (int m = 0; m < c.along_taps; m += group) {
                    const float sum = correlate(c, x, grad, c.x_start + m);
                    if (lane % 2 == 0) target[m + lane / 2] += sum;
                }
            }
        }
    }

    // The sum over all lanes and pixels for tap `lane / 2` of 16.
    __device__ static float correlate(const Chunk& c, const float* x, const float* grad, int start) {
        const auto at = [&](int i) { return i >= 0 && i < c.x_count ? x[i * c.x_along] : 0.0f; };
        float ring[group], sums[group] = {};
#pragma unroll
        for (int i = 0; i < group - 1; ++i) ring[i] = at(start + i);
        for (int q = 0; q < c.grad_count; q += group)
#pragma unroll
            for (int j = 0; j < group; ++j) {
                ring[(j + group - 1) % group] = at(start + q + j + group - 1);
                const float weight = q + j < c.grad_count ? grad[(q + j) * c.grad_along] : 0.0f;
#pragma unroll
                for (int i = 0; i < group; ++i) sums[i] += weight * ring[(j + i) % group];
            }
        // Every exchange halves the taps that a lane still holds and doubles the lanes in their sums.
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int half = group / 2; half >= 1; half /= 2) {
            const bool upper = lane & 2 * half;
#pragma unroll
            for (int i = 0; i < half; ++i) {
                const float kept = upper ? sums[i + half] : sums[i], sent = upper ? sums[i] : sums[i + half];
                sums[i] = kept + __shfl_xor_sync(0xffffffffu, sent, 2 * half);
            }
        }
        return sums[0] + __shfl_xor_sync(0xffffffffu, sums[0], 1);
    }

    template <typename Emit>
    __device__ void finish(const Chunk& c, uint32_t* scratch, Emit emit) {
        for (int e = threadIdx.x; e < (c.across_taps << c.plane_bits) * taps; e += blockDim.x) {
            const int m = e % taps, task = e / taps;
            if (m < c.along_taps)
                emit(false, task & ((1 << c.plane_bits) - 1), task >> c.plane_bits, m, reinterpret_cast<float*>(scratch)[e]);
        }
    }
};

}  // namespace sw::cuda
