// The matrix-unit engine of convolve.cu: f16 and bf16.
//
// Along the stripe, the convolution of a line of pixels is a product with a banded Toeplitz matrix, whose 8x8 blocks
// depend on their distance from the diagonal alone. So a whole matrix lives in a few registers per lane ("toeplitz"
// below, from 16-bit pairs prepared in the bank), and only the maps are read from shared memory, four matrices at once:
//   horizontal   D[row, column] += X[row + a, k] T[k, column]     the map is the left factor
//   vertical     D[row, column] += T[row, k] X[k, column + a]     the map is the right factor
// Both leave the same accumulators, so they add up in registers. A warp owns one channel, and as much of it as registers
// hold, of several images where maps are small: the more lines share a matrix, the less often it is read.
#pragma once
#include "convolve.cuh"
#include "lines.cuh"

namespace sw::cuda {

// A warp's tile is [Rows, Columns] pixels of `Images` images; windows are at most `Reach` long.
template <typename T, int Rows, int Columns, int Images, int Reach>
struct MmaConvolve {
    using Scalar = T;
    static constexpr int rows = Rows, columns = Columns, images = Images, reach = Reach, channel_bits = 1;
    static constexpr int warp_bits = 4, warp_bits_wanted = 3, blocks_wanted = 2;  // per multiprocessor
    static constexpr bool oriented = true;  // a window has the lines of one direction
    static constexpr int window_step = 8, stride_step = 4;
    static constexpr int bank_front = 16, bank_back = 16, bank_slack = 128;  // that no product needs, but a load may reach
    static constexpr int row_tiles = Rows / 16, column_tiles = Columns / 8, steps = Reach / 16;

    // Results leave by 8 rows of at most 32 columns.
    static constexpr int stage_rows = 8, stage_columns = Columns < 32 ? Columns : 32;
    static constexpr int stage_stride = stage_columns + 4, stage_size = stage_rows * stage_stride + 4;

    float sums[Images][row_tiles][column_tiles][4];

    __device__ static uint32_t bank_word(const Taps<T>& taps, int m) { return taps[m] | taps[m + 1] << 16; }

    __device__ void start(uint32_t*, const T* bias, int channel, int channels) {
        const float value = bias && channel < channels ? static_cast<float>(bias[channel]) : 0.0f;
#pragma unroll
        for (int n = 0; n < Images; ++n)
#pragma unroll
            for (int i = 0; i < row_tiles; ++i)
#pragma unroll
                for (int j = 0; j < column_tiles; ++j)
#pragma unroll
                    for (int k = 0; k < 4; ++k) sums[n][i][j][k] = value;
    }

    // Adds what the window gives to the tile at (row, column); `bank` holds this warp's channel.
    __device__ void accumulate(const Window& window, const Stripe& s, const uint32_t* bank, const Extent& extent,
                               int row, int column) {
        const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
        // Of the four matrices [8 lines, 8 pixels] that a lane reads a row of: as a left factor takes them, lines before
        // pixels; as two right factors take them, pixels before lines.
        const int upper = s.vertical ? lane / 8 % 2 : lane / 16;
        const int lower_line = lane % 8 + (s.vertical ? lane / 16 : lane / 8 % 2) * 8;
        const int line = (s.vertical ? column - window.column : row - window.row) - s.centre + lower_line;
        const Pixels pixels{shared_address(window.words + line * window.stride + 8 * upper),
                            4u * static_cast<uint32_t>(window.image_stride), 64u * static_cast<uint32_t>(window.stride)};
        const int distance = s.anchor + window.along - (s.vertical ? row : column);
        const SharedAddress word = shared_address(bank + bank_front + distance + 2 * t - g);
        // Where only half of the tile lies in the map, only it is worked on.
        if constexpr (Images == 1) {
            if (s.vertical && column + Columns / 2 >= extent.width)
                return multiply<true, column_tiles / 4>(pixels, window, s, word, distance);
            if (!s.vertical && row + Rows / 2 >= extent.height)
                return multiply<false, row_tiles / 2>(pixels, window, s, word, distance);
        }
        if (s.vertical)
            multiply<true, column_tiles / 2>(pixels, window, s, word, distance);
        else
            multiply<false, row_tiles>(pixels, window, s, word, distance);
    }

    // Where a lane reads the rows of matrices, in bytes of shared memory.
    struct Pixels {
        SharedAddress first;
        uint32_t next_image, next_tile;  // to the same line of the next image, and from a line to that 16 lines on

        __device__ void load(uint32_t (&words)[4], int step, int image, int tile) const {
            load_matrices(words, first + 64 * step + image * next_image + tile * next_tile);
        }
    };

    // Blocks of the Toeplitz matrix by their diagonal: block d - main_diagonal is 8 d pixels right of that for output 0.
    template <bool Vertical>
    static constexpr int main_diagonal = Vertical ? 2 * row_tiles - 1 : column_tiles - 1;

    // Output tiles along the stripe: of 8 columns, or of 16 rows.
    template <bool Vertical>
    static constexpr int tiles = Vertical ? row_tiles : column_tiles;

    // Lines: tiles of 16 lines, of each image. Tap 0 of output 0 reads pixel -distance of the window.
    template <bool Vertical, int Lines>
    __device__ void multiply(Pixels pixels, const Window& window, const Stripe& s, SharedAddress word, int distance) {
        constexpr int main = main_diagonal<Vertical>, diagonals = 2 * steps + main, bits = tiles<Vertical>;
        // A lane finds out about one block or product, and votes make all of them agree on the masks.
        const int lane = threadIdx.x % 32, tap = distance + 8 * (lane - main), k = lane / bits, n = lane % bits;
        const uint32_t live = ballot(lane < diagonals && tap + 7 >= 0 && tap - 7 < s.length);  // blocks with taps
        const uint32_t taps = Vertical ? live >> (main + 2 * k - 2 * n - 1 & 31) & 7 : live >> (main + 2 * k - n & 31) & 3;
        // Bit [k, n]: pixels [16 k, 16 k + 16) are there, and reach output tile n.
        const uint32_t todo = ballot(k < steps && taps && 16 * k < window.count);
        const int next_row = 4 * bank_row<MmaConvolve>(s);
        for (int a = 0; a < s.thickness; ++a, word += next_row, pixels.first += 4 * window.stride) {
            constexpr int more = Vertical ? 1 : 2, count = bits + (steps - 1) * more;  // factors, `more` of them new in a step
            uint32_t factors[count][Vertical ? 4 : 2];
#pragma unroll
            for (int k = 0; k < steps; ++k) {
#pragma unroll
                for (int n = 0; n < count; ++n)
                    if (n < bits + k * more && (k == 0 || n >= bits + (k - 1) * more))
                        load_factor<Vertical>(factors[n], word, n);
                const uint32_t outputs = todo >> k * bits & ((1 << bits) - 1);
                if (!outputs) continue;
                if (16 * k + 8 < window.count)
                    step<Vertical, Lines, 16>(pixels, factors, k, outputs);
                else
                    step<Vertical, Lines, 8>(pixels, factors, k, outputs);
            }
        }
    }

    // A factor as instructions take it, in registers side by side. Around its taps a line of the bank has zeros as far as
    // blocks without taps reach that share a product with blocks that have some.
    template <bool Vertical, int Size>
    __device__ static void load_factor(uint32_t (&factor)[Size], SharedAddress word, int n) {
#pragma unroll
        for (int i = 0; i < Size; ++i) {
            const int d = Vertical ? 1 + 2 * n + (i == 1 ? -1 : i == 2 ? 1 : 0) : n + i;
            factor[i] = load_word(word + 32 * (d - main_diagonal<Vertical>));
        }
    }

    // The products with pixels [16 k, 16 k + Depth); behind them may be anything.
    template <bool Vertical, int Lines, int Depth, int Count, int Size>
    __device__ void step(const Pixels& pixels, const uint32_t (&factors)[Count][Size], int k, uint32_t outputs) {
        uint32_t words[Images][Lines][4];
#pragma unroll
        for (int n = 0; n < Images; ++n)
#pragma unroll
            for (int i = 0; i < Lines; ++i) pixels.load(words[n][i], k, n, i);
#pragma unroll
        for (int o = 0; o < tiles<Vertical>; ++o) {
            if (!(outputs >> o & 1)) continue;
#pragma unroll
            for (int n = 0; n < Images; ++n)
#pragma unroll
                for (int i = 0; i < Lines; ++i) {
                    if constexpr (Vertical) {
                        const uint32_t(&left)[4] = factors[k - o + row_tiles - 1];
                        mma<Depth>(sums[n][o][2 * i], left, {words[n][i][0], words[n][i][1]}, T());
                        mma<Depth>(sums[n][o][2 * i + 1], left, {words[n][i][2], words[n][i][3]}, T());
                    } else {
                        mma<Depth>(sums[n][i][o], words[n][i], factors[column_tiles - 1 + 2 * k - o], T());
                    }
                }
        }
    }

    // Block-wide: the tiles of a plane's two warps leave through `stage`, where it has plane number `warp / 2`.
    template <typename Origin>
    __device__ void store(uint32_t* stage, int plane_bits, const DeviceView& map, const Extent& extent, int channel,
                          int tile_bits, Origin origin) const {
        const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, c = warp_index() % 2;
        const Tile first = origin(0);
        uint32_t* target = stage + warp_index() / 2 * stage_size + g * stage_stride;
        const PlaneShape shape{stage_stride, stage_size};
#pragma unroll
        for (int n = 0; n < Images; ++n)
#pragma unroll
            for (int piece = 0; piece < 2 * row_tiles * (Columns / stage_columns); ++piece) {
                const int half = piece % 2, i = piece / 2 % row_tiles, first_tile = piece / (2 * row_tiles) * stage_columns / 8;
                const int row = 16 * i + 8 * half, column = 8 * first_tile, k = 2 * half;
                if (first.image + n >= extent.batch || first.row + row >= extent.height || first.column + column >= extent.width)
                    continue;
                __syncthreads();  // nobody reads the stage any more
#pragma unroll
                for (int j = 0; j < stage_columns / 8; ++j) {
                    const float(&d)[4] = sums[n][i][first_tile + j];
                    const uint32_t pair = pack(d[k], d[k + 1], T());
                    if (map.pixel_pairs) {
                        target[c * stage_columns / 2 + 4 * j + t] = pair;
                    } else {
                        auto* halves = reinterpret_cast<uint16_t*>(target + 8 * j + 2 * t) + c;
                        halves[0] = static_cast<uint16_t>(pair);
                        halves[2] = static_cast<uint16_t>(pair >> 16);
                    }
                }
                __syncthreads();
                const auto place = [&](int tile) {
                    const Tile to = origin(tile);
                    return Tile{to.image + n, to.row + row, to.column + column};
                };
                if (map.pixel_pairs)
                    store_pixel_pairs(stage, shape, plane_bits, map, extent, channel, tile_bits, stage_rows, stage_columns, place);
                else
                    store_tiles<T>(stage, shape, plane_bits, map, extent, channel, tile_bits, 3, stage_columns, place);
            }
    }
};

}  // namespace sw::cuda
