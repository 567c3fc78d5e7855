// stripe_weight_grad: correlations of x with the three gradients.
//
// Floor. Memory: 4 x B C H W elements, each map once. Arithmetic: a gradient pixel meets as many taps as in the forward; on
// matrix units, 72 products of 16x16x8 per channel, stripe and 16 lines at 56x56, thickness 3, length 51, and 21 for the
// square: 5 M warp instructions at C = 60, batch 128.
//
// Shape. A block streams units of 8 lines (rows for a horizontal stripe, columns for a vertical one) of many images
// through two stages of shared memory, and keeps its sums for some planes, 3 taps across and about 60 along. The square
// kernel's gradient rides along with the horizontal stripe's, for both read the same lines of x. Sums of different blocks
// meet in a workspace, and a second kernel adds them in a fixed order: no atomics.
#include <new>

#include "launch.h"
#include "stripe_cuda.h"
#include "weight_grad_block.cuh"

namespace sw::cuda {
namespace {

template <typename Engine>
__global__ void __launch_bounds__(32 * Engine::warps, Engine::least_blocks) correlate(const __grid_constant__ Job job) {
    // What all threads agree on is in shared memory, for registers are short.
    struct Agreed {
        Cell<Engine> cell;
        Chunk chunk;
    };
    static_assert(sizeof(Agreed) <= 4 * first_stage);
    auto* const agreed = reinterpret_cast<Agreed*>(shared_memory());
    uint32_t* const stages = shared_memory() + first_stage;
    uint32_t* const scratch = Engine::scratch_stays ? stages + 2 * job.stage_words : stages;
    if (threadIdx.x == 0) {
        new (&agreed->cell) Cell<Engine>(job, blockIdx.x);
        agreed->chunk = agreed->cell.chunk();
    }
    for (int i = threadIdx.x; i < 2 * job.stage_words; i += blockDim.x) stages[i] = 0;  // between the lines of x
    __syncthreads();
    const Cell<Engine>& cell = agreed->cell;
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

    const int64_t slot = cell.split * cell.part.tiles + cell.tile;
    engine.finish(agreed->chunk, scratch, [&](bool of_square, int channel_of_block, int a, int m, float value) {
        const Part& part = of_square ? job.parts[2] : cell.part;
        const int channel = cell.channel + channel_of_block;
        const int tap = part.first_tap + (cell.first_across + a) * part.stripe.across_stride +
                        (cell.first_along + m) * part.stripe.along_stride;
        if (channel < job.extent.channels)
            job.workspace[(slot * job.extent.channels + channel) * job.all_taps + tap] = value;
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
    for (int i = 0; i < (job.square_rides ? 2 : 3); ++i) {
        Part& part = job.parts[i];
        const bool rider = i == 0 && job.square_rides, turned = !Engine::oriented && part.stripe.vertical;
        const int length = part.stripe.vertical ? job.extent.height : job.extent.width;
        const int grad_count = round_up(std::min(along_per_block, length), Engine::block);
        const auto shape = [&](int along, int lines) {
            const int stride = odd_stride(turned ? lines : along, Engine::stride_step);
            return PlaneShape{stride, Engine::plane_size((turned ? along : lines) * stride, turned ? 1 : stride, plane_bits)};
        };
        part.lines_of_x = lines_per_unit + across_per_block - 1;
        int x_count = 0;
        for (int group = 0; group < part.along_groups; ++group) {
            const int reach = Engine::start(group * Engine::taps - part.stripe.anchor, rider);
            x_count = std::max(x_count, length + (-reach & (Engine::block - 1)));
        }
        x_count = std::min(round_up(x_count, Engine::block), Engine::needed(grad_count, std::min(Engine::taps, part.stripe.length)));
        if (Engine::oriented) {
            if (in_blocks(job.x, part.stripe.vertical)) part.lines_of_x = round_up(part.lines_of_x + 1, 8);
            x_count += zeros_in_front<Engine> + 4;
        }
        part.x_shape = shape(x_count, part.lines_of_x);
        part.grad_shape = shape(grad_count, lines_per_unit);
        job.stage_words = std::max(
            job.stage_words, (units << plane_bits) * (part.x_shape.size + (rider ? 2 : 1) * part.grad_shape.size));
    }
    const size_t stages = 2 * size_t(job.stage_words), scratch = Engine::scratch_words;
    return 4 * (first_stage + (Engine::scratch_stays ? stages + scratch : std::max(stages, scratch)));
}

template <typename Engine>
Job make_job(const StripeProblem& p, const MapView& x, const MapView* const (&maps)[3], const Stripes& grads) {
    using T = typename Engine::Scalar;
    Job job{};
    job.extent = extent(p);
    job.x = device_view<T>(x, job.extent);
    void* targets[] = {grads.horizontal, grads.vertical, grads.square};
    const Direction directions[] = {Direction::horizontal, Direction::vertical, Direction::square};
    for (int i = 0; i < 3; ++i) {
        Part& part = job.parts[i];
        const Stripe s = part.stripe = stripe(p, grads, directions[i]);
        part.grad = device_view<T>(*maps[i], job.extent);
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
    }
    job.square_rides = Engine::oriented && job.parts[0].across_groups == 1 && job.parts[0].along_groups == 1;
    if (job.square_rides) job.parts[2].cells = 0;
    for (const Part& part : job.parts) job.cells += part.cells;
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
Plan plan(const StripeProblem& p, Job job, const Limits& limit) {
    using T = typename Engine::Scalar;
    int widest = Engine::most_plane_bits;
    while (widest > 0 && channels_per_word<T> << (widest - 1) >= job.extent.channels) --widest;
    // Blocks that share a multiprocessor, if they can without reading less of a sector at a time.
    size_t most = (size_t(limit.shared_bytes) + 1024) / Engine::blocks_wanted - 1024;  // each costs 1 KB besides
    if (arrange<Engine>(job, widest, Engine::unit_step) > most) most = limit.shared_bytes;
    int plane_bits = widest, units = Engine::unit_step;
    while (plane_bits > 0 && arrange<Engine>(job, plane_bits, units) > most) --plane_bits;
    while (units < 8 && arrange<Engine>(job, plane_bits, 2 * units) <= most) units *= 2;
    const size_t bytes = arrange<Engine>(job, plane_bits, units);
    if (bytes > most) too_large(p);

    int64_t most_units = 0;
    for (const Part& part : job.parts)
        most_units = std::max(most_units, int64_t{job.extent.batch} * part.units_per_image);
    const int64_t chunks = (most_units + units - 1) / units;
    const int64_t wanted = std::max<int64_t>(1, 4 * limit.multiprocessors / (job.cells * job.channel_groups));
    const int64_t chunks_per_split = (chunks + wanted - 1) / wanted;
    job.units_per_split = std::min<int64_t>(chunks_per_split, 1 << 24) * units;
    const int64_t splits = (most_units + job.units_per_split - 1) / job.units_per_split;
    int64_t slots = 0;
    for (Part& part : job.parts) {
        part.slots = static_cast<int>(splits * part.tiles);
        slots = std::max<int64_t>(slots, part.slots);
    }
    return {job, bytes, job.cells * job.channel_groups * splits, slots * sums(job) * int64_t{sizeof(float)}};
}

template <typename Engine>
void run(Plan plan, void* workspace, const Limits& limit, int device, cudaStream_t stream) {
    using T = typename Engine::Scalar;
    Job& job = plan.job;
    job.workspace = static_cast<float*>(workspace);
    require_blocks(plan.blocks);
    check(allow_shared_memory<correlate<Engine>>(device, limit.shared_bytes), "stripe weight gradient");
    check(launch<correlate<Engine>>(plan.blocks, 32 * Engine::warps, plan.shared_bytes, stream, job),
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

int64_t weight_grad_workspace(const StripeProblem& p, const MapView& x, int device) {
    if (empty(p)) return 0;
    require_32_bits(p);
    int64_t bytes = 0;
    with_engine(p, [&](auto engine) {
        using Engine = decltype(engine);
        bytes = plan<Engine>(p, make_job<Engine>(p, x, {&x, &x, &x}, {}), limits(device)).workspace_bytes;
    });
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
        const Job job = make_job<Engine>(p, x, {&grad_h, &grad_v, &grad_s}, grads);
        run<Engine>(plan<Engine>(p, job, limit), workspace, limit, device, stream);
    });
}

}  // namespace sw::cuda
