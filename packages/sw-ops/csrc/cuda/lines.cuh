// Windows of f16 and bf16 maps in shared memory, laid out for ldmatrix.
//
// A window has lines that run along its stripe, whichever way that is in the map: rows under a horizontal stripe, columns
// under a vertical one. A plane holds two channels; eight pixels of a line are eight words, first those of channel 0, then
// those of channel 1. So a row of an 8x8 matrix is 16 bytes in one piece, and with a stride of 4 words past a multiple of
// 8 the eight rows of a matrix lie in different banks.
//
// Maps come as they lie in memory, mostly in the background; what has arrived is then settled, in place:
//   channel pairs (channels-last)   word by word, and the two channels of eight pixels are told apart
//   pixel pairs (contiguous)        lines of rows are in place; 8x8 blocks of columns are transposed
//   anything else                   element by element, each to its place
#pragma once
#include "matrix_unit.cuh"
#include "tiles.cuh"

namespace sw::cuda {

// So many windows of so many pixels of so many lines. `count` is a multiple of 8, and so is `lines` where `in_blocks` says
// so. Where window i begins, origin(i) says: {image, first line, first pixel}.
struct Lines {
    int windows, lines, count;
};

__host__ __device__ inline bool in_blocks(const DeviceView& map, bool vertical) { return map.pixel_pairs && vertical; }

template <typename Origin>
__device__ void load_pixel_pairs(uint32_t* planes, PlaneShape shape, int plane_bits, const DeviceView& map,
                                 const Extent& extent, int channel, bool vertical, const Lines& need, Origin origin) {
    const int rows = vertical ? need.count : need.lines, words = (vertical ? need.lines : need.count) / 2;
    const int bits = min(5, bits_for(words)), lane = threadIdx.x % 32, first_word = lane & ((1 << bits) - 1);
    const auto* data = static_cast<const uint16_t*>(map.data);
    for_each_row(need.windows, rows, [&](int window, int row) {
        const Tile from = origin(window);
        const int map_row = row + (vertical ? from.column : from.row), first = vertical ? from.row : from.column;
        const bool inside = from.image < extent.batch && map_row >= 0 && map_row < extent.height;
        const auto* start = data + from.image * map.batch_stride + map_row * map.row_stride + first;
        for (int c = lane >> bits; c < 2 << plane_bits; c += 32 >> bits) {
            const int width = inside && channel + c < extent.channels ? extent.width : 0;
            const auto* source = start + (channel + c) * map.channel_stride;
            uint32_t* target = planes + ((window << plane_bits) + c / 2) * shape.size + c % 2 * 4;
            target += vertical ? row % 8 * shape.stride + row / 8 * 8 : row * shape.stride;
            const int step = vertical ? 8 * shape.stride : 8;
#pragma unroll 4
            for (int w = first_word; w < words; w += 1 << bits) {
                const int column = first + 2 * w;
                copy_async(target + w / 4 * step + w % 4, source + 2 * w, column < 0 ? 0 : 2 * min(max(width - column, 0), 2));
            }
        }
    });
}

// Lanes over all pixels of a window, so that many elements are on their way at once whatever the length of its rows; and
// first over channels, where these lie side by side.
template <typename Origin>
__device__ void load_elements(uint32_t* planes, PlaneShape shape, int plane_bits, const DeviceView& map,
                              const Extent& extent, int channel, bool vertical, const Lines& need, Origin origin) {
    constexpr int batch = 4;
    const int rows = vertical ? need.count : need.lines, columns = vertical ? need.lines : need.count;
    const int inner_bits = map.channels_inner ? plane_bits + 1 : 0, outer_bits = plane_bits + 1 - inner_bits;
    const uint32_t count = static_cast<uint32_t>(rows * columns) << inner_bits;
    const uint32_t reciprocal = columns > 1 ? 0xffffffffu / static_cast<uint32_t>(columns) + 1 : 0;  // of a row
    const auto* data = static_cast<const uint16_t*>(map.data);
    for (int task = warp_index(); task < need.windows << outer_bits; task += static_cast<int>(blockDim.x / 32)) {
        const int window = task >> outer_bits, first_channel = task & ((1 << outer_bits) - 1);
        const Tile from = origin(window);
        const int first_row = vertical ? from.column : from.row, first_column = vertical ? from.row : from.column;
        const auto* image = data + from.image * map.batch_stride;
        for (uint32_t e = threadIdx.x % 32; e < count; e += 32 * batch) {
            uint16_t values[batch];
            uint16_t* targets[batch];
#pragma unroll
            for (int i = 0; i < batch; ++i) {
                const uint32_t pixel = (e + 32 * i) >> inner_bits;
                const int c = first_channel + static_cast<int>((e + 32 * i) & ((1u << inner_bits) - 1));
                const int row = static_cast<int>(columns > 1 ? uint64_t{pixel} * reciprocal >> 32 : pixel);
                const int column = static_cast<int>(pixel) - row * columns;
                const int line = vertical ? column : row, along = vertical ? row : column;
                targets[i] = reinterpret_cast<uint16_t*>(planes + ((window << plane_bits) + c / 2) * shape.size +
                                                         line * shape.stride + along / 8 * 8 + c % 2 * 4) + along % 8;
                const int map_row = first_row + row, map_column = first_column + column;
                const bool inside = e + 32 * i < count && from.image < extent.batch && channel + c < extent.channels &&
                                    map_row >= 0 && map_row < extent.height && map_column >= 0 && map_column < extent.width;
                values[i] = inside ? image[(channel + c) * map.channel_stride + map_row * map.row_stride +
                                           map_column * map.column_stride]
                                   : uint16_t{0};
            }
#pragma unroll
            for (int i = 0; i < batch; ++i)
                if (e + 32 * i < count) *targets[i] = values[i];
        }
    }
}

// Loads windows of all planes. All threads of the block take part; the caller commits, waits, synchronizes and settles.
template <typename T, typename Origin>
__device__ void load_lines(uint32_t* planes, PlaneShape shape, int plane_bits, const DeviceView& map, const Extent& extent,
                           int channel, bool vertical, const Lines& need, Origin origin) {
    if (map.words) {
        DeviceView lines = map;
        Extent turned = extent;
        if (vertical) {
            lines.row_stride = map.column_stride, lines.column_stride = map.row_stride;
            turned.height = extent.width, turned.width = extent.height;
        }
        load_planes<T, true>(planes, shape, plane_bits, lines, turned, channel, need.windows, need.lines, need.count, origin);
    } else if (map.pixel_pairs) {
        load_pixel_pairs(planes, shape, plane_bits, map, extent, channel, vertical, need, origin);
    } else {
        load_elements(planes, shape, plane_bits, map, extent, channel, vertical, need, origin);
    }
}

// Turns what has arrived into what ldmatrix reads; the caller synchronizes before and after.
__device__ inline void settle_lines(uint32_t* planes, PlaneShape shape, int plane_bits, const DeviceView& map,
                                    bool vertical, const Lines& here) {
    const int lane = threadIdx.x % 32, warps = static_cast<int>(blockDim.x / 32), groups = here.count / 8;
    const int plane_count = here.windows << plane_bits;
    if (map.words) {
        const int bits = min(3, bits_for(groups)), lines = 32 >> bits;
        for (int plane = 0; plane < plane_count; ++plane)
            for (int line = lines * warp_index() + (lane >> bits); line < here.lines; line += lines * warps)
                for (int group = lane & ((1 << bits) - 1); group < groups; group += 1 << bits) {
                    auto* p = reinterpret_cast<uint4*>(planes + plane * shape.size + line * shape.stride + 8 * group);
                    const uint4 a = p[0], b = p[1];
                    uint4 first, second;
                    split(a.x, a.y, first.x, second.x);
                    split(a.z, a.w, first.y, second.y);
                    split(b.x, b.y, first.z, second.z);
                    split(b.z, b.w, first.w, second.w);
                    p[0] = first;
                    p[1] = second;
                }
    } else if (in_blocks(map, vertical)) {
        const int g = lane / 4, t = lane % 4, matrix = lane / 8, pairs = (groups + 1) / 2;
        for (int task = warp_index(); task < plane_count * (here.lines / 8); task += warps) {
            const int plane = task % plane_count, block = task / plane_count;
            uint32_t* corner = planes + plane * shape.size + 8 * block * shape.stride;
            for (int pair = 0; pair < pairs; ++pair) {  // of groups, times two channels: four matrices
                const int group = min(2 * pair + matrix / 2, groups - 1);
                uint32_t words[4];
                load_matrices_transposed(
                    words, shared_address(corner + lane % 8 * shape.stride + 8 * group + matrix % 2 * 4));
                uint32_t* target = corner + g * shape.stride + 16 * pair + t;
                target[0] = words[0];
                target[4] = words[1];
                if (2 * pair + 1 < groups) target[8] = words[2], target[12] = words[3];
            }
        }
    }
}

// Stores 2^tile_bits tiles of 2^plane_bits planes of [rows, columns] pixels, whose rows hold all pixels of channel 0, then of channel 1.
template <typename Origin>
__device__ void store_pixel_pairs(const uint32_t* planes, PlaneShape shape, int plane_bits, const DeviceView& map,
                                  const Extent& extent, int channel, int tile_bits, int rows, int columns,
                                  Origin origin) {
    const int lane = threadIdx.x % 32, words = columns / 2;
    for (int line = warp_index(); line < rows << tile_bits; line += static_cast<int>(blockDim.x / 32)) {
        const Tile to = origin(line / rows);
        const int row_of_tile = line % rows, row = to.row + row_of_tile;
        if (to.image >= extent.batch || row >= extent.height) continue;
        auto* start = static_cast<uint16_t*>(map.data) + to.image * map.batch_stride + row * map.row_stride + to.column;
        for (int i = lane; i < words << (plane_bits + 1); i += 32) {
            const int c = i / words, w = i % words, left = extent.width - to.column - 2 * w;
            if (channel + c >= extent.channels || left <= 0) continue;
            const uint32_t word = planes[((line / rows << plane_bits) + c / 2) * shape.size +
                                         row_of_tile * shape.stride + c % 2 * words + w];
            auto* target = start + (channel + c) * map.channel_stride + 2 * w;
            if (left > 1)
                *reinterpret_cast<uint32_t*>(target) = word;
            else
                *target = static_cast<uint16_t>(word);
        }
    }
}

}  // namespace sw::cuda
