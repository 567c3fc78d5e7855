// How a sum of stripe convolutions is laid out for a device.
#pragma once
#include "convolve_block.cuh"
#include "launch.h"

namespace sw::cuda {
namespace {

constexpr int most_plane_bits = 3;

int bits(int64_t count) {  // of the smallest power of two that is not smaller
    int b = 0;
    while (int64_t{1} << b < count) ++b;
    return b;
}

// How windows use shared memory:
//   resident  all of every map for all tiles and images of the block
//   paired    one buffer for vertical windows, one for horizontal ones
//   turns     two buffers, which the windows of maps larger than one take in turns
enum class Windows { resident, paired, turns };

// Lays the block out for 2^warp_bits warps; returns its shared memory in bytes. A step is all images that its warps work
// on at once; a window of resident maps holds `window_steps` of them, and the block works through `window_count` windows.
template <typename Engine>
size_t arrange(Job& job, int warp_bits, int plane_bits, Windows windows, int reach, int window_steps, int window_count) {
    const Extent& extent = job.extent;
    const int row_tiles = (extent.height + Engine::rows - 1) / Engine::rows;
    const int column_tiles = (extent.width + Engine::columns - 1) / Engine::columns;
    const int slot_bits = warp_bits - plane_bits - Engine::channel_bits;
    job.plane_bits = plane_bits;
    job.column_bits = std::min({slot_bits, 1, bits(column_tiles)});
    job.row_bits = std::min(slot_bits - job.column_bits, bits(row_tiles));
    job.image_bits = slot_bits - job.column_bits - job.row_bits;
    job.images_in_window = window_steps * Engine::images << job.image_bits;
    job.images = window_count * job.images_in_window;
    job.reach = reach;
    job.take_turns = windows == Windows::turns;
    const int channels = channels_per_word<typename Engine::Scalar> << plane_bits;
    job.channel_groups = (extent.channels + channels - 1) / channels;
    job.tile_rows = (row_tiles + (1 << job.row_bits) - 1) >> job.row_bits;
    job.tile_columns = (column_tiles + (1 << job.column_bits) - 1) >> job.column_bits;
    job.whole = extent.height <= Engine::reach && extent.width <= Engine::reach;
    job.tiles_per_block = job.whole ? job.tile_rows * job.tile_columns : 1;

    int rows[3] = {}, columns[3] = {};
    for (int i = 0; i < job.part_count; ++i) {
        Part& part = job.parts[i];
        const Stripe& s = part.stripe;
        const bool first_of_map = Engine::oriented || i == 0 || !(part.input == job.parts[0].input);
        const int halo = s.thickness - 1;
        if (windows == Windows::resident) {
            part.buffer = first_of_map ? i : 0;
            part.load = first_of_map ? Load::once : Load::never;
        } else {
            part.buffer = s.vertical ? 0 : 1;
            part.load = job.whole && s.vertical ? Load::once : Load::always;
        }
        const bool all = part.load != Load::always;
        const int most_rows = std::min(extent.height, s.vertical || all ? reach : Engine::rows << job.row_bits);
        const int most_columns = std::min(extent.width, !s.vertical || all ? reach : Engine::columns << job.column_bits);
        if (Engine::oriented) {  // "rows" are lines, and "columns" pixels along them
            const int lines = (s.vertical ? most_columns : most_rows) + halo;
            const int along = s.vertical ? most_rows : most_columns;
            rows[part.buffer] =
                std::max(rows[part.buffer], in_blocks(part.input, s.vertical) ? round_up(lines + 1, 8) : lines);
            columns[part.buffer] = std::max(columns[part.buffer], round_up(along, Engine::window_step));
        } else {
            rows[part.buffer] = std::max(rows[part.buffer], most_rows + halo);
            columns[part.buffer] = std::max(columns[part.buffer], most_columns + halo);
        }
    }
    if (job.take_turns) {
        rows[0] = rows[1] = std::max(rows[0], rows[1]);
        columns[0] = columns[1] = std::max(columns[0], columns[1]);
    }
    size_t words = 0, buffer_words[3];
    for (int b = 0; b < 3; ++b) {
        const int stride = odd_stride(columns[b], Engine::stride_step);
        // 4 words past a multiple of 32: neighbouring planes then start in different banks.
        job.shapes[b] = {stride, round_up(rows[b] * stride, 32) + 4};
        buffer_words[b] = rows[b] ? (size_t(job.images_in_window) << plane_bits) * job.shapes[b].size : 0;
        job.buffer_offset[b] = static_cast<int>(words);
        words += buffer_words[b];
    }
    job.stage_offset = static_cast<int>(words);
    words += size_t(Engine::stage_size) << (warp_bits - Engine::channel_bits);
    words += zero_words;
    for (int i = 0; i < job.part_count + job.square_rides; ++i) {
        job.bank_offset[i] = static_cast<int>(words);
        words += size_t(channels) * job.parts[i].stripe.thickness * bank_row<Engine>(job.parts[i].stripe);
    }
    job.bank_end = static_cast<int>(words);
    words += zero_words + Engine::bank_slack;
    // A tile that hangs over the map's end reads on behind its plane, and drops the result.
    for (int b = 0; b < 3; ++b)
        words = std::max(words, job.buffer_offset[b] + buffer_words[b] +
                                    std::max(Engine::rows, Engine::columns) * job.shapes[b].stride);
    return 4 * words;
}

int64_t blocks(const Job& job) {
    const int64_t tile_groups = int64_t{job.tile_rows} * job.tile_columns / job.tiles_per_block;
    return job.channel_groups * tile_groups * ((job.extent.batch - 1) / job.images + 1);
}

// A job for the device, and how it is launched.
struct ConvolutionPlan {
    Job job;
    size_t shared_bytes;
    int threads;
    int64_t blocks;
};

template <typename Engine>
ConvolutionPlan plan_convolution(const StripeProblem& problem, Job job, const Limits& limit) {
    const size_t most = limit.shared_bytes;
    const int words = (job.extent.channels - 1) / channels_per_word<typename Engine::Scalar> + 1;
    const size_t share = (most + 1024) / Engine::blocks_wanted - 1024;  // of a block; each costs 1 KB besides
    if (Engine::oriented && job.part_count == 3 && job.parts[2].input == job.parts[0].input &&
        std::max(job.extent.height, job.extent.width) <= Engine::reach) {
        job.part_count = 2;
        job.square_rides = true;
    }
    int warp_bits = 0, plane_bits = 0;
    size_t bytes = 0;
    Windows windows{};
    const auto fits = [&](size_t available) {
        struct Option {
            Windows windows;
            int reach;
            bool for_whole_maps;
        };
        constexpr int reach = Engine::reach;
        for (const Option& option : {Option{Windows::resident, reach, true}, Option{Windows::paired, reach, true},
                                     Option{Windows::turns, reach, false}, Option{Windows::turns, reach / 2, false},
                                     Option{Windows::paired, reach, false}}) {
            windows = option.windows;
            bytes = arrange<Engine>(job, warp_bits, plane_bits, windows, option.reach, 1, 1);
            if (job.whole == option.for_whole_maps && bytes <= available) return true;
        }
        return false;
    };
    const auto found = [&](size_t available, int least_plane_bits) {
        plane_bits = std::min({most_plane_bits, bits(words), warp_bits - Engine::channel_bits});
        for (; plane_bits >= least_plane_bits; --plane_bits)
            if (fits(available)) return true;
        return false;
    };
    // Blocks that share a multiprocessor, with at least half a sector of channels each where channels lie side by side;
    // else as many warps, and for them as many channels, as shared memory takes.
    warp_bits = Engine::warp_bits_wanted;
    if (!found(share, job.parts[0].input.channels_inner ? std::min(2, bits(words)) : 0)) {
        warp_bits = Engine::warp_bits;
        while (!found(most, 0))
            if (--warp_bits < Engine::channel_bits) too_large(problem);
    }
    // More images per block, as long as the device stays busy: a bank serves more of them, and the next window loads while
    // one is worked on.
    const auto grow = [&](int window_steps, int window_count) {
        Job larger = job;
        const size_t larger_bytes =
            arrange<Engine>(larger, warp_bits, plane_bits, windows, job.reach, window_steps, window_count);
        if (larger_bytes > std::max(share, bytes) || job.images >= job.extent.batch) return false;
        if (blocks(larger) < 2 * Engine::blocks_wanted * limit.multiprocessors) return false;
        job = larger;
        bytes = larger_bytes;
        return true;
    };
    int window_steps = 1, window_count = 1;
    while (windows == Windows::resident && grow(2 * window_steps, 1)) window_steps *= 2;
    while (grow(window_steps, 2 * window_count)) window_count *= 2;
    return {job, bytes, 32 << warp_bits, blocks(job)};
}

// f(an object of the engine for maps of this size)
template <typename T, typename F>
void with_half_engine(const StripeProblem& problem, const F& f) {
    const int64_t size = std::max(problem.height, problem.width);
    if (size <= 16)
        f(MmaConvolve<T, 16, 16, 4, 16>());
    else if (size <= 32)
        f(MmaConvolve<T, 32, 32, 2, 32>());
    else
        f(MmaConvolve<T, 32, 64, 1, 64>());
}

struct Term {
    Direction direction;
    const MapView& input;
    const MapView& output;
};

enum class Outputs { one, one_per_term };

template <typename T>
Job convolution_job(const StripeProblem& p, const Stripes& kernels, const void* bias, bool transpose,
             std::initializer_list<Term> terms, Outputs outputs) {
    Job job{};
    job.extent = extent(p);
    job.bias = bias;
    for (const Term& term : terms) {
        const Stripe s = stripe(p, kernels, term.direction);
        Part& part = job.parts[job.part_count++];
        part.stripe = transpose ? transposed(s) : s;
        part.input = device_view<T>(term.input, job.extent);
        part.output = device_view<T>(term.output, job.extent);
        part.completes_output = outputs == Outputs::one_per_term || &term == terms.end() - 1;
    }
    return job;
}

}  // namespace
}  // namespace sw::cuda
