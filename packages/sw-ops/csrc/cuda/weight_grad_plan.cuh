// How stripe_weight_grad is laid out for a device.
#pragma once
#include "launch.h"
#include "weight_grad_block.cuh"

namespace sw::cuda {
namespace {

// Lays the shared memory out; returns its size in bytes.
template <typename Engine>
size_t arrange(GradientJob& job, int plane_bits, int units) {
    job.plane_bits = plane_bits;
    job.units_per_chunk = units;
    const int channels = channels_per_word<typename Engine::Scalar> << plane_bits;
    job.channel_groups = (job.extent.channels + channels - 1) / channels;
    job.stage_words = 0;
    for (int i = 0; i < (job.square_rides ? 2 : 3); ++i) {
        GradientPart& part = job.parts[i];
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
GradientJob gradient_job(const StripeProblem& p, const MapView& x, const MapView* const (&maps)[3], const Stripes& grads) {
    using T = typename Engine::Scalar;
    GradientJob job{};
    job.extent = extent(p);
    job.x = device_view<T>(x, job.extent);
    void* targets[] = {grads.horizontal, grads.vertical, grads.square};
    const Direction directions[] = {Direction::horizontal, Direction::vertical, Direction::square};
    for (int i = 0; i < 3; ++i) {
        GradientPart& part = job.parts[i];
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
    for (const GradientPart& part : job.parts) job.cells += part.cells;
    return job;
}

int64_t sums(const GradientJob& job) { return int64_t{job.extent.channels} * job.all_taps; }

// A job for the device, and how it is launched.
struct GradientPlan {
    GradientJob job;
    size_t shared_bytes;
    int64_t blocks, workspace_bytes;
};

template <typename Engine>
GradientPlan plan_gradient(const StripeProblem& p, GradientJob job, const Limits& limit) {
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
    for (const GradientPart& part : job.parts)
        most_units = std::max(most_units, int64_t{job.extent.batch} * part.units_per_image);
    const int64_t chunks = (most_units + units - 1) / units;
    const int64_t wanted = std::max<int64_t>(1, 4 * limit.multiprocessors / (job.cells * job.channel_groups));
    const int64_t chunks_per_split = (chunks + wanted - 1) / wanted;
    job.units_per_split = std::min<int64_t>(chunks_per_split, 1 << 24) * units;
    const int64_t splits = (most_units + job.units_per_split - 1) / job.units_per_split;
    int64_t slots = 0;
    for (GradientPart& part : job.parts) {
        part.slots = static_cast<int>(splits * part.tiles);
        slots = std::max<int64_t>(slots, part.slots);
    }
    return {job, bytes, job.cells * job.channel_groups * splits, slots * sums(job) * int64_t{sizeof(float)}};
}

template <typename T>
__global__ void add_partial_sums(const __grid_constant__ GradientJob job) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    const int64_t stride = static_cast<int64_t>(job.extent.channels) * job.all_taps;
    if (i >= stride) return;
    const int tap = static_cast<int>(i % job.all_taps);
    int number = 0;
    while (tap >= job.parts[number].first_tap + job.parts[number].taps) ++number;
    const GradientPart& part = job.parts[number];
    float sum = 0.0f;
    for (int64_t slot = 0; slot < part.slots; ++slot) sum += job.workspace[slot * stride + i];
    static_cast<T*>(part.target)[i / job.all_taps * part.taps + tap - part.first_tap] = static_cast<T>(sum);
}

template <typename T>
void add_up(const GradientJob& job, cudaStream_t stream) {
    check(launch<add_partial_sums<T>>((sums(job) + 255) / 256, 256, 0, stream, job), "stripe weight gradient");
}

}  // namespace
}  // namespace sw::cuda
