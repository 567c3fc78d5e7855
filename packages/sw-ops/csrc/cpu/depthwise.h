// depthwise and depthwise_weight_grad: a dense kernel per channel, as plain sums of products.
#pragma once
#include "dense_tile.h"
#include "partition.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

// sum[i] += taps[m] * x[i + m - shift], over every tap m and wherever x is: its `extent` positions are Width or more, and
// every output meets one of them. The outputs and the window of x under them stay in registers. At first only the last
// outputs have entered x, and at the end only the first have not left it.
template <class T, int Width>
SW_INLINE void add_correlation(Vector<T> (&sum)[Width], const LineView<T>& x, int64_t extent, const LineView<T>& taps,
                               int64_t n_taps, int64_t shift) {
    const int64_t all_left = shift + extent - Width + 1;  // the tap at which the last output leaves x
    Vector<T> window[Width];
    if (shift > 0) {
        unroll<Width - 1>([&](auto step) SW_INLINE_LAMBDA {
            constexpr int s = step;
            const int64_t m = shift - (Width - 1) + s;
            window[s] = load(x.at(s));
            if (m < 0) return;
            const Vector<T> tap = load(taps.at(m));
            unroll<s + 1>([&](auto k) SW_INLINE_LAMBDA {
                sum[Width - 1 - s + k] += tap * window[k];
            });
        });
    } else {
        unroll<Width - 1>([&](auto k) SW_INLINE_LAMBDA { window[k] = load(x.at(k - shift)); });
    }
    int64_t m = larger(0, shift);
    const int64_t end = smaller(n_taps, all_left);
    LineView<T> entering = x.from(m - shift + Width - 1), tap_line = taps.from(m);
    bool more = m < end;
    while (more) {
        unroll<Width>([&](auto step) SW_INLINE_LAMBDA {
            constexpr int s = step;
            if (!more) return;
            window[(s + Width - 1) % Width] = load(entering.next());
            const Vector<T> tap = load(tap_line.next());
            unroll<Width>([&](auto i) SW_INLINE_LAMBDA {
                sum[i] += tap * window[(i + s) % Width];
            });
            more = ++m < end;
        });
    }
    if (n_taps > all_left) {
        unroll<Width - 1>([&](auto k) SW_INLINE_LAMBDA { window[k] = load(x.at(extent - Width + 1 + k)); });
        unroll<Width - 1>([&](auto step) SW_INLINE_LAMBDA {
            constexpr int s = step;
            if (all_left + s >= n_taps) return;
            const Vector<T> tap = load(taps.at(all_left + s));
            unroll<Width - 1 - s>([&](auto i) SW_INLINE_LAMBDA {
                sum[i] += tap * window[i + s];
            });
        });
    }
}

// y = bias + kernel * x on `Width` neighbouring positions of the rows `row` ... `end` - 1, from `begin` on.
template <class T, int Width>
struct DepthwiseTile {
    static void run(const StripeGeometry& kernel, const LinesView<T>& taps, const LinesView<T>& x, Vector<T> bias,
                    const LinesView<T>& y, int64_t row, int64_t end, int64_t begin) {
        for (int64_t r = row; r < end; ++r) {
            Vector<T> sum[Width];
            unroll<Width>([&](auto q) SW_INLINE_LAMBDA { sum[q] = bias; });
            // Rows of a tensor lie too far apart for the processor to foresee the next one.
            if (y.inside(r + 1)) y.line(r + 1).from(begin).template prefetch_to_write<Width>();
            const int64_t first = larger(0, kernel.centre - r);
            const int64_t last = smaller(kernel.thickness, kernel.count + kernel.centre - r);
            for (int64_t a = first; a < last; ++a) {
                add_correlation(sum, x.line(r + a - kernel.centre), kernel.extent, taps.line(a), kernel.length,
                                kernel.anchor - begin);
            }
            y.line(r).from(begin).store(sum);
        }
    }
};

template <class Storage>
void depthwise(const StripeProblem& problem, const MapView& x, const void* kernel, const void* bias, const MapView& y,
               int threads) {
    using T = SumOf<Storage>;
    const StripeGeometry geometry = horizontal_geometry(problem);
    const Partition partition(problem, x.channel_stride == 1, lanes<T>, threads > 1 ? 4 * threads : 1);
    struct Work {
        Work(Arena& arena, const StripeProblem& problem, const StripeGeometry& geometry, int64_t blocks)
            : x(arena, problem), y(arena, problem), bias(arena.take<Vector<T>>(blocks)),
              taps(arena.take<Vector<T>>(blocks * geometry.size())) {}

        PlaneBuffer<T> x, y;
        Vector<T>*bias, *taps;
    };
    parallel(partition.parts(), threads, [&](int64_t task) {
        const Part part = partition.part(task);
        const auto work = make_work<Work>(problem, geometry, part.blocks);
        for (int64_t b = 0; b < part.blocks; ++b) {
            const auto read = [&](const void* from, int64_t size, Vector<T>* to) {
                pack(kernel_view<const Storage>(const_cast<void*>(from), size, part.block(b)), to);
            };
            read(kernel, geometry.size(), work.taps + b * geometry.size());
            if (bias) {
                read(bias, 1, work.bias + b);
            } else {
                clear<T>(work.bias + b, 1);
            }
        }
        // In place, a few rows of all blocks at a time: blocks share the pages of a position, and its cache lines.
        const auto in_place = [&](const MapView& map) {
            return PlaneBuffer<T>::in_place(map_view<Storage>(problem, map, 0, part.block(0)));
        };
        const int64_t rows = in_place(x) && in_place(y) ? 3 : problem.height;
        for (int64_t image = part.first_image; image < part.last_image; ++image) {
            for (int64_t row = 0; row < problem.height; row += rows) {
                const int64_t end = smaller(row + rows, problem.height);
                for (int64_t b = 0; b < part.blocks; ++b) {
                    const PlaneView<T> in = work.x.read(map_view<const Storage>(problem, x, image, part.block(b)));
                    const LinesView<T> taps{reinterpret_cast<T*>(work.taps + b * geometry.size()),
                                            geometry.length * lanes<T>, lanes<T>, geometry.thickness, nullptr};
                    work.y.write(map_view<Storage>(problem, y, image, part.block(b)), [&](const PlaneView<T>& out) {
                        for_each_tile<DepthwiseTile, T>(geometry.extent, geometry.extent, [&](auto run, int64_t begin) {
                            run(geometry, taps, geometry.lines<T>(in, nullptr), work.bias[b], geometry.lines<T>(out, nullptr),
                                row, end, begin);
                        });
                    });
                }
            }
        }
    });
}

// --- gradient to the kernel ---------------------------------------------------------------------------------------

// Adds to `Width` neighbouring taps of every row of the kernel, from `begin` on, the products of x with the gradient's
// rows `row` ... `end` - 1.
template <class T, int Width>
struct DepthwiseGradTile {
    static void run(const StripeGeometry& kernel, Vector<T>* taps, const LinesView<T>& x, const LinesView<T>& grad,
                    int64_t row, int64_t end, int64_t begin) {
        for (int64_t a = 0; a < kernel.thickness; ++a) {
            Vector<T> sum[Width];
            const LineView<T> to{reinterpret_cast<T*>(taps + a * kernel.length + begin), lanes<T>};
            to.load(sum);
            const int64_t offset = a - kernel.centre;
            const int64_t first = larger(row, -offset), last = smaller(end, kernel.count - offset);
            for (int64_t r = first; r < last; ++r) {
                add_correlation(sum, x.line(r + offset), kernel.extent, grad.line(r), kernel.extent, kernel.anchor - begin);
            }
            to.store(sum);
        }
    }
};

template <class Storage>
void depthwise_weight_grad(const StripeProblem& problem, const MapView& x, const MapView& grad, void* grad_kernel, int threads) {
    using T = SumOf<Storage>;
    const StripeGeometry geometry = horizontal_geometry(problem);
    // Taps that never meet a pixel from another have no gradient.
    const int64_t first_tap = larger(0, geometry.anchor - geometry.extent + 1);
    const int64_t n_taps = smaller(geometry.length, geometry.anchor + geometry.extent) - first_tap;
    // A few rows at a time, for which the rows of x stay in a near cache, and the sums are worth fetching.
    const int64_t rows = larger(1, 128 / larger(1, geometry.extent));
    // The order of a sum must not depend on the number of threads: the images are cut for many of them in any case.
    const Partition partition(problem, x.channel_stride == 1, lanes<T>, 16);
    const int64_t size = geometry.size(), part_size = partition.group / lanes<T> * size;
    const Buffer memory(static_cast<size_t>(partition.parts() * part_size) * sizeof(Vector<T>));
    Vector<T>* const sums = static_cast<Vector<T>*>(memory.data());
    struct Work {
        Work(Arena& arena, const StripeProblem& problem) : x(arena, problem), grad(arena, problem) {}
        PlaneBuffer<T> x, grad;
    };

    parallel(partition.parts(), threads, [&](int64_t task) {
        const Part part = partition.part(task);
        const auto work = make_work<Work>(problem);
        clear<T>(sums + task * part_size, part.blocks * size);
        for (int64_t image = part.first_image; image < part.last_image; ++image) {
            for (int64_t b = 0; b < part.blocks; ++b) {
                const auto read = [&](const PlaneBuffer<T>& buffer, const MapView& map) {
                    return geometry.lines<T>(buffer.read(map_view<const Storage>(problem, map, image, part.block(b))), nullptr);
                };
                const LinesView<T> in = read(work.x, x), upstream = read(work.grad, grad);
                Vector<T>* const block = sums + task * part_size + b * size;
                for (int64_t row = 0; row < geometry.count; row += rows) {
                    const int64_t end = smaller(row + rows, geometry.count);
                    for_each_tile<DepthwiseGradTile, T>(n_taps, geometry.extent, [&](auto run, int64_t begin) {
                        run(geometry, block, in, upstream, row, end, first_tap + begin);
                    });
                }
            }
        }
    });

    add_parts<T>(partition, sums, size, threads, [&](const Vector<T>* sum, const Block& block) {
        unpack(sum, kernel_view<Storage>(grad_kernel, size, block));
    });
}

void depthwise(const StripeProblem& problem, const MapView& x, const void* kernel, const void* bias, const MapView& y,
               int threads) {
    with_storage(problem, [&](auto storage) { depthwise<decltype(storage)>(problem, x, kernel, bias, y, threads); });
}

void depthwise_weight_grad(const StripeProblem& problem, const MapView& x, const MapView& grad, void* grad_kernel,
                           int threads) {
    with_storage(problem, [&](auto storage) {
        depthwise_weight_grad<decltype(storage)>(problem, x, grad, grad_kernel, threads);
    });
}

}  // namespace sw::cpu::SW_INSTRUCTION_SET
