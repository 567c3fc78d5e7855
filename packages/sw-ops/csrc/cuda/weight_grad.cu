// stripe_weight_grad: correlations of x with the three gradients.
//
// Floor. Memory: 4 x B C H W elements, each map once. Arithmetic: a gradient pixel meets as many taps as in the forward;
// padded to the matrix units' shapes, 11,760 products of 16x16x8 per 16 channels and image at 56x56, thickness 3, length
// 51, against the forward's 12,000.
//
// Shape. A block streams units of 8 lines (rows for a horizontal stripe, columns for a vertical one) of many images
// through two stages of shared memory, and keeps its sums for up to 8 planes, 3 taps across and 57 or 64 along. Sums of
// different blocks meet in a workspace, and a second kernel adds them in a fixed order: no atomics.
#include "launch.h"
#include "stripe_cuda.h"
#include "weight_grad_fma.cuh"
#include "weight_grad_mma.cuh"

namespace sw::cuda {
namespace {

constexpr int threads_per_block = 32 * gradient_warps, along_per_block = 64;
constexpr int lines_of_x = lines_per_unit + across_per_block - 1;

struct Part {
    Stripe stripe;
    DeviceView grad;
    void* target;            // the gradient of the stripe's taps
    int first_tap, taps;     // of a channel's taps of all parts
    int across_groups, along_groups, tiles, cells;  // a cell is a group of taps and a tile along the stripe
    int slots;               // partial sums of each tap
    int units_per_image, x_zeros;
    PlaneShape x_shape, grad_shape;
};

struct Job {
    Extent extent;
    DeviceView x;
    Part parts[3];
    float* workspace;  // [slot, channel, tap]
    int all_taps, plane_bits, channel_groups, units_per_chunk;
    int64_t cells, units_per_split;
    int stage_words;
    uint32_t keep;
};

// What one block sums up: a group of taps over a tile along the stripe, for some of the units.
template <typename Engine>
struct Cell {
    int part, tile, first_across, first_along;
    int grad_begin, grad_count;        // along the stripe
    int x_reach, x_begin, x_count;     // tap 0 of the first pixel reads x_reach, which may lie outside of the map
    int64_t split, first_unit, last_unit;

    __device__ Cell(const Job& job, int64_t index) {
        int cell = static_cast<int>(index % job.cells);  // parts side by side: they read the same x
        for (part = 0; cell >= job.parts[part].cells; ++part) cell -= job.parts[part].cells;
        const Part& p = job.parts[part];
        const int group = cell / p.tiles, length = p.stripe.vertical ? job.extent.height : job.extent.width;
        tile = cell % p.tiles;
        first_across = group % p.across_groups * across_per_block;
        first_along = group / p.across_groups * Engine::taps;
        grad_begin = tile * along_per_block;
        grad_count = round_up(min(along_per_block, length - grad_begin), Engine::block);
        // Of x, the blocks that reach into the map.
        x_reach = grad_begin - p.stripe.anchor + first_along;
        x_begin = x_reach + round_down(max(0, -x_reach), Engine::block);
        const int x_end = x_reach + min(grad_count + round_up(along_taps(p) - 1, Engine::block),
                                        round_up(length - x_reach, Engine::block));
        x_count = max(0, x_end - x_begin);
        split = index / job.cells;
        first_unit = split * job.units_per_split;
        last_unit = min(int64_t{job.extent.batch} * p.units_per_image, first_unit + job.units_per_split);
    }

    __device__ int along_taps(const Part& p) const { return min(Engine::taps, p.stripe.length - first_along); }

    __device__ Chunk chunk(const Job& job) const {
        const Part& p = job.parts[part];
        const bool vertical = p.stripe.vertical;
        Chunk c{};
        c.x_plane = p.x_shape.size;
        c.x_along = vertical ? p.x_shape.stride : 1;
        c.x_across = vertical ? 1 : p.x_shape.stride;
        c.grad_plane = p.grad_shape.size;
        c.grad_along = vertical ? p.grad_shape.stride : 1;
        c.grad_across = vertical ? 1 : p.grad_shape.stride;
        c.units = job.units_per_chunk;
        c.plane_bits = job.plane_bits;
        c.across_taps = min(across_per_block, p.stripe.thickness - first_across);
        c.along_taps = along_taps(p);
        c.x_start = x_reach - x_begin;
        c.x_count = x_count;
        c.x_zeros = p.x_zeros;
        c.grad_count = grad_count;
        c.keep = job.keep;
        return c;
    }

    // Where a unit starts, so many pixels across its first line and along the map; nowhere if it is not of this block.
    __device__ Tile origin(const Job& job, int64_t unit, int across, int along) const {
        const Part& p = job.parts[part];
        if (unit >= last_unit) return {job.extent.batch, 0, 0};
        const int image = static_cast<int>(unit / p.units_per_image);
        const int line = static_cast<int>(unit % p.units_per_image) * lines_per_unit + across;
        return p.stripe.vertical ? Tile{image, along, line} : Tile{image, line, along};
    }
};

template <typename Engine>
__global__ void __launch_bounds__(threads_per_block) correlate(const __grid_constant__ Job job) {
    using T = typename Engine::Scalar;
    const int channel = static_cast<int>(blockIdx.x % job.channel_groups) * (channels_per_word<T> << job.plane_bits);
    const Cell<Engine> cell(job, blockIdx.x / job.channel_groups);
    const Part& part = job.parts[cell.part];
    const Stripe& s = part.stripe;
    const int units = job.units_per_chunk, x_words = (units << job.plane_bits) * part.x_shape.size;
    uint32_t* scratch = shared_memory() + 2 * job.stage_words;

    const auto fetch = [&](int64_t unit, int stage) {
        uint32_t* x = shared_memory() + stage * job.stage_words;
        load_tiles<T>(x, part.x_shape, job.plane_bits, job.x, job.extent, channel, units,
                      s.vertical ? cell.x_count : lines_of_x, s.vertical ? lines_of_x : cell.x_count,
                      [&](int i) { return cell.origin(job, unit + i, cell.first_across - s.centre, cell.x_begin); });
        load_tiles<T>(x + x_words, part.grad_shape, job.plane_bits, part.grad, job.extent, channel, units,
                      s.vertical ? cell.grad_count : lines_per_unit, s.vertical ? lines_per_unit : cell.grad_count,
                      [&](int i) { return cell.origin(job, unit + i, 0, cell.grad_begin); });
        copy_async_commit();
    };

    for (int i = threadIdx.x; i < 2 * job.stage_words; i += blockDim.x) shared_memory()[i] = 0;  // for x_zeros
    __syncthreads();
    Engine engine;
    engine.start(scratch);
    Chunk chunk = cell.chunk(job);
    if (cell.first_unit < cell.last_unit) fetch(cell.first_unit, 0);
    int stage = 0;
    for (int64_t unit = cell.first_unit; unit < cell.last_unit; unit += units, stage ^= 1) {
        if (unit + units < cell.last_unit) {
            fetch(unit + units, stage ^ 1);
            copy_async_wait<1>();
        } else {
            copy_async_wait<0>();
        }
        __syncthreads();
        chunk.x = shared_memory() + stage * job.stage_words;
        chunk.grad = chunk.x + x_words;
        engine.accumulate(chunk, scratch);
        __syncthreads();
    }
    __syncthreads();  // without a unit, `scratch` still needs it

    const int64_t slot = cell.split * part.tiles + cell.tile;
    engine.finish(chunk, scratch, [&](int plane, int word_channel, int a, int m, float value) {
        const int c = channel + plane * channels_per_word<T> + word_channel;
        const int tap = part.first_tap + (cell.first_across + a) * s.across_stride +
                        (cell.first_along + m) * s.along_stride;
        if (c < job.extent.channels) job.workspace[(slot * job.extent.channels + c) * job.all_taps + tap] = value;
    });
}

template <typename T>
__global__ void add_partial_sums(const __grid_constant__ Job job) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    const int64_t stride = static_cast<int64_t>(job.extent.channels) * job.all_taps;
    if (i >= stride) return;
    const int tap = static_cast<int>(i % job.all_taps);
    int number = 0;
    while (tap >= job.parts[number].first_tap + job.parts[number].taps) ++number;
    const Part& part = job.parts[number];
    float sum = 0.0f;
    for (int64_t slot = 0; slot < part.slots; ++slot) sum += job.workspace[slot * stride + i];
    static_cast<T*>(part.target)[i / job.all_taps * part.taps + tap - part.first_tap] = static_cast<T>(sum);
}

// Lays the shared memory out; returns its size in bytes.
template <typename Engine>
size_t arrange(Job& job, int plane_bits, int units) {
    job.plane_bits = plane_bits;
    job.units_per_chunk = units;
    const int channels = channels_per_word<typename Engine::Scalar> << plane_bits;
    job.channel_groups = (job.extent.channels + channels - 1) / channels;
    job.stage_words = 0;
    for (Part& part : job.parts) {
        const bool vertical = part.stripe.vertical;
        const int length = vertical ? job.extent.height : job.extent.width;
        const int grad_count = round_up(std::min(along_per_block, length), Engine::block);
        const int x_count = std::min(round_up(length + Engine::block - 1, Engine::block),
                                     grad_count + round_up(Engine::taps - 1, Engine::block));
        const auto shape = [&](int along, int across) {
            const int stride = odd_stride(vertical ? across : along, Engine::stride_step);
            return PlaneShape{
                stride, Engine::plane_size((vertical ? along : across) * stride, vertical ? 1 : stride, plane_bits)};
        };
        part.x_zeros = x_count;
        part.x_shape = shape(x_count + Engine::block, lines_of_x);
        part.grad_shape = shape(grad_count, lines_per_unit);
        job.stage_words =
            std::max(job.stage_words, (units << plane_bits) * (part.x_shape.size + part.grad_shape.size));
    }
    return 4 * (2 * size_t(job.stage_words) + Engine::scratch_words);
}

template <typename Engine>
Job make_job(const StripeProblem& p, const Stripes& grads) {
    Job job{};
    job.extent = extent(p);
    job.keep = 0x3210;
    void* targets[] = {grads.horizontal, grads.vertical, grads.square};
    const Direction directions[] = {Direction::horizontal, Direction::vertical, Direction::square};
    for (int i = 0; i < 3; ++i) {
        Part& part = job.parts[i];
        const Stripe s = part.stripe = stripe(p, grads, directions[i]);
        part.target = targets[i];
        part.first_tap = job.all_taps;
        part.taps = s.length * s.thickness;
        job.all_taps += part.taps;
        const int length = s.vertical ? job.extent.height : job.extent.width;
        const int lines = s.vertical ? job.extent.width : job.extent.height;
        part.across_groups = (s.thickness + across_per_block - 1) / across_per_block;
        part.along_groups = (s.length + Engine::taps - 1) / Engine::taps;
        part.tiles = (length + along_per_block - 1) / along_per_block;
        part.cells = part.across_groups * part.along_groups * part.tiles;
        part.units_per_image = (lines + lines_per_unit - 1) / lines_per_unit;
        job.cells += part.cells;
    }
    return job;
}

int64_t sums(const Job& job) { return int64_t{job.extent.channels} * job.all_taps; }

// A job for the device, and how it is launched.
struct Plan {
    Job job;
    size_t shared_bytes;
    int64_t blocks, workspace_bytes;
};

template <typename Engine>
Plan plan(const StripeProblem& p, const Stripes& grads, const Limits& limit) {
    using T = typename Engine::Scalar;
    Job job = make_job<Engine>(p, grads);
    const size_t most = limit.shared_bytes;
    int plane_bits = Engine::most_plane_bits;
    while (plane_bits > 0 && channels_per_word<T> << (plane_bits - 1) >= job.extent.channels) --plane_bits;
    while (plane_bits > 0 && arrange<Engine>(job, plane_bits, Engine::unit_step) > most) --plane_bits;
    int units = Engine::unit_step;
    while (units < 8 && arrange<Engine>(job, plane_bits, 2 * units) <= most) units *= 2;
    const size_t bytes = arrange<Engine>(job, plane_bits, units);
    if (bytes > most) too_large(p);

    int64_t most_units = 0;
    for (const Part& part : job.parts)
        most_units = std::max(most_units, int64_t{job.extent.batch} * part.units_per_image);
    const int64_t chunks = (most_units + units - 1) / units;
    const int64_t wanted = std::max<int64_t>(1, 3 * limit.multiprocessors / (job.cells * job.channel_groups));
    const int64_t chunks_per_split = (chunks + wanted - 1) / wanted;
    job.units_per_split = chunks_per_split * units;
    const int64_t splits = (chunks + chunks_per_split - 1) / chunks_per_split;
    int64_t slots = 0;
    for (Part& part : job.parts) {
        part.slots = static_cast<int>(splits * part.tiles);
        slots = std::max<int64_t>(slots, part.slots);
    }
    return {job, bytes, job.cells * job.channel_groups * splits, slots * sums(job) * int64_t{sizeof(float)}};
}

template <typename Engine>
void run(Plan plan, const MapView& x, const MapView* const (&grads)[3], void* workspace, const Limits& limit, int device,
         cudaStream_t stream) {
    using T = typename Engine::Scalar;
    Job& job = plan.job;
    job.x = device_view<T>(x, job.extent);
    for (int i = 0; i < 3; ++i) job.parts[i].grad = device_view<T>(*grads[i], job.extent);
    job.workspace = static_cast<float*>(workspace);
    require_blocks(plan.blocks);
    check(allow_shared_memory<correlate<Engine>>(device, limit.shared_bytes), "stripe weight gradient");
    check(launch<correlate<Engine>>(plan.blocks, threads_per_block, plan.shared_bytes, stream, job),
          "stripe weight gradient");
    check(launch<add_partial_sums<T>>((sums(job) + 255) / 256, 256, 0, stream, job), "stripe weight gradient");
}

bool empty(const StripeProblem& p) { return p.batch == 0 || p.channels == 0 || p.height == 0 || p.width == 0; }

// f(an object of the problem's engine)
template <typename F>
void with_engine(const StripeProblem& p, const F& f) {
    switch (p.scalar) {
        case Scalar::f32:
            return f(FmaGradient());
        case Scalar::f16:
            return f(MmaGradient<__half>());
        case Scalar::bf16:
            return f(MmaGradient<__nv_bfloat16>());
        default:
            throw std::runtime_error("stripe convolution: CUDA has float32, float16 and bfloat16, not float64");
    }
}

}  // namespace

int64_t weight_grad_workspace(const StripeProblem& p, int device) {
    if (empty(p)) return 0;
    require_32_bits(p);
    int64_t bytes = 0;
    with_engine(p, [&](auto engine) { bytes = plan<decltype(engine)>(p, {}, limits(device)).workspace_bytes; });
    return bytes;
}

void stripe_weight_grad(const StripeProblem& p, const MapView& x, const MapView& grad_h, const MapView& grad_v,
                        const MapView& grad_s, const Stripes& grads, void* workspace, int device,
                        Stream stream_of_caller) {
    if (p.channels == 0) return;
    require_32_bits(p);
    select(device);
    const auto stream = static_cast<cudaStream_t>(stream_of_caller);
    if (empty(p)) {
        const size_t size = p.scalar == Scalar::f32 ? 4 : 2, stripe_bytes = p.channels * p.thickness * p.length * size;
        check(cudaMemsetAsync(grads.horizontal, 0, stripe_bytes, stream), "stripe weight gradient");
        check(cudaMemsetAsync(grads.vertical, 0, stripe_bytes, stream), "stripe weight gradient");
        check(cudaMemsetAsync(grads.square, 0, p.channels * p.thickness * p.thickness * size, stream),
              "stripe weight gradient");
        return;
    }
    with_engine(p, [&](auto engine) {
        using Engine = decltype(engine);
        const Limits limit = limits(device);
        run<Engine>(plan<Engine>(p, grads, limit), x, {&grad_h, &grad_v, &grad_s}, workspace, limit, device, stream);
    });
}

}  // namespace sw::cuda
