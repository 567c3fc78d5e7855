// The matrix-unit engine of weight_grad.cu: f16 and bf16.
//
// A tap's gradient is a sum along a diagonal of
//   D[i, n] += sum over lines and blocks b of 8 pixels:  x[line + a, 8 b + start + i] grad[line, 8 b + n]
// a [64, 8] product whose inner dimension runs over every line and block: four accumulator tiles hold it while the whole
// batch streams by, and the diagonals are summed once, at the end. Tile i of block b is a product with the 16 pixels of x
// that begin at block v = b + 2 i of them, so each left factor is read once for up to four products, and the right
// factors, 64 pixels of the gradient, stay in registers for all taps across. A warp owns one channel.
//
// The square kernel's gradient is one more such tile per tap across, of the same x and another gradient.
#pragma once
#include "lines.cuh"
#include "weight_grad.cuh"

namespace sw::cuda {

template <typename T>
struct MmaGradient {
    using Scalar = T;
    static constexpr bool oriented = true;  // windows have the lines of one direction, with zeros between them
    static constexpr int warps = 8, least_blocks = 2, blocks_wanted = 2;  // per multiprocessor
    static constexpr int tiles = 4, blocks = 8, span = 16 * tiles, most_slack = 3, taps = span - 7 - most_slack;
    static constexpr int unit_step = 2, most_plane_bits = 2, block = 8, stride_step = 4;
    static constexpr int scratch_rows = span + 16, scratch_words = warps * scratch_rows * 8;
    static constexpr bool scratch_stays = false;

    float sums[across_per_block][tiles][4], square_sums[across_per_block][4];
    uint32_t todo;  // bit [b, i]: that product has pixels of the gradient, of x, and taps

    // Where gradient pixel 0 begins to meet x, for tap 0 at `reach`. Words of two pixels are copied from even ones; and
    // 8 pixels with those beside them have to fit into 16 from a block on.
    __host__ __device__ static int start(int reach, bool square_rides) {
        const int even = reach - (reach & 1);
        return square_rides && even % 8 == 0 ? even - 2 : even;
    }

    // How many pixels of x, from there on, meet the gradient.
    __host__ __device__ static int needed(int grad_count, int along_taps) {
        return grad_count + round_up(along_taps + most_slack + 7, 16) - 8;
    }

    static int plane_size(int words, int, int) { return round_up(words + 4, 32) + 4; }

    __device__ void start(const Chunk& c, uint32_t*) {
#pragma unroll
        for (int a = 0; a < across_per_block; ++a)
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                square_sums[a][k] = 0.0f;
#pragma unroll
                for (int i = 0; i < tiles; ++i) sums[a][i][k] = 0.0f;
            }
        const int lane = threadIdx.x % 32, b = lane / tiles, i = lane % tiles, first = c.x_start + 8 * (b + 2 * i);
        todo = ballot(8 * b < c.grad_count && 16 * i < c.along_taps + c.slack + 7 && first + 16 > 0 && first < c.x_count);
    }

    __device__ static constexpr int bit(int b, int i) { return b * tiles + i; }

    __device__ static constexpr uint32_t products_of(int v) {
        uint32_t mask = 0;
        for (int i = 0; i < tiles; ++i)
            if (v >= 2 * i && v - 2 * i < blocks) mask |= 1u << bit(v - 2 * i, i);
        return mask;
    }

    __device__ void accumulate(const Chunk& c, const Stage& stage, uint32_t*) {
        const int lane = threadIdx.x % 32, channels = 2 << c.plane_bits, channel = warp_index() & (channels - 1);
        const auto row_of_matrix = [&](const uint32_t* words, int plane_size, int stride, int unit, int block) {
            const int plane = (unit << c.plane_bits) + channel / 2;
            return shared_address(words + plane * plane_size + lane % 8 * stride + 8 * block + channel % 2 * 4);
        };
#pragma unroll 1
        for (int unit = warp_index() / channels * 2; unit < c.units; unit += 2 * warps / channels) {
            // Of the four matrices [8 lines, 8 pixels] that a lane reads a row of: as one left factor takes them, and as
            // two right ones do.
            const SharedAddress x = row_of_matrix(stage.x, c.x_plane, c.x_across, unit + lane / 16, lane / 8 % 2);
            const auto right_factors = [&](const uint32_t* grad) {
                return row_of_matrix(grad, c.grad_plane, c.grad_across, unit + lane / 8 % 2, lane / 16);
            };
            multiply(x + 4 * c.x_start, 4 * c.x_across, right_factors(stage.grad), c.grad_count,
                     shared_address(stage.x - 8));
            if (c.square_rides)
                multiply_square(x + 4 * c.square_start, 4 * c.x_across, right_factors(stage.square), c.grad_count);
        }
    }

    // Whatever of a product lies outside of the map or of the taps meets zeros, or is never read.
    __device__ void multiply(SharedAddress x, uint32_t next_line, SharedAddress grad, int grad_count,
                             SharedAddress zeros) {
        uint32_t right[blocks / 2][4];
#pragma unroll
        for (int p = 0; p < blocks / 2; ++p) {
            const bool inside = 16 * p + threadIdx.x % 32 / 16 * 8 < grad_count;
            load_matrices_transposed(right[p], inside ? grad + 64 * p : zeros);
        }
#pragma unroll
        for (int v = 0; v < blocks + 2 * (tiles - 1); ++v) {
            if (!(todo & products_of(v))) continue;
#pragma unroll
            for (int a = 0; a < across_per_block; ++a) {
                uint32_t left[4];
                load_matrices_transposed(left, x + a * next_line + 32 * v);
#pragma unroll
                for (int i = 0; i < tiles; ++i) {
                    const int b = v - 2 * i;
                    if (b >= 0 && b < blocks)
                        mma(sums[a][i], left, {right[b / 2][b % 2 * 2], right[b / 2][b % 2 * 2 + 1]}, T());
                }
            }
        }
    }

    __device__ void multiply_square(SharedAddress x, uint32_t next_line, SharedAddress grad, int grad_count) {
        uint32_t right[4];
#pragma unroll
        for (int b = 0; b < blocks; ++b) {
            if (8 * b >= grad_count) break;
            if (b % 2 == 0) load_matrices_transposed(right, grad + 32 * b);
#pragma unroll
            for (int a = 0; a < across_per_block; ++a) {
                uint32_t left[4];
                load_matrices_transposed(left, x + a * next_line + 32 * b);
                mma(square_sums[a], left, {right[b % 2 * 2], right[b % 2 * 2 + 1]}, T());
            }
        }
    }

    // Sums the diagonals, each in one fixed order, and hands every tap to emit(of the square, channel, a, m, value).
    template <typename Emit>
    __device__ void finish(const Chunk& c, uint32_t* scratch, Emit emit) {
        const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, channels = 2 << c.plane_bits;
        float* const all = reinterpret_cast<float*>(scratch);
        const auto write = [&](int row, const float (&d)[4]) {
            float* target = all + (warp_index() * scratch_rows + row + g) * 8 + 2 * t;
#pragma unroll
            for (int k = 0; k < 4; ++k) target[k / 2 * 64 + k % 2] = d[k];
        };
        const auto diagonal = [&](int channel, int row) {
            float sum = 0.0f;
            for (int warp = channel; warp < warps; warp += channels)
                for (int n = 0; n < 8; ++n) sum += all[(warp * scratch_rows + row + n) * 8 + n];
            return sum;
        };
#pragma unroll
        for (int a = 0; a < across_per_block; ++a) {
            if (a >= c.across_taps) break;
#pragma unroll
            for (int i = 0; i < tiles; ++i) write(16 * i, sums[a][i]);
            write(span, square_sums[a]);
            __syncthreads();
            for (int e = threadIdx.x; e < channels * c.along_taps; e += 32 * warps) {
                const int channel = e / c.along_taps, m = e - channel * c.along_taps;
                emit(false, channel, a, m, diagonal(channel, c.slack + m));
            }
            if (c.square_rides)
                for (int e = threadIdx.x; e < channels * c.across_taps; e += 32 * warps) {
                    const int channel = e / c.across_taps, m = e - channel * c.across_taps;
                    emit(true, channel, a, m, diagonal(channel, span + c.square_slack + m));
                }
            __syncthreads();
        }
    }
};

}  // namespace sw::cuda
