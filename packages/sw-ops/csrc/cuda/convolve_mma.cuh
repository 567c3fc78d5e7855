// The matrix-unit engine of convolve.cu: f16 and bf16.
//
// Along the stripe, the convolution of a line of pixels is a product with a banded Toeplitz matrix, whose 8x8 blocks
// depend on their distance from the diagonal alone. So a whole matrix lives in a few registers per lane ("toeplitz"
// below, from 16-bit pairs prepared in the bank), and only the maps are read from shared memory, four matrices at once:
//   horizontal   D[row, column] += X[row + a, k] T[k, column]     the map is the left factor
//   vertical     D[row, column] += T[row, k] X[k, column + a]     the map is the right factor
// Both leave the same accumulators, so they add up in registers. A warp owns the two channels of a plane.
#pragma once
#include "convolve.cuh"
#include "lines.cuh"

namespace sw::cuda {

// A warp's tile is [Size, Size] pixels; windows are at most `Reach` long.
template <typename T, int Size, int Reach, int LeastBlocks>
struct MmaConvolve {
    using Scalar = T;
    static constexpr int size = Size, reach = Reach, warp_bits = 4, least_blocks = LeastBlocks;
    static constexpr int warp_bits_wanted = LeastBlocks == 1 ? 3 : 4, blocks_wanted = 2;  // per multiprocessor
    static constexpr bool oriented = true;  // a window has the lines of one direction
    static constexpr int window_step = 8, stride_step = 4;
    static constexpr int bank_front = 16, bank_back = 16;
    static constexpr int row_tiles = Size / 16, column_tiles = Size / 8, reach_tiles = Reach / 16;
    static constexpr int diagonals = 2 * reach_tiles + column_tiles - 1, main_diagonal = column_tiles - 1;

    // Results leave 4 rows at a time.
    static constexpr int stage_rows = 4, stage_stride = Size + 8, stage_size = stage_rows * stage_stride + 4;

    float sums[2][row_tiles][column_tiles][4];

    __device__ static uint32_t bank_word(const Taps<T>& taps, int m) { return taps[m] | taps[m + 1] << 16; }

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
        uint32_t live = 0;  // bit i: diagonal i holds taps
#pragma unroll
        for (int i = 0; i < diagonals; ++i)
            live |= static_cast<uint32_t>(first + 8 * i + 7 >= 0 && first + 8 * i - 7 < s.length) << i;
        // Bit [k, i, j]: that product has taps, pixels and columns of the map. The horizontal ones do not depend on i.
        uint32_t todo = 0;
#pragma unroll
        for (int k = 0; k < reach_tiles; ++k)
#pragma unroll
            for (int i = 0; i < row_tiles; ++i)
#pragma unroll
                for (int j = 0; j < column_tiles; ++j) {
                    const int d = main_diagonal + 2 * k;
                    const uint32_t taps = s.vertical ? live >> (d - 2 * i - 1) & 7 : live >> (d - j) & 3;
                    todo |= static_cast<uint32_t>(taps && 16 * k < window.count && 8 * j < columns) << bit(k, i, j);
                }
        // Of the four matrices [8 lines, 8 pixels] that a lane reads a row of: as a left factor takes them, lines before
        // pixels; as two right factors take them, pixels before lines.
        const bool upper = s.vertical ? lane / 8 % 2 : lane / 16;
        const int lower_line = lane % 8 + (s.vertical ? lane / 16 : lane / 8 % 2) * 8;
        const int line = (s.vertical ? column - window.column : row - window.row) - s.centre + lower_line;
        const int groups = (window.count + 7) / 8;
        Pixels pixels{shared_address(window.words + line * window.stride) + 16 * 2 * upper,
                      64u * static_cast<uint32_t>(window.stride), shared_address(window.zeros),
                      upper && groups % 2 ? groups / 2 : -1};
        const SharedAddress word = shared_address(bank + bank_front + first + 2 * t - g);
        const uint32_t next_line = 4 * window.stride, next_row = 4 * bank_stride, next_channel = s.thickness * next_row;
        if (s.vertical)
            multiply_vertical(pixels, next_line, word, next_row, next_channel, s.thickness, live, todo);
        else
            multiply_horizontal(pixels, next_line, word, next_row, next_channel, s.thickness, live, todo);
    }

    __device__ static constexpr int bit(int k, int i, int j) { return (k * row_tiles + i) * column_tiles + j; }

    static constexpr uint32_t step_mask = (2u << (row_tiles * column_tiles - 1)) - 1;  // of all products of a k

    // Where a lane reads the rows of matrices, in bytes of shared memory.
    struct Pixels {
        SharedAddress first;
        uint32_t next_tile;  // from a line to that 16 lines on
        SharedAddress zeros;
        int last;  // the step whose second 8 pixels lie behind the window, for the lanes that read them; or -1

        __device__ void load(uint32_t (&words)[4], int k, int tile, int channel_offset) const {
            load_matrices(words, k == last ? zeros : first + (64 * k + channel_offset) + tile * next_tile);
        }
    };

    // Factors as instructions take them, in registers side by side; those without taps stay zero.

    __device__ void multiply_horizontal(Pixels pixels, uint32_t next_line, SharedAddress word, uint32_t next_row,
                                        uint32_t next_channel, int thickness, uint32_t live, uint32_t todo) {
        uint32_t right[diagonals - 1][2] = {};
        for (int a = 0; a < thickness; ++a, word += next_row, pixels.first += next_line)
#pragma unroll
            for (int c = 0; c < 2; ++c) {
                forget(live);
                forget(todo);
#pragma unroll
                for (int d = 0; d < diagonals - 1; ++d)
#pragma unroll
                    for (int i = 0; i < 2; ++i)
                        if (live >> (d + i) & 1) right[d][i] = load_word(word + 32 * (d + i) + c * next_channel);
#pragma unroll
                for (int k = 0; k < reach_tiles; ++k) {
                    if (!(todo & step_mask << bit(k, 0, 0))) continue;
                    uint32_t left[row_tiles][4];
#pragma unroll
                    for (int i = 0; i < row_tiles; ++i) pixels.load(left[i], k, i, 16 * c);
#pragma unroll
                    for (int j = 0; j < column_tiles; ++j)
                        if (todo >> bit(k, 0, j) & 1)
#pragma unroll
                            for (int i = 0; i < row_tiles; ++i)
                                mma(sums[c][i][j], left[i], right[main_diagonal + 2 * k - j], T());
                }
            }
    }

    __device__ void multiply_vertical(Pixels pixels, uint32_t next_line, SharedAddress word, uint32_t next_row,
                                      uint32_t next_channel, int thickness, uint32_t live, uint32_t todo) {
        constexpr int count = reach_tiles + row_tiles - 1, first = main_diagonal - 2 * (row_tiles - 1);
        uint32_t left[count][4] = {};
        for (int a = 0; a < thickness; ++a, word += next_row, pixels.first += next_line)
#pragma unroll
            for (int c = 0; c < 2; ++c) {
                forget(live);
                forget(todo);
#pragma unroll
                for (int n = 0; n < count; ++n)
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        const int d = first + 2 * n + (i == 1 ? -1 : i == 2 ? 1 : 0);
                        if (live >> d & 1) left[n][i] = load_word(word + 32 * d + c * next_channel);
                    }
#pragma unroll
                for (int k = 0; k < reach_tiles; ++k) {
                    if (!(todo & step_mask << bit(k, 0, 0))) continue;
#pragma unroll
                    for (int pair = 0; pair < column_tiles / 2; ++pair) {
                        uint32_t words[4];
                        pixels.load(words, k, pair, 16 * c);
#pragma unroll
                        for (int i = 0; i < row_tiles; ++i)
#pragma unroll
                            for (int j = 2 * pair; j < 2 * pair + 2; ++j)
                                if (todo >> bit(k, i, j) & 1)
                                    mma(sums[c][i][j], left[k - i + row_tiles - 1],
                                        {words[2 * (j % 2)], words[2 * (j % 2) + 1]}, T());
                    }
                }
            }
    }

    // Block-wide: each warp's tile leaves through `stage`, where it has plane number `warp`.
    template <typename Origin>
    __device__ void store(uint32_t* stage, int plane_bits, const DeviceView& map, const Extent& extent, int channel,
                          int tile_bits, Origin origin) const {
        const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
        const int first_row = origin(0).row;
        uint32_t* target = stage + warp_index() * stage_size + g % 4 * stage_stride;
        const PlaneShape shape{stage_stride, stage_size};
#pragma unroll
        for (int i = 0; i < row_tiles; ++i)
#pragma unroll
            for (int quarter = 0; quarter < 4; ++quarter) {
                const int row = 16 * i + stage_rows * quarter, k = quarter / 2 * 2;
                if (first_row + row >= extent.height) return;
                __syncthreads();  // nobody reads the stage any more
                if (g / 4 == quarter % 2) {
#pragma unroll
                    for (int j = 0; j < column_tiles; ++j)
                        if (map.pixel_pairs) {
#pragma unroll
                            for (int c = 0; c < 2; ++c)
                                target[c * Size / 2 + 4 * j + t] = pack(sums[c][i][j][k], sums[c][i][j][k + 1], T());
                        } else {
                            *reinterpret_cast<uint2*>(target + 8 * j + 2 * t) =
                                make_uint2(pack(sums[0][i][j][k], sums[1][i][j][k], T()),
                                           pack(sums[0][i][j][k + 1], sums[1][i][j][k + 1], T()));
                        }
                }
                __syncthreads();
                const auto place = [&](int tile) {
                    Tile to = origin(tile);
                    to.row += row;
                    return to;
                };
                if (map.pixel_pairs)
                    store_pixel_pairs(stage, shape, plane_bits, map, extent, channel, tile_bits, stage_rows, Size, place);
                else
                    store_tiles<T>(stage, shape, plane_bits, map, extent, channel, tile_bits, 2, Size, place);
            }
    }
};

}  // namespace sw::cuda
