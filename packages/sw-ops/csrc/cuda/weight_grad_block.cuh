// The work of stripe_weight_grad, and what one block of threads loads for its share.
#pragma once
#include "weight_grad_fma.cuh"
#include "weight_grad_mma.cuh"

namespace sw::cuda {
namespace {

constexpr int along_per_block = 64, first_stage = 64;  // words from the beginning of shared memory

struct GradientPart {
    Stripe stripe;
    DeviceView grad;
    void* target;            // the gradient of the stripe's taps
    int first_tap, taps;     // of a channel's taps of all parts
    int across_groups, along_groups, tiles, cells;  // a cell is a group of taps and a tile along the stripe
    int slots;               // partial sums of each tap
    int units_per_image;
    int lines_of_x;          // of a unit
    PlaneShape x_shape, grad_shape;
};

struct GradientJob {
    Extent extent;
    DeviceView x;
    GradientPart parts[3];
    bool square_rides;  // part 2 is worked on with part 0
    float* workspace;   // [slot, channel, tap]
    int all_taps, plane_bits, channel_groups, units_per_chunk;
    int64_t cells, units_per_split;
    int stage_words;
};

// The units of a block that are not fetched yet, and where the next one lies: in an image, so many on.
struct Position {
    int left, image, index;
};

// The lines of an oriented window of x begin with so many zeros, and end with at least 4 before the next begins.
template <typename Engine>
constexpr int zeros_in_front = Engine::oriented ? 8 : 0;

// What one block sums up: a group of taps over a tile along the stripe, for some of the units.
struct Cell {
    int channel;  // the first
    int number;   // of the part
    int tile, first_across, first_along;
    int grad_begin, grad_count;  // along the stripe
    int reach;                   // where the first pixel of the gradient begins to meet x, maybe outside of the map
    int x_begin, x_count;
    int64_t split;
};

template <typename Engine>
struct GradientBlock {
    const GradientJob& job;
    const Cell& cell;

    __device__ static Cell find(const GradientJob& job, int64_t block) {
        Cell c{};
        c.channel = static_cast<int>(block % job.channel_groups) * (channels_per_word<typename Engine::Scalar> << job.plane_bits);
        const int64_t index = block / job.channel_groups;
        c.split = index / job.cells;
        int number = static_cast<int>(index % job.cells);  // parts lie side by side: they read the same x
        for (; number >= job.parts[c.number].cells; ++c.number) number -= job.parts[c.number].cells;
        const GradientPart& part = job.parts[c.number];
        const int group = number / part.tiles, length = part.stripe.vertical ? job.extent.height : job.extent.width;
        c.tile = number % part.tiles;
        c.first_across = group % part.across_groups * across_per_block;
        c.first_along = group / part.across_groups * Engine::taps;
        c.grad_begin = c.tile * along_per_block;
        c.grad_count = round_up(min(along_per_block, length - c.grad_begin), Engine::block);
        // Of x, the blocks that reach into the map.
        const GradientBlock block_of_cell{job, c};
        c.reach = c.grad_begin + Engine::start(c.first_along - part.stripe.anchor, block_of_cell.rider());
        c.x_begin = c.reach + round_down(max(0, -c.reach), Engine::block);
        const int x_end = c.reach + min(Engine::needed(c.grad_count, block_of_cell.along_taps()),
                                        round_up(length - c.reach, Engine::block));
        c.x_count = max(0, x_end - c.x_begin);
        return c;
    }

    __device__ const GradientPart& part() const { return job.parts[cell.number]; }

    __device__ Position begin() const {
        const int64_t first = cell.split * job.units_per_split, last = int64_t{job.extent.batch} * part().units_per_image;
        return {static_cast<int>(max(int64_t{0}, min(last - first, job.units_per_split))),
                static_cast<int>(first / part().units_per_image), static_cast<int>(first % part().units_per_image)};
    }

    __device__ bool rider() const { return cell.number == 0 && job.square_rides; }
    __device__ int along_taps() const { return min(Engine::taps, part().stripe.length - cell.first_along); }
    __device__ int x_line() const {  // the first of a unit that is needed, among those that are loaded
        if constexpr (Engine::oriented)
            return in_blocks(job.x, part().stripe.vertical) ? (cell.first_across - part().stripe.centre) & 1 : 0;
        return 0;
    }

    __device__ Chunk chunk() const {
        const bool turned = !Engine::oriented && part().stripe.vertical;
        Chunk c{};
        c.x_plane = part().x_shape.size;
        c.x_along = turned ? part().x_shape.stride : 1;
        c.x_across = turned ? 1 : part().x_shape.stride;
        c.grad_plane = part().grad_shape.size;
        c.grad_along = turned ? part().grad_shape.stride : 1;
        c.grad_across = turned ? 1 : part().grad_shape.stride;
        c.units = job.units_per_chunk;
        c.plane_bits = job.plane_bits;
        c.across_taps = min(across_per_block, part().stripe.thickness - cell.first_across);
        c.along_taps = along_taps();
        c.x_start = cell.reach - cell.x_begin;
        c.x_count = cell.x_count;
        c.slack = cell.grad_begin - part().stripe.anchor + cell.first_along - cell.reach;
        c.square_rides = rider();
        c.square_start = c.x_start + round_down(cell.grad_begin - cell.reach, 8);
        c.square_slack = (cell.grad_begin - cell.reach) % 8 - part().stripe.centre;
        c.grad_count = cell.grad_count;
        return c;
    }

    // Copies the next units into a stage, of x and of the gradients.
    __device__ void fetch(uint32_t* stage, Position& next) const {
        load(stage + zeros_in_front<Engine>, part().x_shape, job.x, next, cell.first_across - part().stripe.centre - x_line(),
             part().lines_of_x, cell.x_begin, cell.x_count);
        for (int i = 0; i < grads(); ++i)
            load(stage + x_words() + i * grad_words(), part().grad_shape, grad(i), next, 0,
                 lines_per_unit, cell.grad_begin, cell.grad_count);
        copy_async_commit();
        next.left -= job.units_per_chunk;
        next.index += job.units_per_chunk;
        for (; next.index >= part().units_per_image; ++next.image) next.index -= part().units_per_image;
    }

    // Turns what has arrived into what the engine reads.
    __device__ void settle(uint32_t* stage) const {
        if constexpr (Engine::oriented) {
            const bool vertical = part().stripe.vertical;
            settle_lines(stage + zeros_in_front<Engine>, part().x_shape, job.plane_bits, job.x, vertical,
                         {job.units_per_chunk, part().lines_of_x, cell.x_count});
            for (int i = 0; i < grads(); ++i)
                settle_lines(stage + x_words() + i * grad_words(), part().grad_shape, job.plane_bits,
                             grad(i), vertical,
                             {job.units_per_chunk, lines_per_unit, cell.grad_count});
        }
    }

    __device__ Stage operands(const uint32_t* stage) const {
        const uint32_t *x = stage + zeros_in_front<Engine>, *grad = stage + x_words();
        return {Engine::oriented ? x + x_line() * part().x_shape.stride : x, grad, grad + grad_words()};
    }

private:
    __device__ int grads() const { return rider() ? 2 : 1; }
    __device__ const DeviceView& grad(int i) const { return job.parts[i == 0 ? cell.number : 2].grad; }
    __device__ int x_words() const { return (job.units_per_chunk << job.plane_bits) * part().x_shape.size; }
    __device__ int grad_words() const { return (job.units_per_chunk << job.plane_bits) * part().grad_shape.size; }

    __device__ void load(uint32_t* planes, const PlaneShape& shape, const DeviceView& map, const Position& next, int across,
                         int lines, int along, int count) const {
        using T = typename Engine::Scalar;
        // Where a unit starts; nowhere if it is not of this block.
        const auto origin = [&](int unit) {
            int i = next.index + unit, of = unit < next.left ? next.image : job.extent.batch;
            for (; i >= part().units_per_image; ++of) i -= part().units_per_image;
            return Tile{of, i * lines_per_unit + across, along};
        };
        if constexpr (Engine::oriented)
            load_lines<T>(planes, shape, job.plane_bits, map, job.extent, cell.channel, part().stripe.vertical,
                          {job.units_per_chunk, lines, count}, origin);
        else if (part().stripe.vertical)
            load_tiles<T>(planes, shape, job.plane_bits, map, job.extent, cell.channel, job.units_per_chunk, count, lines,
                          [&](int unit) {
                              const Tile from = origin(unit);
                              return Tile{from.image, from.column, from.row};
                          });
        else
            load_tiles<T>(planes, shape, job.plane_bits, map, job.extent, cell.channel, job.units_per_chunk, lines, count, origin);
    }
};

// What a block does, of so many that there are.
template <typename Engine>
__device__ void correlate_block(const GradientJob& job, int64_t block) {
    // What all threads agree on is in shared memory, for registers are short.
    struct Agreed {
        Cell cell;
        Chunk chunk;
    };
    static_assert(sizeof(Agreed) <= 4 * first_stage);
    auto* const agreed = reinterpret_cast<Agreed*>(shared_memory());
    uint32_t* const stages = shared_memory() + first_stage;
    uint32_t* const scratch = Engine::scratch_stays ? stages + 2 * job.stage_words : stages;
    const GradientBlock<Engine> cell{job, agreed->cell};
    if (threadIdx.x == 0) {
        agreed->cell = cell.find(job, block);
        agreed->chunk = cell.chunk();
    }
    for (int i = threadIdx.x; i < 2 * job.stage_words; i += blockDim.x) stages[i] = 0;  // between the lines of x
    __syncthreads();
    Engine engine;
    engine.start(agreed->chunk, scratch);
    uint32_t* stage = stages;
    Position next = cell.begin();
    bool arrives = next.left > 0;
    if (arrives) cell.fetch(stage, next);
    while (arrives) {
        copy_async_wait<0>();
        __syncthreads();  // and nobody reads the other stage any more
        uint32_t* const other = stages + (stage == stages ? job.stage_words : 0);
        arrives = next.left > 0;
        if (arrives) cell.fetch(other, next);
        if constexpr (Engine::oriented) {
            cell.settle(stage);
            __syncthreads();
        }
        engine.accumulate(agreed->chunk, cell.operands(stage), scratch);
        stage = other;
    }
    __syncthreads();

    const int64_t slot = agreed->cell.split * cell.part().tiles + agreed->cell.tile;
    engine.finish(agreed->chunk, scratch, [&](bool of_square, int channel_of_block, int a, int m, float value) {
        const GradientPart& part = of_square ? job.parts[2] : cell.part();
        const int channel = agreed->cell.channel + channel_of_block;
        const int tap = part.first_tap + (agreed->cell.first_across + a) * part.stripe.across_stride +
                        (agreed->cell.first_along + m) * part.stripe.along_stride;
        if (channel < job.extent.channels)
            job.workspace[(slot * job.extent.channels + channel) * job.all_taps + tap] = value;
    });
}

}  // namespace
}  // namespace sw::cuda
