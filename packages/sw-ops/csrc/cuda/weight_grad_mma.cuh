// The matrix-unit engine of weight_grad.cu: f16 and bf16.
//
// With i = w - q + anchor - m0 measured from an 8-wide block of the gradient, tap m0 + i - n is a sum along a diagonal of
//   D[i, n] += sum over lines and blocks b:  x[line + a, 8 b + i - anchor + m0] grad[line, 8 b + n]
// which is one [64, 8] product whose inner dimension runs over every line and block. Four accumulator tiles hold it while
// the whole batch streams by; the diagonals are summed once, at the end.
//
// Rows g and g + 8 of accumulator tile k are i = 8 k + g and 8 (k + 4) + g. Gradient block b then needs, for tile k, the
// blocks b + k and b + k + 4 of x, which gradient block b + 1 needs again for tile k - 1: operands pass from tile to tile,
// and only one is new per step. A lane pairs lines as convolve_mma.cuh pairs pixels, for the same banks.
#pragma once
#include "matrix_unit.cuh"
#include "weight_grad.cuh"

namespace sw::cuda {

template <typename T>
struct MmaGradient {
    using Scalar = T;
    static constexpr int taps = 57, span = 64, unit_step = 2, stride_step = 4, block = 8;
    static constexpr int blocks = 8, tiles = span / 16, rounds = 2, scratch_words = gradient_warps * span * 8;
    static constexpr int most_plane_bits = 3;  // rounds * gradient_warps / across_per_block planes

    float sums[rounds][2][tiles][4];

    static int plane_size(int words, int, int) { return round_up(words, 32) + 4; }

    __device__ void start(uint32_t*) {
#pragma unroll
        for (int r = 0; r < rounds; ++r)
#pragma unroll
            for (int c = 0; c < 2; ++c)
#pragma unroll
                for (int i = 0; i < tiles; ++i)
#pragma unroll
                    for (int k = 0; k < 4; ++k) sums[r][c][i][k] = 0.0f;
    }

    __device__ void accumulate(const Chunk& chunk, uint32_t*) {
#pragma unroll
        for (int r = 0; r < rounds; ++r) {
            const int task = warp_index() + r * gradient_warps;
            if (task >= chunk.across_taps << chunk.plane_bits) break;
#pragma unroll 1
            for (int unit = 0; unit < chunk.units; unit += 2) multiply(chunk, task, unit, sums[r]);
        }
    }

    __device__ static void multiply(const Chunk& c, int task, int unit, float (&d)[2][tiles][4]) {
        const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
        const int plane = (unit << c.plane_bits) + (task & ((1 << c.plane_bits) - 1)), a = task >> c.plane_bits;
        const bool rows = c.x_along == 1;  // lines are rows: pair (2t, 2t + 1), else (t, t + 4)
        const int line = rows ? 2 * t : t, gap = rows ? 1 : 4;
        const uint32_t *x[2][2], *grad[2][2];  // [unit, line]
#pragma unroll
        for (int u = 0; u < 2; ++u)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int p = plane + (u << c.plane_bits), l = line + i * gap;
                x[u][i] = c.x + p * c.x_plane + (l + a) * c.x_across + g * c.x_along;
                grad[u][i] = c.grad + p * c.grad_plane + l * c.grad_across + g * c.grad_along;
            }

        uint32_t left[2][blocks + tiles - 1][4];  // [channel, first of the two blocks of x]
        uint32_t live = 0;                        // bit v: block v of x has pixels
        const auto load = [&](int v, int half, int quad) {
            const int first = c.x_start + 8 * v;
            const bool inside = first >= 0 && first < c.x_count;
            live |= static_cast<uint32_t>(inside) << v;
            const unsigned bytes = 4u * ((inside ? first : c.x_zeros) * c.x_along);
#pragma unroll
            for (int u = 0; u < 2; ++u)
                split(word_at(x[u][0], bytes), word_at(x[u][1], bytes), left[0][quad][2 * u + half],
                      left[1][quad][2 * u + half]);
        };
#pragma unroll
        for (int v = 0; v < tiles; ++v) load(v, 0, v);
#pragma unroll
        for (int v = tiles; v < 2 * tiles - 1; ++v) load(v, 1, v - tiles);
#pragma unroll
        for (int b = 0; b < blocks; ++b) {
            if (8 * b >= c.grad_count) break;
            const int newest = b + tiles - 1;
            load(newest + tiles, 1, newest);
            uint32_t right[2][2];
            const unsigned bytes = 4u * (8 * b * c.grad_along);
#pragma unroll
            for (int u = 0; u < 2; ++u) {
                split(word_at(grad[u][0], bytes), word_at(grad[u][1], bytes), right[0][u], right[1][u]);
#pragma unroll
                for (int k = 0; k < 2 && b > 0; ++k)
                    left[k][newest][2 * u] = __byte_perm(left[k][b - 1][2 * u + 1], 0, c.keep);
            }
#pragma unroll
            for (int i = 0; i < tiles; ++i) {
                if (8 * i >= c.along_taps + 7 || !((live >> (b + i) | live >> (b + i + tiles)) & 1)) continue;
#pragma unroll
                for (int k = 0; k < 2; ++k) mma(d[k][i], left[k][b + i], right[k], T());
            }
        }
    }

    // In bytes, so that the address is one addition.
    __device__ static uint32_t word_at(const uint32_t* p, unsigned bytes) {
        return *reinterpret_cast<const uint32_t*>(reinterpret_cast<const char*>(p) + bytes);
    }

    // Sums the diagonals, each in one fixed order, and hands every tap to emit(plane, channel, a, m, value).
    template <typename Emit>
    __device__ void finish(const Chunk& chunk, uint32_t* scratch, Emit emit) {
        const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, warp = warp_index();
        float* d = reinterpret_cast<float*>(scratch) + warp * span * 8;
#pragma unroll
        for (int r = 0; r < rounds; ++r) {
            const int task = warp + r * gradient_warps;
            if (task >= chunk.across_taps << chunk.plane_bits) break;
#pragma unroll
            for (int c = 0; c < 2; ++c) {
#pragma unroll
                for (int i = 0; i < tiles; ++i)
#pragma unroll
                    for (int k = 0; k < 4; ++k) d[(8 * (i + k / 2 * tiles) + g) * 8 + 2 * t + k % 2] = sums[r][c][i][k];
                __syncwarp();
                for (int m = lane; m < chunk.along_taps; m += 32) {
                    float sum = 0.0f;
                    for (int n = 0; n < 8; ++n) sum += d[(m + n) * 8 + n];
                    emit(task & ((1 << chunk.plane_bits) - 1), c, task >> chunk.plane_bits, m, sum);
                }
                __syncwarp();
            }
        }
    }
};

}  // namespace sw::cuda
