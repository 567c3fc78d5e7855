// The convolution by one kernel, on blocks of channels that lie in vectors.
#pragma once
#include "correlation.h"
#include "stripe_geometry.h"
#include "winograd.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

template <class T, class Scheme>
class StripeConvolution {
public:
    StripeConvolution(Arena& arena, const Scheme& scheme, const StripeGeometry& stripe, int64_t blocks)
        : scheme_(scheme), stripe_(stripe), zero_(arena.take<Vector<T>>(1)), spare_(arena.take<Vector<T>>(1)),
          taps_(arena, blocks * scheme.lines(), stripe.length, margin),
          lines_(arena, scheme.lines(), stripe.extent, margin), results_(arena, scheme.lines(), max_tile<T>, 0),
          correlation_(arena, stripe.extent, stripe.extent, stripe.length, stripe.anchor, scheme.exact) {
        if (!arena.measures()) clear<T>(zero_, 1);
    }

    int64_t size() const { return stripe_.size(); }

    void set_kernel(int64_t block, Vector<T>* packed) const {
        scheme_.spread_taps(stripe_.taps<T>(packed), taps_.from(block * scheme_.lines()), stripe_.length);
    }

    // y = start + kernel * x
    void run(int64_t block, const PlaneView<T>& x, const PlaneView<T>& start, const PlaneView<T>& y) const {
        const LinesView<T> from = stripe_.lines(x, zero_), before = stripe_.lines(start, zero_);
        const LinesView<T> to = stripe_.lines(y, spare_);
        for (int64_t line = 0; line < stripe_.count; line += Scheme::outputs) {
            scheme_.spread_inputs(from, line - stripe_.centre, lines_, stripe_.extent);
            // Tile by tile, so that the results are still in the first cache when they are collected.
            for (int64_t tile = 0; tile < correlation_.tiles(); ++tile) {
                const int64_t begin = correlation_.begin(tile), end = correlation_.begin(tile + 1);
                for (int64_t k = 0; k < scheme_.lines(); ++k) {
                    const Vector<T>* const taps = taps_[block * scheme_.lines() + k];
                    correlation_.run_tile(tile, results_[k] - begin, lines_[k], taps, false);
                }
                scheme_.collect_outputs(results_, before.from(begin), to.from(begin), line, end - begin);
            }
        }
    }

private:
    Scheme scheme_;
    StripeGeometry stripe_;
    Vector<T>*zero_, *spare_;
    PaddedLines<T> taps_, lines_, results_;
    Correlation<T> correlation_;
};

}  // namespace sw::cpu::SW_INSTRUCTION_SET
