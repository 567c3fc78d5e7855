// The block of stripe_forward, stripe_fused and stripe_input_grad: what one block of threads loads, computes and stores.
#pragma once

#include "convolve_fma.cuh"
#include "convolve_mma.cuh"
#include "stripe_cuda.h"

namespace sw::cuda {
namespace {

enum class Load { always, once, never };

struct Part {  // one stripe over one map
    Stripe stripe;
    DeviceView input, output;
    bool completes_output;
    Load load;
    int buffer;  // of the windows, unless they take turns
};

struct Job {
    Extent extent;
    Part parts[3];
    int part_count;
    bool square_rides;  // part 2 works in the windows of part 0
    const void* bias;
    int plane_bits, column_bits, row_bits, image_bits;  // how the warps are spread, as powers of two
    int images;                                         // of one block
    int images_in_window;
    int channel_groups, tile_rows, tile_columns, tiles_per_block;
    int reach;        // of windows, along the stripe
    bool whole;       // a window holds all of the map along its stripe
    bool take_turns;  // windows of all parts share two buffers
    PlaneShape shapes[3];
    int buffer_offset[3], stage_offset, bank_offset[3], bank_end;  // in words of shared memory
};

// One window of one part for one tile of the block. A block works through all of its requests in a fixed order.
struct Request {
    Tile tile;
    int part, chunk, turn;
};

// A rectangle of a map in shared memory, of which [along, along + count) is new to the request's stripe.
struct Region {
    int row, column, rows, columns, along, count, chunks;
};

template <typename Engine>
class Block {
public:
    __device__ Block(const Job& job, unsigned number) : job_(job) {
        const int tile_groups = job.tile_rows * job.tile_columns / job.tiles_per_block;
        const int group = number % job.channel_groups, rest = number / job.channel_groups;
        const int tile = rest % tile_groups * job.tiles_per_block;
        channel_ = group * (channels_per_word<Scalar> << job.plane_bits);
        first_ = {rest / tile_groups * job.images, tile / job.tile_columns * tile_height(),
                  tile % job.tile_columns * tile_width()};
    }

    __device__ void run() {
        if (threadIdx.x < zero_words)
            shared_memory()[job_.bank_offset[0] - zero_words + threadIdx.x] = shared_memory()[job_.bank_end + threadIdx.x] = 0;
        for (int i = 0; i < job_.part_count + job_.square_rides; ++i)
            build_bank<Engine>(shared_memory() + job_.bank_offset[i], job_.parts[i].stripe, channel_,
                               channels_per_word<Scalar> << job_.plane_bits, job_.extent.channels);
        bool starts = true, ahead = false;
        for (Request next{first_, 0, 0, 0}; !finished(next);) {
            const Request now = next;
            if (!ahead && loads(now)) {
                __syncthreads();  // nobody reads the window before it any more
                fetch(now);
            }
            copy_async_wait<0>();
            __syncthreads();
            const Part& part = job_.parts[now.part];
            if constexpr (Engine::oriented)
                if (loads(now)) {
                    settle_lines(window(now), job_.shapes[buffer(now)], job_.plane_bits, part.input,
                                 part.stripe.vertical, lines(region(now), part.stripe.vertical));
                    __syncthreads();
                }
            next = after(now, region(now).chunks);
            const bool completes = part.completes_output && next.chunk == 0;
            ahead = buffer(next) != buffer(now);  // then it loads while this computes
            if (ahead) fetch(next);
#pragma unroll 1
            for (int number = now.part;; number = 2) {
                if (starts)
                    engine_.start(stage(), static_cast<const Scalar*>(job_.bias), channel_ + channel_of_block(),
                                  job_.extent.channels);
                accumulate(now, number);
                if (completes)
                    engine_.store(stage(), job_.plane_bits, job_.parts[number].output, job_.extent, channel_,
                                  job_.column_bits + job_.row_bits + job_.image_bits,
                                  [&](int slot) { return slot_origin(now.tile, slot); });
                if (number != 0 || !job_.square_rides) break;
            }
            starts = completes;
        }
    }

private:
    using Scalar = typename Engine::Scalar;

    __device__ int tile_height() const { return Engine::rows << job_.row_bits; }
    __device__ int tile_width() const { return Engine::columns << job_.column_bits; }
    __device__ uint32_t* stage() const { return shared_memory() + job_.stage_offset; }
    // Warps take channels of a plane, then planes, then slots: tiles of the map.
    __device__ int warp_plane() const { return warp_index() >> Engine::channel_bits & ((1 << job_.plane_bits) - 1); }
    __device__ int warp_slot() const { return warp_index() >> (Engine::channel_bits + job_.plane_bits); }
    __device__ int channel_of_plane() const { return warp_index() & ((1 << Engine::channel_bits) - 1); }
    __device__ int channel_of_block() const { return warp_plane() * channels_per_word<Scalar> + channel_of_plane(); }

    __device__ int buffer(const Request& request) const {
        return job_.take_turns ? request.turn % 2 : job_.parts[request.part].buffer;
    }
    __device__ uint32_t* window(const Request& request) const {
        return shared_memory() + job_.buffer_offset[buffer(request)];
    }
    __device__ int first_image(const Request& request) const {
        return first_.image + ((request.tile.image - first_.image) & -job_.images_in_window);
    }

    // Where a slot of warps (one tile of the map for all planes) lies in the block's tile.
    __device__ Tile slot_origin(const Tile& tile, int slot) const {
        const int column = slot & ((1 << job_.column_bits) - 1), rest = slot >> job_.column_bits;
        const int row = rest & ((1 << job_.row_bits) - 1), image = rest >> job_.row_bits;
        return {tile.image + image * Engine::images, tile.row + row * Engine::rows, tile.column + column * Engine::columns};
    }

    __device__ bool finished(const Request& request) const { return request.tile.image >= first_.image + job_.images; }

    __device__ Request after(Request request, int chunks) const {
        ++request.turn;
        if (++request.chunk < chunks) return request;
        request.chunk = 0;
        if (++request.part < job_.part_count) return request;
        request.part = 0;
        Tile& tile = request.tile;
        const bool all = job_.tiles_per_block > 1;
        if (all && (tile.column += tile_width()) < job_.extent.width) return request;
        tile.column = first_.column;
        if (all && (tile.row += tile_height()) < job_.extent.height) return request;
        tile.row = first_.row;
        tile.image += Engine::images << job_.image_bits;
        return request;
    }

    __device__ Region region(const Request& request) const {
        const Part& part = job_.parts[request.part];
        const Stripe& s = part.stripe;
        const int height = job_.extent.height, width = job_.extent.width, after = s.thickness - 1 - s.centre;
        const int rows = min(tile_height(), height - request.tile.row);
        const int columns = min(tile_width(), width - request.tile.column);
        const int from = s.vertical ? request.tile.row : request.tile.column, size = s.vertical ? height : width;
        int along = round_down(max(0, from - s.anchor), Engine::window_step);
        int count = max(0, min(size, from + (s.vertical ? rows : columns) + s.length - 1 - s.anchor) - along);
        if (job_.whole) {
            along = 0;
            count = size;
        }
        const int chunks = max(1, (count + job_.reach - 1) / job_.reach);
        along += request.chunk * job_.reach;
        count = min(count - request.chunk * job_.reach, job_.reach);
        const int padded = round_up(count, Engine::window_step);
        if constexpr (Engine::oriented) {
            const bool all = part.load == Load::once;
            int line = (all ? 0 : s.vertical ? request.tile.column : request.tile.row) - s.centre;
            int lines = (all ? (s.vertical ? width : height) : s.vertical ? columns : rows) + s.thickness - 1;
            if (in_blocks(part.input, s.vertical)) {
                lines = round_up(lines + (line & 1), 8);
                line -= line & 1;
            }
            if (s.vertical) return {along, line, padded, lines, along, count, chunks};
            return {line, along, lines, padded, along, count, chunks};
        }
        if (part.load != Load::always)
            return {-s.centre, -s.centre, s.centre + max(height + after, round_up(height, Engine::window_step)),
                    s.centre + max(width + after, round_up(width, Engine::window_step)), along, count, chunks};
        if (s.vertical)
            return {along, request.tile.column - s.centre, padded, columns + s.thickness - 1, along, count, chunks};
        return {request.tile.row - s.centre, along, rows + s.thickness - 1, padded, along, count, chunks};
    }

    __device__ bool loads(const Request& request) const {
        const Tile& tile = request.tile;
        const bool first =
            tile.image == first_image(request) && tile.row == first_.row && tile.column == first_.column;
        const Load load = job_.parts[request.part].load;
        return !finished(request) && (load == Load::always || (load == Load::once && first));
    }

    __device__ void fetch(const Request& request) {
        if (!loads(request)) return;
        const Part& part = job_.parts[request.part];
        const Region need = region(request);
        const PlaneShape shape = job_.shapes[buffer(request)];
        const int image = first_image(request);
        if constexpr (Engine::oriented)
            load_lines<Scalar>(window(request), shape, job_.plane_bits, part.input, job_.extent, channel_,
                               part.stripe.vertical, lines(need, part.stripe.vertical), [&](int i) {
                                   return part.stripe.vertical ? Tile{image + i, need.column, need.row}
                                                               : Tile{image + i, need.row, need.column};
                               });
        else
            load_tiles<Scalar>(window(request), shape, job_.plane_bits, part.input, job_.extent, channel_,
                               job_.images_in_window, need.rows, need.columns,
                               [&](int i) { return Tile{image + i, need.row, need.column}; });
        copy_async_commit();
    }

    __device__ Lines lines(const Region& need, bool vertical) const {
        if (vertical) return {job_.images_in_window, need.columns, need.rows};
        return {job_.images_in_window, need.rows, need.columns};
    }

    // Adds what a part's stripe gives in the window that was loaded for the request.
    __device__ void accumulate(const Request& request, int number) {
        const Region here = region(request);
        const Part& part = job_.parts[number];
        const Tile tile = slot_origin(request.tile, warp_slot());
        if (tile.image >= job_.extent.batch || tile.row >= job_.extent.height || tile.column >= job_.extent.width ||
            channel_ + channel_of_block() >= job_.extent.channels)
            return;
        const PlaneShape& shape = job_.shapes[buffer(request)];
        const int plane = ((tile.image - first_image(request)) << job_.plane_bits) + warp_plane();
        const Window here_of_channel{window(request) + plane * shape.size + 4 * channel_of_plane(), shape.stride,
                                     shape.size << job_.plane_bits, here.row, here.column, here.along, here.count};
        const uint32_t* bank = shared_memory() + job_.bank_offset[number] +
                               channel_of_block() * part.stripe.thickness * bank_row<Engine>(part.stripe);
        engine_.accumulate(here_of_channel, part.stripe, bank, job_.extent, tile.row, tile.column);
    }

    const Job& job_;
    Engine engine_;
    int channel_;
    Tile first_;
};

}  // namespace
}  // namespace sw::cuda
