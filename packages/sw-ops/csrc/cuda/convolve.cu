// stripe_forward, stripe_fused and stripe_input_grad: sums of stripe convolutions of one to three maps.
//
// Floor. Memory: every map once, so 4 x B C H W elements for the forward and for the input gradient, 2 x for the fused
// form. At 56x56, C = 60, batch 128, bf16 the forward moves 193 MB: 40 us at 4.8 TB/s. Arithmetic on the matrix units,
// padding included: 12,000 products of 16x16x8 per 16 channels and image there (thickness 3, length 51), 25 GFLOP: 32 us
// at 790 TFLOP/s. The two are close, so loads, products and stores of different warps and blocks have to overlap.
//
// Shape. A block owns some planes of some images and keeps what their taps reach in shared memory: lines over all of a map
// up to 64x64, or windows of a larger one, of which the next is on its way while one is worked on. Each of its warps owns
// one plane and a [32, 32] tile of the output. Two blocks share a multiprocessor where they can, and one works while the
// other waits; blocks of neighbouring channels run side by side, so the second half of a sector is found in the L2.
#include "convolve_fma.cuh"
#include "convolve_mma.cuh"
#include "launch.h"
#include "stripe_cuda.h"

namespace sw::cuda {
namespace {

constexpr int most_plane_bits = 3;

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
    int buffer_offset[3], stage_offset, bank_offset[3], zeros_offset;  // in words of shared memory
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
    __device__ explicit Block(const Job& job) : job_(job) {
        const int tile_groups = job.tile_rows * job.tile_columns / job.tiles_per_block;
        const int group = blockIdx.x % job.channel_groups, rest = blockIdx.x / job.channel_groups;
        const int tile = rest % tile_groups * job.tiles_per_block;
        channel_ = group * (channels_per_word<Scalar> << job.plane_bits);
        first_ = {rest / tile_groups * job.images, tile / job.tile_columns * tile_height(),
                  tile % job.tile_columns * tile_width()};
    }

    __device__ void run() {
        if (threadIdx.x < zero_words) shared_memory()[job_.zeros_offset + threadIdx.x] = 0;
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
            const Region here = region(now);
            if constexpr (Engine::oriented)
                if (loads(now)) {
                    settle_lines(window(now), job_.shapes[buffer(now)], job_.plane_bits, part.input,
                                 part.stripe.vertical, lines(now, here));
                    __syncthreads();
                }
            next = after(now, here.chunks);
            const bool completes = part.completes_output && next.chunk == 0;
            ahead = buffer(next) != buffer(now);  // then it loads while this computes
            if (ahead) fetch(next);
#pragma unroll 1
            for (int number = now.part;; number = 2) {
                if (starts)
                    engine_.start(stage(), static_cast<const Scalar*>(job_.bias), warp_channel(), job_.extent.channels);
                accumulate(now, here, number);
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

    __device__ int tile_height() const { return Engine::size << job_.row_bits; }
    __device__ int tile_width() const { return Engine::size << job_.column_bits; }
    __device__ uint32_t* stage() const { return shared_memory() + job_.stage_offset; }
    __device__ int warp_plane() const { return warp_index() & ((1 << job_.plane_bits) - 1); }
    __device__ int warp_channel() const { return channel_ + warp_plane() * channels_per_word<Scalar>; }

    __device__ int buffer(const Request& request) const {
        return job_.take_turns ? request.turn % 2 : job_.parts[request.part].buffer;
    }
    __device__ uint32_t* window(const Request& request) const {
        return shared_memory() + job_.buffer_offset[buffer(request)];
    }
    __device__ int first_image(const Request& request) const {
        return job_.images_in_window == job_.images ? first_.image : request.tile.image;
    }

    // Where a slot of warps (one tile of the map for all planes) lies in the block's tile.
    __device__ Tile slot_origin(const Tile& tile, int slot) const {
        const int column = slot & ((1 << job_.column_bits) - 1), rest = slot >> job_.column_bits;
        const int row = rest & ((1 << job_.row_bits) - 1), image = rest >> job_.row_bits;
        return {tile.image + image, tile.row + row * Engine::size, tile.column + column * Engine::size};
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
        tile.image += 1 << job_.image_bits;
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
                               part.stripe.vertical, lines(request, need));
        else
            load_tiles<Scalar>(window(request), shape, job_.plane_bits, part.input, job_.extent, channel_,
                               job_.images_in_window, need.rows, need.columns,
                               [&](int i) { return Tile{image + i, need.row, need.column}; });
        copy_async_commit();
    }

    __device__ Lines lines(const Request& request, const Region& need) const {
        const int image = first_image(request), images = job_.images_in_window;
        if (job_.parts[request.part].stripe.vertical)
            return {image, images, need.column, need.columns, need.row, need.rows};
        return {image, images, need.row, need.rows, need.column, need.columns};
    }

    // Adds what a part's stripe gives in the window that was loaded for the request.
    __device__ void accumulate(const Request& request, const Region& here, int number) {
        const Part& part = job_.parts[number];
        const Tile tile = slot_origin(request.tile, warp_index() >> job_.plane_bits);
        if (tile.image >= job_.extent.batch || tile.row >= job_.extent.height || tile.column >= job_.extent.width ||
            warp_channel() >= job_.extent.channels)
            return;
        const PlaneShape& shape = job_.shapes[buffer(request)];
        const int plane = ((tile.image - first_image(request)) << job_.plane_bits) + warp_plane();
        const Window here_of_plane{window(request) + plane * shape.size, shared_memory() + job_.zeros_offset,
                                   shape.stride, here.row, here.column, here.along, here.count};
        const int first_row_of_bank = warp_plane() * channels_per_word<Scalar> * part.stripe.thickness;
        const uint32_t* bank = shared_memory() + job_.bank_offset[number] +
                               first_row_of_bank * bank_row<Engine>(part.stripe);
        engine_.accumulate(here_of_plane, part.stripe, bank, job_.extent, tile.row, tile.column);
    }

    const Job& job_;
    Engine engine_;
    int channel_;
    Tile first_;
};

template <typename Engine>
__global__ void __launch_bounds__(32 << Engine::warp_bits, Engine::least_blocks) convolve(const __grid_constant__ Job job) {
    Block<Engine>(job).run();
}

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

// Lays the block out for 2^warp_bits warps; returns its shared memory in bytes.
template <typename Engine>
size_t arrange(Job& job, int warp_bits, int plane_bits, Windows windows, int reach, int image_steps) {
    const Extent& extent = job.extent;
    const int row_tiles = (extent.height + Engine::size - 1) / Engine::size;
    const int column_tiles = (extent.width + Engine::size - 1) / Engine::size;
    const int slot_bits = warp_bits - plane_bits;
    job.plane_bits = plane_bits;
    job.column_bits = std::min({slot_bits, 1, bits(column_tiles)});
    job.row_bits = std::min(slot_bits - job.column_bits, bits(row_tiles));
    job.image_bits = slot_bits - job.column_bits - job.row_bits;
    job.images = image_steps << job.image_bits;
    job.images_in_window = windows == Windows::resident ? job.images : 1 << job.image_bits;
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
        const int most_rows = std::min(extent.height, s.vertical || all ? reach : Engine::size << job.row_bits);
        const int most_columns = std::min(extent.width, !s.vertical || all ? reach : Engine::size << job.column_bits);
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
    words += size_t(Engine::stage_size) << warp_bits;
    job.zeros_offset = static_cast<int>(words);  // where matrices may be: at a multiple of 16 bytes
    words += zero_words;
    for (int i = 0; i < job.part_count + job.square_rides; ++i) {
        job.bank_offset[i] = static_cast<int>(words);
        words += size_t(channels) * job.parts[i].stripe.thickness * bank_row<Engine>(job.parts[i].stripe);
    }
    // A tile that hangs over the map's end reads on behind its plane, and drops the result.
    for (int b = 0; b < 3; ++b)
        words = std::max(words, job.buffer_offset[b] + buffer_words[b] + Engine::size * job.shapes[b].stride);
    return 4 * words;
}

int64_t blocks(const Job& job) {
    const int64_t tile_groups = int64_t{job.tile_rows} * job.tile_columns / job.tiles_per_block;
    return job.channel_groups * tile_groups * ((job.extent.batch - 1) / job.images + 1);
}

template <typename Engine>
void run(const StripeProblem& problem, Job job, int device, Stream stream) {
    const Limits limit = limits(device);
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
            bytes = arrange<Engine>(job, warp_bits, plane_bits, windows, option.reach, 1);
            if (job.whole == option.for_whole_maps && bytes <= available) return true;
        }
        return false;
    };
    const auto found = [&](size_t available, int least_plane_bits) {
        for (plane_bits = std::min({most_plane_bits, bits(words), warp_bits}); plane_bits >= least_plane_bits; --plane_bits)
            if (fits(available)) return true;
        return false;
    };
    // Blocks that share a multiprocessor, with at least half a sector of channels each where channels lie side by side;
    // else as many warps, and for them as many channels, as shared memory takes.
    warp_bits = Engine::warp_bits_wanted;
    if (!found(share, job.parts[0].input.channels_inner ? std::min(2, bits(words)) : 0)) {
        warp_bits = Engine::warp_bits;
        while (!found(most, 0))
            if (--warp_bits < 0) too_large(problem);
    }
    // More images per block, as long as the device stays busy, so that a bank serves more of them.
    for (Job larger = job;; job = larger) {
        const int image_steps = 2 * (job.images >> job.image_bits);
        const size_t larger_bytes = arrange<Engine>(larger, warp_bits, plane_bits, windows, job.reach, image_steps);
        if (larger_bytes > std::max(share, bytes) || blocks(larger) < 3 * limit.multiprocessors) break;
        if (job.images >= job.extent.batch) break;
        bytes = larger_bytes;
    }
    require_blocks(blocks(job));
    check(allow_shared_memory<convolve<Engine>>(device, limit.shared_bytes), "stripe convolution");
    check(launch<convolve<Engine>>(blocks(job), 32 << warp_bits, bytes, static_cast<cudaStream_t>(stream), job),
          "stripe convolution");
}

template <typename T>
void run_half(const StripeProblem& problem, const Job& job, int device, Stream stream) {
    if (problem.height <= 16 && problem.width <= 16)
        run<MmaConvolve<T, 16, 16, 2>>(problem, job, device, stream);
    else
        run<MmaConvolve<T, 32, 64, 1>>(problem, job, device, stream);
}

struct Term {
    Direction direction;
    const MapView& input;
    const MapView& output;
};

enum class Outputs { one, one_per_term };

template <typename T>
Job make_job(const StripeProblem& p, const Stripes& kernels, const void* bias, bool transpose,
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

void convolve_maps(const StripeProblem& p, const Stripes& kernels, const void* bias, bool transpose,
                   std::initializer_list<Term> terms, Outputs outputs, int device, Stream stream) {
    if (p.batch == 0 || p.channels == 0 || p.height == 0 || p.width == 0) return;
    require_32_bits(p);
    select(device);
    switch (p.scalar) {
        case Scalar::f32:
            return run<FmaConvolve>(p, make_job<float>(p, kernels, bias, transpose, terms, outputs), device, stream);
        case Scalar::f16:
            return run_half<__half>(p, make_job<__half>(p, kernels, bias, transpose, terms, outputs), device, stream);
        case Scalar::bf16:
            return run_half<__nv_bfloat16>(
                p, make_job<__nv_bfloat16>(p, kernels, bias, transpose, terms, outputs), device, stream);
        default:
            throw std::runtime_error("stripe convolution: CUDA has float32, float16 and bfloat16, not float64");
    }
}

}  // namespace

std::string usable(int device) {
    cudaFuncAttributes attributes;
    cudaError_t error = cudaSetDevice(device);
    if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&convolve<FmaConvolve>));
    if (error == cudaSuccess) return "";
    cudaGetLastError();  // forgets the error, which is not one of the next launch
    return cudaGetErrorString(error);
}

// Terms alternate between horizontal and vertical: with paired windows, one loads while the other is worked on.

void stripe_forward(const StripeProblem& p, const MapView& x, const Stripes& kernels, const MapView& h, const MapView& v,
                    const MapView& s, int device, Stream stream) {
    convolve_maps(p, kernels, nullptr, false,
                  {{Direction::horizontal, x, h}, {Direction::vertical, x, v}, {Direction::square, x, s}},
                  Outputs::one_per_term, device, stream);
}

void stripe_fused(const StripeProblem& p, const MapView& x, const Stripes& kernels, const void* bias, const MapView& y,
                  int device, Stream stream) {
    convolve_maps(p, kernels, bias, false, {{Direction::horizontal, x, y}, {Direction::vertical, x, y}}, Outputs::one,
                  device, stream);
}

void stripe_input_grad(const StripeProblem& p, const MapView& grad_h, const MapView& grad_v, const MapView& grad_s,
                       const Stripes& kernels, const MapView& grad_x, int device, Stream stream) {
    convolve_maps(p, kernels, nullptr, true,
                  {{Direction::horizontal, grad_h, grad_x},
                   {Direction::vertical, grad_v, grad_x},
                   {Direction::square, grad_s, grad_x}},
                  Outputs::one, device, stream);
}

}  // namespace sw::cuda
