// The four functions of stripe_cpu.h. Included once per instruction set, with SW_INSTRUCTION_SET (a namespace) and
// SW_VECTOR_BYTES defined. Here and in what is included here, no function of the standard library may be used that
// the compiler might not inline: the linker keeps one copy of each, and it could be the one compiled for
// instructions that the machine at hand lacks.
#pragma once
#include "instruction_set.h"
#include "kernels.h"
#include "parallel.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

// A few blocks of channels, which fill a vector each, of some of the images.
struct Part {
    int64_t first_channel, channels, blocks;
    int64_t first_image, last_image;
};

// A problem cut into parts that threads work on.
struct Partition {
    // More blocks in a part save memory traffic where channels lie next to each other, since a block alone fills no
    // whole cache lines there; more images save preparations of the kernels.
    Partition(const StripeProblem& problem, bool channels_last, int64_t lanes, int64_t wanted)
        : batch(problem.batch), channels(problem.channels), lanes(lanes) {
        const int64_t blocks = ceil_divide(channels, lanes);
        group = lanes * (channels_last ? larger(1, smaller(max_blocks, blocks * batch / wanted)) : 1);
        groups = ceil_divide(channels, group);
        chunks = groups ? larger(1, smaller(batch, ceil_divide(wanted, groups))) : 0;
    }

    int64_t parts() const { return groups * chunks; }

    Part part(int64_t index) const {
        const int64_t first = index / chunks * group, chunk = index % chunks;
        const int64_t count = smaller(group, channels - first);
        return {first, count, ceil_divide(count, lanes), batch * chunk / chunks, batch * (chunk + 1) / chunks};
    }

    static constexpr int max_blocks = 4;
    int64_t batch, channels, lanes, group, groups, chunks;
};

template <class F>
void parallel(int64_t tasks, int threads, const F& f) {
    parallel_for(tasks, threads, [](const void* f, int64_t task) { (*static_cast<const F*>(f))(task); }, &f);
}

// A Work made in the calling thread's scratch memory.
template <class Work, class... Arguments>
Work make_work(const Arguments&... arguments) {
    Arena measure;
    Work(measure, arguments...);
    Arena arena(thread_scratch(measure.used()));
    return Work(arena, arguments...);
}

template <class Storage>
Picture<Storage> kernel_picture(void* kernel, int64_t size, const Part& part) {
    return {static_cast<Storage*>(kernel) + part.first_channel * size, size, 1, size, 1, size, part.channels};
}

template <class Storage>
Picture<Storage> map_picture(const StripeProblem& problem, const Map& map, int64_t image, const Part& part) {
    return {static_cast<Storage*>(map.data) + image * map.batch_stride + part.first_channel * map.channel_stride,
            map.row_stride, map.column_stride, map.channel_stride, problem.height, problem.width, part.channels};
}

template <class T, class Scheme>
PaddedMap<T> padded_map(Arena& arena, const StripeProblem& problem, const Scheme& scheme, int64_t blocks) {
    return {arena, problem, scheme.thickness - 1, Scheme::outputs, blocks};
}

// A convolution's input and output; no input: that of the one before; no output: the next adds to its result.
struct Pass {
    const Map *from, *to;
};

struct Convolutions {
    Stripes kernels;
    bool transposed;
    Pass vertical, horizontal, square;  // in this order; no square where its kernel is null
    const void* bias;                   // or null
};

template <class T, class Scheme>
struct ConvolutionWork {
    ConvolutionWork(Arena& arena, const StripeProblem& problem, const Scheme& scheme, bool transposed, int64_t blocks)
        : x(padded_map<T>(arena, problem, scheme, blocks)), y(padded_map<T>(arena, problem, scheme, blocks)),
          bias(arena.take<Vector<T>>(blocks)),
          packed(arena.take<Vector<T>>(blocks * problem.thickness * larger(problem.length, problem.thickness))),
          vertical(arena, problem, scheme, oriented(vertical_stripe(problem), transposed), blocks),
          horizontal(arena, problem, scheme, oriented(horizontal_stripe(problem), transposed), blocks),
          square(arena, problem, scheme, oriented(square_stripe(problem), transposed), blocks) {}

    static Stripe oriented(const Stripe& stripe, bool transposed) { return transposed ? stripe.flipped() : stripe; }

    PaddedMap<T> x, y;
    Vector<T>*bias, *packed;
    StripeConvolution<T, Scheme> vertical, horizontal;
    typename Square<T, Scheme>::Convolution square;
};

template <class Storage, class Scheme>
void convolve(const StripeProblem& problem, const Scheme& scheme, const Convolutions& convolutions, int threads) {
    using T = SumOf<Storage>;
    const bool channels_last = convolutions.vertical.from->channel_stride == 1;
    const Partition partition(problem, channels_last, lanes<T>, threads > 1 ? 4 * threads : 1);
    parallel(partition.parts(), threads, [&](int64_t task) {
        const Part part = partition.part(task);
        const auto work = make_work<ConvolutionWork<T, Scheme>>(problem, scheme, convolutions.transposed, part.blocks);

        const auto set_kernel = [&](const auto& convolution, void* kernel) {
            const int64_t size = convolution.size();
            pack(kernel_picture<const Storage>(kernel, size, part), {work.packed, size, size});
            for (int64_t b = 0; b < part.blocks; ++b) convolution.set_kernel(b, work.packed + b * size);
        };
        set_kernel(work.vertical, convolutions.kernels.vertical);
        set_kernel(work.horizontal, convolutions.kernels.horizontal);
        if (convolutions.kernels.square) set_kernel(work.square, convolutions.kernels.square);
        clear<T>(work.bias, part.blocks);
        if (convolutions.bias) {
            pack(kernel_picture<const Storage>(const_cast<void*>(convolutions.bias), 1, part), {work.bias, 1, 1});
        }

        for (int64_t image = part.first_image; image < part.last_image; ++image) {
            bool add = false;
            const auto run = [&](const auto& convolution, const Pass& pass) {
                if (pass.from) pack(map_picture<const Storage>(problem, *pass.from, image, part), work.x.planes());
                for (int64_t b = 0; b < part.blocks; ++b) {
                    add ? convolution.template run<true>(b, work.x, work.y)
                        : convolution.template run<false>(b, work.x, work.y);
                }
                if (pass.to) unpack(work.y.planes(), work.bias, map_picture<Storage>(problem, *pass.to, image, part));
                add = !pass.to;
            };
            run(work.vertical, convolutions.vertical);
            run(work.horizontal, convolutions.horizontal);
            if (convolutions.kernels.square) run(work.square, convolutions.square);
        }
    });
}

template <class T, class Scheme>
struct GradientWork {
    GradientWork(Arena& arena, const StripeProblem& problem, const Scheme& scheme, int64_t blocks)
        : x(padded_map<T>(arena, problem, scheme, blocks)), grad(padded_map<T>(arena, problem, scheme, blocks)),
          horizontal(arena, problem, scheme, horizontal_stripe(problem), blocks),
          vertical(arena, problem, scheme, vertical_stripe(problem), blocks),
          square(arena, problem, scheme, square_stripe(problem), blocks) {}

    PaddedMap<T> x, grad;
    StripeGradient<T, Scheme> horizontal, vertical;
    typename Square<T, Scheme>::Gradient square;
};

template <class Storage, class Scheme>
void correlate(const StripeProblem& problem, const Scheme& scheme, const Map& x, const Map& grad_h, const Map& grad_v,
               const Map& grad_s, const Stripes& grad_kernels, int threads) {
    using T = SumOf<Storage>;
    // The order of a sum must not depend on the number of threads: the images are cut for many of them in any case.
    const Partition partition(problem, x.channel_stride == 1, lanes<T>, 16);
    const int64_t long_size = problem.thickness * problem.length, short_size = problem.thickness * problem.thickness;
    const int64_t size = 2 * long_size + short_size;  // of a block's three kernels, which lie one behind the other
    const int64_t part_size = partition.group / lanes<T> * size;
    const Buffer memory(static_cast<size_t>(partition.parts() * part_size) * sizeof(Vector<T>));
    Vector<T>* const sums = static_cast<Vector<T>*>(memory.data());

    parallel(partition.parts(), threads, [&](int64_t task) {
        const Part part = partition.part(task);
        const auto work = make_work<GradientWork<T, Scheme>>(problem, scheme, part.blocks);
        for (int64_t image = part.first_image; image < part.last_image; ++image) {
            pack(map_picture<const Storage>(problem, x, image, part), work.x.planes());
            const auto add = [&](const auto& gradient, const Map& grad) {
                pack(map_picture<const Storage>(problem, grad, image, part), work.grad.planes());
                for (int64_t b = 0; b < part.blocks; ++b) gradient.add(b, work.x, work.grad);
            };
            add(work.horizontal, grad_h);
            add(work.vertical, grad_v);
            add(work.square, grad_s);
        }
        for (int64_t b = 0; b < part.blocks; ++b) {
            Vector<T>* const block = sums + task * part_size + b * size;
            work.horizontal.get_kernel(b, block);
            work.vertical.get_kernel(b, block + long_size);
            work.square.get_kernel(b, block + 2 * long_size);
        }
    });

    parallel(partition.groups, threads, [&](int64_t group) {
        const Part part = partition.part(group * partition.chunks);
        Vector<T>* const sum = sums + group * partition.chunks * part_size;
        for (int64_t chunk = 1; chunk < partition.chunks; ++chunk) {
            for (int64_t k = 0; k < part.blocks * size; ++k) sum[k] += sum[chunk * part_size + k];
        }
        const Vector<T> no_bias[Partition::max_blocks] = {};
        const auto write = [&](int64_t first, int64_t count, void* kernel) {
            unpack({sum + first, size, 0}, no_bias, kernel_picture<Storage>(kernel, count, part));
        };
        write(0, long_size, grad_kernels.horizontal);
        write(long_size, long_size, grad_kernels.vertical);
        write(2 * long_size, short_size, grad_kernels.square);
    });
}

// Calls f(storage, scheme) with objects of the types that the problem asks for.
template <class F>
void with_types(const StripeProblem& problem, const F& f) {
    const auto with_scheme = [&](auto storage) {
        using T = SumOf<decltype(storage)>;
        if (problem.thickness == Winograd<T>::thickness) return f(storage, Winograd<T>{});
        f(storage, Direct<T>{problem.thickness});
    };
    switch (problem.scalar) {
        case Scalar::f32: return with_scheme(float{});
        case Scalar::f64: return with_scheme(double{});
        case Scalar::bf16: return with_scheme(BFloat16{});
        case Scalar::f16: return with_scheme(Float16{});
    }
}

void convolve(const StripeProblem& problem, const Convolutions& convolutions, int threads) {
    with_types(problem, [&](auto storage, const auto& scheme) {
        convolve<decltype(storage)>(problem, scheme, convolutions, threads);
    });
}

void forward(const StripeProblem& problem, const Map& x, const Stripes& kernels, const Map& h, const Map& v,
             const Map& s, int threads) {
    convolve(problem, {kernels, false, {&x, &v}, {nullptr, &h}, {nullptr, &s}, nullptr}, threads);
}

void fused(const StripeProblem& problem, const Map& x, const Stripes& kernels, const void* bias, const Map& y,
           int threads) {
    convolve(problem, {kernels, false, {&x, nullptr}, {nullptr, &y}, {}, bias}, threads);
}

void input_grad(const StripeProblem& problem, const Map& grad_h, const Map& grad_v, const Map& grad_s,
                const Stripes& kernels, const Map& grad_x, int threads) {
    convolve(problem, {kernels, true, {&grad_v, nullptr}, {&grad_h, nullptr}, {&grad_s, &grad_x}, nullptr}, threads);
}

void weight_grad(const StripeProblem& problem, const Map& x, const Map& grad_h, const Map& grad_v, const Map& grad_s,
                 const Stripes& grad_kernels, int threads) {
    with_types(problem, [&](auto storage, const auto& scheme) {
        correlate<decltype(storage)>(problem, scheme, x, grad_h, grad_v, grad_s, grad_kernels, threads);
    });
}

}  // namespace sw::cpu::SW_INSTRUCTION_SET
