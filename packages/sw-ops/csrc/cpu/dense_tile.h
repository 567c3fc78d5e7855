// Convolutions that keep a tile of outputs in registers while all that they are made of passes by, without transforms.
#pragma once
#include "correlation.h"
#include "stripe_geometry.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

// y = start + kernel * x on `Width` neighbouring positions of every line, from `begin` on. For stripes that reach from
// any position over the whole of its line.
template <class T, int Width>
struct DenseTile {
    static void run(const StripeGeometry& stripe, const Vector<T>* taps, const LinesView<T>& x, const LinesView<T>& start,
                    const LinesView<T>& y, int64_t begin) {
        for (int64_t k = 0; k < stripe.count; ++k) {
            Vector<T> sum[Width];
            start.line(k).from(begin).load(sum);
            // Lines of a tensor lie too far apart for the processor to foresee the next one.
            if (y.inside(k + 1)) y.line(k + 1).from(begin).template prefetch_to_write<Width>();
            for (int64_t a = 0; a < stripe.thickness; ++a) {
                if (!x.inside(k + a - stripe.centre)) continue;
                const LineView<T> from = x.line(k + a - stripe.centre);
                const Vector<T>* const first = taps + a * stripe.length + stripe.anchor - begin;
                int64_t p = 0;
                for (; p + Width <= stripe.extent; p += Width) add_toeplitz(sum, from.from(p), first + p);
                for (; p < stripe.extent; ++p) {
                    const Vector<T> in = SW_INSTRUCTION_SET::load(from.at(p));
                    unroll<Width>([&](auto i) SW_INLINE_LAMBDA {
                        sum[i] += in * first[p - i];
                    });
                }
            }
            y.line(k).from(begin).store(sum);
        }
    }

private:
    // A square piece of the Toeplitz matrix that a line of taps is: as many x as outputs stay in registers while its
    // taps pass by, each loaded once.
    static SW_INLINE void add_toeplitz(Vector<T> (&sum)[Width], const LineView<T>& from, const Vector<T>* taps) {
        Vector<T> in[Width];
        from.load(in);
        unroll<2 * Width - 1>([&](auto step) SW_INLINE_LAMBDA {
            constexpr int distance = step - (Width - 1);
            Vector<T> tap = taps[distance];
            keep_in_order(tap);
            unroll<Width>([&](auto i) SW_INLINE_LAMBDA {
                constexpr int q = i + distance;
                if constexpr (0 <= q && q < Width) sum[i] += in[q] * tap;
            });
        });
    }
};

// The same for a 3x3 kernel, whose taps stay in registers.
template <class T, int Width>
struct SquareTile {
    static void run(const StripeGeometry& stripe, const Vector<T>* taps, const LinesView<T>& x, const LinesView<T>& start,
                    const LinesView<T>& y, int64_t begin) {
        for (int64_t k = 0; k < stripe.count; ++k) {
            Vector<T> sum[Width];
            start.line(k).from(begin).load(sum);
            for (int a = 0; a < 3; ++a) {
                if (!x.inside(k + a - 1)) continue;
                const LineView<T> from = x.line(k + a - 1).from(begin);
                const Vector<T> tap[3] = {taps[3 * a], taps[3 * a + 1], taps[3 * a + 2]};
                if (begin > 0) sum[0] += tap[0] * SW_INSTRUCTION_SET::load(from.at(-1));
                unroll<Width>([&](auto i) SW_INLINE_LAMBDA {
                    constexpr int q = i;
                    const Vector<T> in = SW_INSTRUCTION_SET::load(from.at(q));
                    if constexpr (q > 0) sum[q - 1] += tap[2] * in;
                    sum[q] += tap[1] * in;
                    if constexpr (q < Width - 1) sum[q + 1] += tap[0] * in;
                });
                if (begin + Width < stripe.extent) sum[Width - 1] += tap[2] * SW_INSTRUCTION_SET::load(from.at(Width));
            }
            y.line(k).from(begin).store(sum);
        }
    }
};

template <class T, template <class, int> class Tile>
class TileConvolution {
public:
    template <class Scheme>
    TileConvolution(Arena& arena, const Scheme&, const StripeGeometry& stripe, int64_t blocks)
        : stripe_(stripe), taps_(arena.take<Vector<T>>(blocks * stripe.size())) {}

    int64_t size() const { return stripe_.size(); }

    void set_kernel(int64_t block, Vector<T>* packed) const {
        Vector<T>* to = taps_ + block * size();
        for (int64_t a = 0; a < stripe_.thickness; ++a) {
            LineView<T> line = stripe_.taps<T>(packed).line(a);
            for (int64_t m = 0; m < stripe_.length; ++m) *to++ = load(line.next());
        }
    }

    // y = start + kernel * x
    void run(int64_t block, const PlaneView<T>& x, const PlaneView<T>& start, const PlaneView<T>& y) const {
        for_each_tile<Tile, T>(stripe_.extent, stripe_.extent, [&](auto run, int64_t begin) {
            run(stripe_, taps_ + block * size(), stripe_.lines<T>(x, nullptr), stripe_.lines<T>(start, nullptr),
                stripe_.lines<T>(y, nullptr), begin);
        });
    }

private:
    StripeGeometry stripe_;
    Vector<T>* taps_;
};

}  // namespace sw::cpu::SW_INSTRUCTION_SET
