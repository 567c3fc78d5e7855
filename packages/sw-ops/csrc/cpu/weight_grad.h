// stripe_weight_grad: correlations of x with the three gradients.
#pragma once
#include "correlation.h"
#include "partition.h"
#include "stripe_geometry.h"
#include "winograd.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

template <class T, class Scheme>
class StripeGradient {
public:
    StripeGradient(Arena& arena, const Scheme& scheme, const StripeGeometry& stripe, int64_t blocks)
        : scheme_(scheme), stripe_(stripe), zero_(arena.take<Vector<T>>(1)),
          x_(arena, scheme.lines(), stripe.extent, margin), grad_(arena, scheme.lines(), stripe.extent, margin),
          sums_(arena, blocks * scheme.lines(), stripe.length, 0),
          correlation_(arena, stripe.length, stripe.extent, stripe.extent, stripe.anchor, scheme.exact) {
        if (arena.measures()) return;
        clear<T>(zero_, 1);
        for (int64_t k = 0; k < blocks * scheme.lines(); ++k) clear<T>(sums_[k], stripe.length);
    }

    void add(int64_t block, const PlaneView<T>& x, const PlaneView<T>& grad) const {
        const LinesView<T> from = stripe_.lines(x, zero_), upstream = stripe_.lines(grad, zero_);
        for (int64_t line = 0; line < stripe_.count; line += Scheme::outputs) {
            scheme_.spread_inputs(from, line - stripe_.centre, x_, stripe_.extent);
            scheme_.spread_outputs(upstream, line, grad_, stripe_.extent);
            for (int64_t k = 0; k < scheme_.lines(); ++k) {
                correlation_.run(sums_[block * scheme_.lines() + k], x_[k], grad_[k], true);
            }
        }
    }

    void get_kernel(int64_t block, Vector<T>* packed) const {
        const LinesView<T> zero{reinterpret_cast<T*>(zero_), 0, 0, stripe_.thickness, nullptr};
        scheme_.collect_taps(sums_.from(block * scheme_.lines()), zero, stripe_.taps<T>(packed), stripe_.length);
    }

private:
    Scheme scheme_;
    StripeGeometry stripe_;
    Vector<T>* zero_;
    PaddedLines<T> x_, grad_, sums_;
    Correlation<T> correlation_;
};

template <class T, class Scheme>
struct GradientWork {
    GradientWork(Arena& arena, const StripeProblem& problem, const Scheme& scheme, int64_t blocks)
        : x(arena, problem), grad(arena, problem), horizontal(arena, scheme, horizontal_geometry(problem), blocks),
          vertical(arena, scheme, vertical_geometry(problem), blocks),
          square(arena, scheme, square_geometry(problem), blocks) {}

    PlaneBuffer<T> x, grad;
    StripeGradient<T, Scheme> horizontal, vertical, square;
};

template <class Storage, class Scheme>
void correlate(const StripeProblem& problem, const Scheme& scheme, const MapView& x, const MapView& grad_h, const MapView& grad_v,
               const MapView& grad_s, const Stripes& grad_kernels, int threads) {
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
                const auto read = [&](const PlaneBuffer<T>& panel, const MapView& map) {
                    return panel.read(map_view<const Storage>(problem, map, image, part.block(b)));
                };
                const PlaneView<T> input = read(work.x, x);
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

    add_parts<T>(partition, sums, size, threads, [&](const Vector<T>* sum, const Block& block) {
        const auto write = [&](int64_t first, int64_t count, void* kernel) {
            unpack(sum + first, kernel_view<Storage>(kernel, count, block));
        };
        write(0, long_size, grad_kernels.horizontal);
        write(long_size, long_size, grad_kernels.vertical);
        write(2 * long_size, short_size, grad_kernels.square);
    });
}

void weight_grad(const StripeProblem& problem, const MapView& x, const MapView& grad_h, const MapView& grad_v, const MapView& grad_s,
                 const Stripes& grad_kernels, int threads) {
    with_types(problem, [&](auto storage, const auto& scheme) {
        correlate<decltype(storage)>(problem, scheme, x, grad_h, grad_v, grad_s, grad_kernels, threads);
    });
}

}  // namespace sw::cpu::SW_INSTRUCTION_SET
