// Moves pieces of maps between global memory and planes in shared memory.
//
// A word is 32 bits at one pixel: two adjacent channels of f16 or bf16, or one channel of f32. A plane holds the words of
// one channel (pair), pixels side by side. So channels-last maps are copied word by word without touching a register,
// and one 32-bit load later gives a warp both of its channels.
#pragma once
#include <algorithm>
#include <type_traits>

#include "../stripe.h"
#include "device.cuh"

namespace sw::cuda {

template <typename T>
constexpr int channels_per_word = 4 / sizeof(T);

template <typename T>
using Bits = std::conditional_t<sizeof(T) == 2, uint16_t, uint32_t>;

struct Extent {
    int batch, channels, height, width;
};

struct DeviceView : MapView {
    bool words;           // whole words lie in memory as they lie in a plane
    bool pixel_pairs;     // f16 and bf16: neighbours in a row do
    bool channels_inner;  // neighbouring threads should take neighbouring channels, not columns
};

inline bool operator==(const MapView& a, const MapView& b) {
    return a.data == b.data && a.batch_stride == b.batch_stride && a.channel_stride == b.channel_stride &&
           a.row_stride == b.row_stride && a.column_stride == b.column_stride;
}

struct Tile {  // where a piece starts; what it reads outside of the map is zero
    int image, row, column;
};

struct PlaneShape {
    int stride, size;  // words from row to row, and from plane to plane
};

template <typename T>
DeviceView device_view(const MapView& map, const Extent& extent) {
    const bool aligned = sizeof(T) == 2 && reinterpret_cast<uintptr_t>(map.data) % 4 == 0 &&
                         (map.batch_stride | map.row_stride) % 2 == 0;
    const bool channel_pairs =
        aligned && map.channel_stride == 1 && (map.column_stride | extent.channels) % 2 == 0;
    return {map, sizeof(T) == 4 || channel_pairs,
            aligned && !channel_pairs && map.column_stride == 1 && map.channel_stride % 2 == 0,
            map.channel_stride <= map.column_stride};
}

// The smallest stride >= columns that is an odd multiple of `step`: rows then start in different shared-memory banks.
inline int odd_stride(int columns, int step) { return step * ((columns + step - 1) / step | 1); }

__host__ __device__ inline int round_down(int value, int step) { return value / step * step; }

__host__ __device__ inline int round_up(int value, int step) { return round_down(value + step - 1, step); }

__device__ inline int bits_for(int count) { return count > 1 ? 32 - __clz(count - 1) : 0; }

// How many of a word's channels lie inside the map.
template <typename T>
__device__ inline int channels_inside(const Extent& extent, int channel) {
    return min(max(extent.channels - channel, 0), channels_per_word<T>);
}

// The part of a row of all planes that a lane works on: some planes, and of each `count` columns.
struct Lanes {
    int plane, plane_step, column, column_bits, count;

    // How many of the lane's columns come before that so many columns on.
    __device__ int steps(int columns) const { return (columns + (1 << column_bits) - 1) >> column_bits; }
};

__device__ inline Lanes spread_lanes(const DeviceView& map, int plane_bits, int columns) {
    const int lane = threadIdx.x % 32, bits = map.channels_inner ? plane_bits : min(5, bits_for(columns));
    const int inner = lane & ((1 << bits) - 1), outer = lane >> bits;
    Lanes lanes = map.channels_inner ? Lanes{inner, 1 << plane_bits, outer, 5 - bits, 0}
                                     : Lanes{outer, 32 >> bits, inner, bits, 0};
    lanes.count = lanes.steps(columns - lanes.column);
    return lanes;
}

// Calls f(tile, row) for the rows that this warp takes, without a division for each.
template <typename F>
__device__ void for_each_row(int tiles, int rows, F f) {
    for (int tile = 0, row = warp_index();; row += static_cast<int>(blockDim.x / 32)) {
        for (; row >= rows; row -= rows)
            if (++tile >= tiles) return;
        f(tile, row);
    }
}

// Loads `tiles` x 2^plane_bits planes of [rows, columns] words; tile i starts at origin(i). All threads of the block take
// part: warps over rows, lanes over planes and columns. The caller commits, waits and synchronizes.
template <typename T, bool Words, typename Origin>
__device__ void load_planes(uint32_t* planes, PlaneShape shape, int plane_bits, const DeviceView& map, const Extent& extent,
                            int channel, int tiles, int rows, int columns, Origin origin) {
    const Lanes lanes = spread_lanes(map, plane_bits, columns);
    const int64_t step = map.column_stride << lanes.column_bits;
    for (int plane = lanes.plane; plane < 1 << plane_bits; plane += lanes.plane_step) {
        const int first = channel + plane * channels_per_word<T>, channels = channels_inside<T>(extent, first);
        const auto* data = static_cast<const Bits<T>*>(map.data) + first * map.channel_stride;
        for_each_row(tiles, rows, [&](int tile, int row) {
            const Tile from = origin(tile);
            const int map_row = from.row + row, column = from.column + lanes.column;
            const bool inside = channels > 0 && from.image < extent.batch && map_row >= 0 && map_row < extent.height;
            // Of the lane's columns, [begin, end) lie inside of the map.
            const int end = inside ? min(lanes.count, lanes.steps(extent.width - column)) : 0;
            const int begin = min(max(0, lanes.steps(-column)), end);
            const auto* source = data + from.image * map.batch_stride + map_row * map.row_stride +
                                 column * map.column_stride + begin * step;
            uint32_t* target =
                planes + ((tile << plane_bits) + plane) * shape.size + row * shape.stride + lanes.column;
#pragma unroll 1
            for (int i = 0; i < begin; ++i) target[i << lanes.column_bits] = 0;
#pragma unroll 4
            for (int i = begin; i < end; ++i, source += step) {
                if constexpr (Words) {
                    copy_async(target + (i << lanes.column_bits), source, 4);
                } else {
                    uint32_t word = source[0];
                    if (channels == 2) word |= static_cast<uint32_t>(source[map.channel_stride]) << 16;
                    target[i << lanes.column_bits] = word;
                }
            }
#pragma unroll 1
            for (int i = end; i < lanes.count; ++i) target[i << lanes.column_bits] = 0;
        });
    }
}

template <typename T, typename Origin>
__device__ void load_tiles(uint32_t* planes, PlaneShape shape, int plane_bits, const DeviceView& map, const Extent& extent,
                           int channel, int tiles, int rows, int columns, Origin origin) {
    if (sizeof(T) == 4 || map.words)
        load_planes<T, true>(planes, shape, plane_bits, map, extent, channel, tiles, rows, columns, origin);
    else
        load_planes<T, false>(planes, shape, plane_bits, map, extent, channel, tiles, rows, columns, origin);
}

// Stores 2^tile_bits x 2^plane_bits planes of [2^row_bits, columns] words, whatever of them lies inside the map.
template <typename T, typename Origin>
__device__ void store_tiles(const uint32_t* planes, PlaneShape shape, int plane_bits, const DeviceView& map,
                            const Extent& extent, int channel, int tile_bits, int row_bits, int columns,
                            Origin origin) {
    const int warps = blockDim.x / 32;
    auto* data = static_cast<Bits<T>*>(map.data) + channel * map.channel_stride;
    for (int line = warp_index(); line < 1 << (tile_bits + row_bits); line += warps) {
        const int tile = line >> row_bits, row = line & ((1 << row_bits) - 1);
        const Tile to = origin(tile);
        if (to.image >= extent.batch || to.row + row >= extent.height) continue;
        const Lanes lanes = spread_lanes(map, plane_bits, columns);
        const int64_t step = map.column_stride << lanes.column_bits;
        const int count = min(lanes.count, lanes.steps(extent.width - to.column - lanes.column));
        auto* start = data + to.image * map.batch_stride + (to.row + row) * map.row_stride +
                      (to.column + lanes.column) * map.column_stride;
        for (int plane = lanes.plane; plane < 1 << plane_bits; plane += lanes.plane_step) {
            const int first = plane * channels_per_word<T>, channels = channels_inside<T>(extent, channel + first);
            if (channels == 0) continue;
            auto* target = start + first * map.channel_stride;
            const uint32_t* source =
                planes + ((tile << plane_bits) + plane) * shape.size + row * shape.stride + lanes.column;
            if (map.words) {
#pragma unroll 4
                for (int i = 0; i < count; ++i, target += step)
                    *reinterpret_cast<uint32_t*>(target) = source[i << lanes.column_bits];
            } else {
#pragma unroll 4
                for (int i = 0; i < count; ++i, target += step) {
                    const uint32_t word = source[i << lanes.column_bits];
                    target[0] = static_cast<Bits<T>>(word);
                    if (channels_per_word<T> == 2 && channels == 2)
                        target[map.channel_stride] = static_cast<Bits<T>>(word >> 16);
                }
            }
        }
    }
}

}  // namespace sw::cuda
