// stripe_forward, stripe_fused and stripe_input_grad: sums of stripe convolutions of one to three maps.
#pragma once
#include "dense_tile.h"
#include "partition.h"
#include "stripe_convolution.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

// A convolution's input and output; no input: that of the one before; no output: the next adds to its result.
struct Pass {
    const MapView *from, *to;
};

struct Convolutions {
    Stripes kernels;
    bool transposed;
    Pass vertical, horizontal, square;  // in this order; no square where its kernel is null
    const void* bias;                   // or null
    Channels channels{};
};

// Long: the class for the two stripes.
template <class T, class Scheme, class Long>
struct ConvolutionWork {
    ConvolutionWork(Arena& arena, const StripeProblem& problem, const Scheme& scheme, bool transposed, int64_t blocks)
        : x(arena, problem), y(arena, problem), bias(arena.take<Vector<T>>(blocks)), zero(arena.take<Vector<T>>(1)),
          packed(arena.take<Vector<T>>(problem.thickness * problem.length)),
          vertical(arena, scheme, oriented(vertical_geometry(problem), transposed), blocks),
          horizontal(arena, scheme, oriented(horizontal_geometry(problem), transposed), blocks),
          square(arena, scheme, oriented(square_geometry(problem), transposed), blocks) {
        if (arena.measures()) return;
        clear<T>(bias, blocks);
        clear<T>(zero, 1);
    }

    static StripeGeometry oriented(const StripeGeometry& stripe, bool transposed) { return transposed ? stripe.transposed() : stripe; }

    PlaneBuffer<T> x, y;
    Vector<T>*bias, *zero, *packed;
    Long vertical, horizontal;
    std::conditional_t<std::is_same_v<Scheme, Winograd<T>>, TileConvolution<T, SquareTile>,
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
                pack(kernel_view<const Storage>(kernel, convolution.size(), block), work.packed);
                convolution.set_kernel(b, work.packed);
            };
            set(work.vertical, convolutions.kernels.vertical);
            set(work.horizontal, convolutions.kernels.horizontal);
            if (convolutions.kernels.square) set(work.square, convolutions.kernels.square);
            if (convolutions.bias) {
                pack(kernel_view<const Storage>(const_cast<void*>(convolutions.bias), 1, block), work.bias + b);
            }
        }

        for (int64_t image = part.first_image; image < part.last_image; ++image) {
            for (int64_t b = 0; b < part.blocks; ++b) {
                const Block block = part.block(b);
                const Channels& channels = convolutions.channels;
                PlaneView<T> x, sum = same_everywhere<T>(work.bias + b);
                const auto run = [&](const auto& convolution, const Pass& pass) {
                    if (pass.from) x = work.x.read(map_view<const Storage>(problem, *pass.from, image, block, channels.input));
                    const auto add_to = [&](const PlaneView<T>& y) { convolution.run(b, x, sum, y); };
                    if (pass.to) {
                        work.y.write(map_view<Storage>(problem, *pass.to, image, block, channels.output), add_to);
                        sum = same_everywhere<T>(work.zero);
                    } else {
                        add_to(work.y.view());
                        sum = work.y.view();
                    }
                };
                run(work.vertical, convolutions.vertical);
                run(work.horizontal, convolutions.horizontal);
                if (convolutions.kernels.square) run(work.square, convolutions.square);
            }
        }
    });
}

void convolve(const StripeProblem& problem, const Convolutions& convolutions, int threads) {
    with_types(problem, [&](auto storage, auto scheme) {
        using T = SumOf<decltype(storage)>;
        const auto dense = [](const StripeGeometry& stripe) {
            return stripe.extent <= 2 * max_tile<T> && stripe.anchor >= stripe.extent - 1 &&
                   stripe.length - stripe.anchor >= stripe.extent;
        };
        const auto run = dense(vertical_geometry(problem)) && dense(horizontal_geometry(problem))
                             ? convolve<decltype(storage), TileConvolution<T, DenseTile>, decltype(scheme)>
                             : convolve<decltype(storage), StripeConvolution<T, decltype(scheme)>, decltype(scheme)>;
        run(problem, scheme, convolutions, threads);
    });
}

void forward(const StripeProblem& problem, const MapView& x, const Stripes& kernels, const MapView& h, const MapView& v,
             const MapView& s, int threads) {
    convolve(problem, {kernels, false, {&x, &v}, {nullptr, &h}, {nullptr, &s}, nullptr}, threads);
}

void fused(const StripeProblem& problem, const MapView& x, const Stripes& kernels, const void* bias,
           const Channels& channels, const MapView& y, int threads) {
    convolve(problem, {kernels, false, {&x, nullptr}, {nullptr, &y}, {}, bias, channels}, threads);
}

void input_grad(const StripeProblem& problem, const MapView& grad_h, const MapView& grad_v, const MapView& grad_s,
                const Stripes& kernels, const MapView& grad_x, int threads) {
    convolve(problem, {kernels, true, {&grad_v, nullptr}, {&grad_h, nullptr}, {&grad_s, &grad_x}, nullptr}, threads);
}

}  // namespace sw::cpu::SW_INSTRUCTION_SET
