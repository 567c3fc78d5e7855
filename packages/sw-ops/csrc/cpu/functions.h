// The functions of stripe_cpu.h. Included once per instruction set, with SW_INSTRUCTION_SET (a namespace) and
// SW_VECTOR_BYTES defined. Here and in what is included here, no function of the standard library may be used that
// the compiler might not inline: the linker keeps one copy of each, and it could be the one compiled for
// instructions that the machine at hand lacks.
#pragma once
#include "direct.h"
#include "instruction_set.h"
#include "kernels.h"
#include "parallel.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

// Channels that fill a vector, or its beginning.
struct Block {
    int64_t first_channel;
    int channels;
};

// A few blocks of channels of some of the images.
struct Part {
    int64_t first_channel, channels, lanes, blocks;
    int64_t first_image, last_image;

    // The last block may overlap the one before: the same results are written twice, which is cheaper than a piece of a
    // vector.
    Block block(int64_t index) const {
        const int64_t count = smaller(lanes, channels);
        return {first_channel + smaller(index * lanes, channels - count), static_cast<int>(count)};
    }
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
        // All channels of some images come before other images: threads that work on neighbouring channels at the same
        // time would wait for each other's cache lines.
        const int64_t first = index % groups * group, chunk = index / groups;
        const int64_t count = smaller(group, channels - first);
        return {first, count, lanes, ceil_divide(count, lanes), batch * chunk / chunks, batch * (chunk + 1) / chunks};
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

// Block `block` of a part, in a [channels, size] kernel.
template <class Storage>
Picture<Storage> kernel_picture(void* kernel, int64_t size, const Block& block) {
    return {static_cast<Storage*>(kernel) + block.first_channel * size, size, 1, size, 1, size, block.channels};
}

template <class Storage>
Picture<Storage> map_picture(const StripeProblem& problem, const Map& map, int64_t image, const Block& block) {
    return {static_cast<Storage*>(map.data) + image * map.batch_stride + block.first_channel * map.channel_stride,
            map.row_stride, map.column_stride, map.channel_stride, problem.height, problem.width, block.channels};
}

// Memory for a block of an image, for where the tensor does not hold it as vectors of its channels.
template <class T>
class Panel {
public:
    Panel(Arena& arena, const StripeProblem& problem)
        : width_(problem.width), data_(arena.take<Vector<T>>(problem.height * problem.width)) {}

    Image<T> image() const { return {reinterpret_cast<T*>(data_), width_ * lanes<T>, lanes<T>}; }

    template <class Storage>
    Image<T> read(const Picture<const Storage>& tensor) const {
        if (in_place(tensor)) return {numbers(tensor), tensor.row_stride, tensor.column_stride};
        pack(tensor, data_);
        return image();
    }

    // f(image to write)
    template <class Storage, class F>
    void write(const Picture<Storage>& tensor, F f) const {
        if (in_place(tensor)) return f({numbers(tensor), tensor.row_stride, tensor.column_stride});
        f(image());
        unpack(data_, tensor);
    }

private:
    template <class Storage>
    static bool in_place(const Picture<Storage>& tensor) {
        return std::is_same_v<std::remove_const_t<Storage>, T> && tensor.channel_stride == 1 &&
               tensor.channels == lanes<T>;
    }

    // Images are not written through when they are inputs.
    template <class Storage>
    static T* numbers(const Picture<Storage>& tensor) {
        return reinterpret_cast<T*>(const_cast<std::remove_const_t<Storage>*>(tensor.data));
    }

    int64_t width_;
    Vector<T>* data_;
};

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

// Long: the class for the two stripes.
template <class T, class Scheme, class Long>
struct ConvolutionWork {
    ConvolutionWork(Arena& arena, const StripeProblem& problem, const Scheme& scheme, bool transposed, int64_t blocks)
        : x(arena, problem), y(arena, problem), bias(arena.take<Vector<T>>(blocks)), zero(arena.take<Vector<T>>(1)),
          packed(arena.take<Vector<T>>(problem.thickness * problem.length)),
          vertical(arena, scheme, oriented(vertical_stripe(problem), transposed), blocks),
          horizontal(arena, scheme, oriented(horizontal_stripe(problem), transposed), blocks),
          square(arena, scheme, oriented(square_stripe(problem), transposed), blocks) {
        if (arena.measures()) return;
        clear<T>(bias, blocks);
        clear<T>(zero, 1);
    }

    static Stripe oriented(const Stripe& stripe, bool transposed) { return transposed ? stripe.transposed() : stripe; }

    Panel<T> x, y;
    Vector<T>*bias, *zero, *packed;
    Long vertical, horizontal;
    std::conditional_t<std::is_same_v<Scheme, Winograd<T>>, DirectConvolution<T, SquareTile>,
                       StripeConvolution<T, Scheme>> square;
};

template <class Storage, class Long, class Scheme>
void convolve(const StripeProblem& problem, const Scheme& scheme, const Convolutions& convolutions, int threads) {
    using T = SumOf<Storage>;
    const bool channels_last = convolutions.vertical.from->channel_stride == 1;
    const Partition partition(problem, channels_last, lanes<T>, threads > 1 ? 4 * threads : 1);
    parallel(partition.parts(), threads, [&](int64_t task) {
        const Part part = partition.part(task);
        const auto work = make_work<ConvolutionWork<T, Scheme, Long>>(problem, scheme, convolutions.transposed, part.blocks);

        for (int64_t b = 0; b < part.blocks; ++b) {
            const Block block = part.block(b);
            const auto set = [&](const auto& convolution, void* kernel) {
                pack(kernel_picture<const Storage>(kernel, convolution.size(), block), work.packed);
                convolution.set_kernel(b, work.packed);
            };
            set(work.vertical, convolutions.kernels.vertical);
            set(work.horizontal, convolutions.kernels.horizontal);
            if (convolutions.kernels.square) set(work.square, convolutions.kernels.square);
            if (convolutions.bias) {
                pack(kernel_picture<const Storage>(const_cast<void*>(convolutions.bias), 1, block), work.bias + b);
            }
        }

        for (int64_t image = part.first_image; image < part.last_image; ++image) {
            for (int64_t b = 0; b < part.blocks; ++b) {
                const Block block = part.block(b);
                Image<T> x, sum = same_everywhere<T>(work.bias + b);
                const auto run = [&](const auto& convolution, const Pass& pass) {
                    if (pass.from) x = work.x.read(map_picture<const Storage>(problem, *pass.from, image, block));
                    const auto add_to = [&](const Image<T>& y) { convolution.run(b, x, sum, y); };
                    if (pass.to) {
                        work.y.write(map_picture<Storage>(problem, *pass.to, image, block), add_to);
                        sum = same_everywhere<T>(work.zero);
                    } else {
                        add_to(work.y.image());
                        sum = work.y.image();
                    }
                };
                run(work.vertical, convolutions.vertical);
                run(work.horizontal, convolutions.horizontal);
                if (convolutions.kernels.square) run(work.square, convolutions.square);
            }
        }
    });
}

template <class T, class Scheme>
struct GradientWork {
    GradientWork(Arena& arena, const StripeProblem& problem, const Scheme& scheme, int64_t blocks)
        : x(arena, problem), grad(arena, problem), horizontal(arena, scheme, horizontal_stripe(problem), blocks),
          vertical(arena, scheme, vertical_stripe(problem), blocks),
          square(arena, scheme, square_stripe(problem), blocks) {}

    Panel<T> x, grad;
    StripeGradient<T, Scheme> horizontal, vertical, square;
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
            for (int64_t b = 0; b < part.blocks; ++b) {
                const auto read = [&](const Panel<T>& panel, const Map& map) {
                    return panel.read(map_picture<const Storage>(problem, map, image, part.block(b)));
                };
                const Image<T> input = read(work.x, x);
                work.horizontal.add(b, input, read(work.grad, grad_h));
                work.vertical.add(b, input, read(work.grad, grad_v));
                work.square.add(b, input, read(work.grad, grad_s));
            }
        }
        for (int64_t b = 0; b < part.blocks; ++b) {
            Vector<T>* const block = sums + task * part_size + b * size;
            work.horizontal.get_kernel(b, block);
            work.vertical.get_kernel(b, block + long_size);
            work.square.get_kernel(b, block + 2 * long_size);
        }
    });

    parallel(partition.groups, threads, [&](int64_t group) {
        const Part part = partition.part(group);
        Vector<T>* const sum = sums + group * part_size;
        for (int64_t other = group + partition.groups; other < partition.parts(); other += partition.groups) {
            for (int64_t k = 0; k < part.blocks * size; ++k) sum[k] += sums[other * part_size + k];
        }
        for (int64_t b = 0; b < part.blocks; ++b) {
            const auto write = [&](int64_t first, int64_t count, void* kernel) {
                unpack(sum + b * size + first, kernel_picture<Storage>(kernel, count, part.block(b)));
            };
            write(0, long_size, grad_kernels.horizontal);
            write(long_size, long_size, grad_kernels.vertical);
            write(2 * long_size, short_size, grad_kernels.square);
        }
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
    with_types(problem, [&](auto storage, auto scheme) {
        using T = SumOf<decltype(storage)>;
        const auto dense = [](const Stripe& stripe) {
            return stripe.extent <= 2 * max_tile && stripe.anchor >= stripe.extent - 1 &&
                   stripe.length - stripe.anchor >= stripe.extent;
        };
        const auto run = dense(vertical_stripe(problem)) && dense(horizontal_stripe(problem))
                             ? convolve<decltype(storage), DirectConvolution<T, DenseTile>, decltype(scheme)>
                             : convolve<decltype(storage), StripeConvolution<T, decltype(scheme)>, decltype(scheme)>;
        run(problem, scheme, convolutions, threads);
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

int64_t multiply_adds(int threads) {
    constexpr int chains = 10;  // enough to hide the latency of each, few enough for the registers
    constexpr int64_t steps = 1 << 15;
    parallel(threads, threads, [&](int64_t) {
        const Vector<float> factor = Vector<float>{} + 1.0f / static_cast<float>(threads + 1);
        Vector<float> sum[chains];
        for (int k = 0; k < chains; ++k) sum[k] = factor * static_cast<float>(k);  // all alike would be computed once
        for (int64_t step = 0; step < steps; ++step) {
            unroll<chains>([&](auto k) SW_INLINE_LAMBDA {
                sum[decltype(k)::value] = sum[decltype(k)::value] * factor + factor;
            });
        }
        std::memcpy(thread_scratch(sizeof sum), sum, sizeof sum);  // or the compiler would leave them out
    });
    return threads * steps * chains * lanes<float>;
}

}  // namespace sw::cpu::SW_INSTRUCTION_SET
