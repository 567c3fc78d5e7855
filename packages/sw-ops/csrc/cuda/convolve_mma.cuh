// The matrix-unit engine of convolve.cu: f16 and bf16.
//
// Along the stripe, the convolution of a row of pixels is a product with a banded Toeplitz matrix, whose 8x8 blocks
// depend on their distance from the diagonal alone. So a whole matrix lives in a few registers per lane ("toeplitz"
// below, from 16-bit pairs prepared in the bank), and only the maps are read from shared memory:
//   horizontal   D[row, column] += X[row + a, k] T[k, column]     the map is the left factor
//   vertical     D[row, column] += T[row, k] X[k, column + a]     the map is the right factor
// Both leave the same accumulators, so they add up in registers. A warp owns the two channels of one word.
//
// The order of k inside a product is free if both factors agree. A lane pairs columns (t, t + 4) or rows (2t, 2t + 1):
// with a plane's stride an odd multiple of 4, its 32 reads then hit 32 different banks in either direction.
#pragma once
#include "convolve.cuh"
#include "matrix_unit.cuh"

namespace sw::cuda {

// A warp's tile is [Size, Size] pixels; windows are at most `Reach` long.
template <typename T, int Size, int Reach, int BlocksPerSm>
struct MmaConvolve {
    using Scalar = T;
    static constexpr int size = Size, reach = Reach, blocks_per_sm = BlocksPerSm;
    static constexpr int stride_step = 4, window_step = 8;
    static constexpr int bank_front = 16, bank_back = 16;
    static constexpr int row_tiles = Size / 16, column_tiles = Size / 8, reach_tiles = Reach / 16;
    static constexpr int diagonals = 2 * reach_tiles + column_tiles - 1, main_diagonal = column_tiles - 1;

    // Results leave 8 rows at a time, through two stages that take turns.
    static constexpr int stage_stride = Size + 8, stage_size = 8 * stage_stride + 4, stage_turns = 2;
    static constexpr bool stage_may_cover_windows = true;

    float sums[2][row_tiles][column_tiles][4];

    // A vertical stripe pairs neighbouring rows, a horizontal one columns that are 4 apart.
    __device__ static uint32_t bank_word(const Taps<T>& taps, int m, bool vertical) {
        return taps[m] | taps[m + (vertical ? 1 : 4)] << 16;
    }

    __device__ void start(uint32_t*, const T* bias, int channel, int channels) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
            const float value = bias && channel + c < channels ? static_cast<float>(bias[channel + c]) : 0.0f;
#pragma unroll
            for (int i = 0; i < row_tiles; ++i)
#pragma unroll
                for (int j = 0; j < column_tiles; ++j)
#pragma unroll
                    for (int k = 0; k < 4; ++k) sums[c][i][j][k] = value;
        }
    }

    // Adds what the window gives to the tile at (row, column); `bank` holds this warp's two channels.
    __device__ void accumulate(const Window& window, const Stripe& s, const uint32_t* bank, const Extent& extent,
                               int row, int column) {
        const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
        const int columns = extent.width - column;  // to the map's end
        const int bank_stride = bank_row<MmaConvolve>(s);
        const int first = s.anchor + window.along - (s.vertical ? row : column) - 8 * main_diagonal;
        const uint32_t* word = bank + bank_front + first + (s.vertical ? 2 * t : t) - g;
        uint32_t live = 0;  // bit i: diagonal i holds taps
#pragma unroll
        for (int i = 0; i < diagonals; ++i)
            live |= static_cast<uint32_t>(first + 8 * i + 7 >= 0 && first + 8 * i - 7 < s.length) << i;
        const int first_row = s.vertical ? window.along + 2 * t : row - s.centre + g;
        const int first_column = s.vertical ? column - s.centre + g : window.along + t;
        const uint32_t* x = window.words + (first_row - window.row) * window.stride + first_column - window.column;
        for (int a = 0; a < s.thickness; ++a) {
            uint32_t toeplitz[2][diagonals];
#pragma unroll
            for (int i = 0; i < diagonals; ++i)
#pragma unroll
                for (int c = 0; c < 2; ++c)
                    toeplitz[c][i] = live >> i & 1 ? word[8 * i + c * s.thickness * bank_stride] : 0;
            if (s.vertical)
                multiply_vertical(window, x, toeplitz, live, columns);
            else
                multiply_horizontal(window, x, toeplitz, live, columns);
            word += bank_stride;
            x += s.vertical ? 1 : window.stride;
        }
    }

    __device__ void multiply_horizontal(const Window& window, const uint32_t* x, const uint32_t (&toeplitz)[2][diagonals],
                                        uint32_t live, int columns) {
#pragma unroll
        for (int k = 0; k < reach_tiles; ++k) {
            if (16 * k >= window.count) break;
            const bool upper = 16 * k + 8 < window.count;
#pragma unroll
            for (int i = 0; i < row_tiles; ++i) {
                uint32_t left[2][4];
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const uint32_t* p = x + (16 * i + 8 * half) * window.stride + 16 * k;
                    const uint32_t* q = upper ? p + 8 : window.zeros;
                    split(p[0], p[4], left[0][half], left[1][half]);
                    split(q[0], q[4], left[0][2 + half], left[1][2 + half]);
                }
#pragma unroll
                for (int j = 0; j < column_tiles; ++j) {
                    const int d = main_diagonal + 2 * k - j;
                    if (8 * j >= columns || !(live >> d & 3)) continue;
#pragma unroll
                    for (int c = 0; c < 2; ++c) mma(sums[c][i][j], left[c], {toeplitz[c][d], toeplitz[c][d + 1]}, T());
                }
            }
        }
    }

    __device__ void multiply_vertical(const Window& window, const uint32_t* x, const uint32_t (&toeplitz)[2][diagonals],
                                      uint32_t live, int columns) {
#pragma unroll
        for (int k = 0; k < reach_tiles; ++k) {
            if (16 * k >= window.count) break;
            const bool upper = 16 * k + 8 < window.count;
            const uint32_t* p0 = x + 16 * k * window.stride;
            const uint32_t* p1 = p0 + window.stride;
            const uint32_t* q0 = upper ? p0 + 8 * window.stride : window.zeros;
            const uint32_t* q1 = upper ? p1 + 8 * window.stride : window.zeros;
#pragma unroll
            for (int j = 0; j < column_tiles; ++j) {
                uint32_t right[2][2];
                split(p0[8 * j], p1[8 * j], right[0][0], right[1][0]);
                split(q0[8 * j], q1[8 * j], right[0][1], right[1][1]);
#pragma unroll
                for (int i = 0; i < row_tiles; ++i) {
                    const int d = main_diagonal + 2 * k - 2 * i;
                    if (8 * j >= columns || !(live >> (d - 1) & 7)) continue;
#pragma unroll
                    for (int c = 0; c < 2; ++c)
                        mma(sums[c][i][j], {toeplitz[c][d], toeplitz[c][d - 1], toeplitz[c][d + 1], toeplitz[c][d]},
                            right[c], T());
                }
            }
        }
    }

    // Block-wide: each warp's tile leaves through `stage`, where it has plane number `warp`.
    template <typename Origin>
    __device__ void store(uint32_t* stage, int plane_bits, const DeviceView& map, const Extent& extent, int channel,
                          int tile_bits, Origin origin) const {
        const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
        const int first_row = origin(0).row, warps = blockDim.x / 32;
        __syncthreads();  // the stage may lie over a window
#pragma unroll
        for (int half = 0; half < 2 * row_tiles; ++half) {
            if (first_row + 8 * half >= extent.height) break;
            uint32_t* turn = stage + half % stage_turns * warps * stage_size;
            uint32_t* target = turn + warp_index() * stage_size + g * stage_stride + 2 * t;
#pragma unroll
            for (int j = 0; j < column_tiles; ++j) {
                const int i = half / 2, k = half % 2 * 2;
                *reinterpret_cast<uint2*>(target + 8 * j) =
                    make_uint2(pack(sums[0][i][j][k], sums[1][i][j][k], T()),
                               pack(sums[0][i][j][k + 1], sums[1][i][j][k + 1], T()));
            }
            __syncthreads();
            store_tiles<T>(turn, {stage_stride, stage_size}, plane_bits, map, extent, channel, tile_bits, 3, Size,
                           [&](int tile) {
                               Tile to = origin(tile);
                               to.row += 8 * half;
                               return to;
                           });
        }
    }
};

}  // namespace sw::cuda
