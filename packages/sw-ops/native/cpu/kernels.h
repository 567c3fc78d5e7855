// The convolution by one kernel, and its gradient to that kernel, on blocks of channels that lie in vectors.
#pragma once
#include "correlation.h"
#include "thickness.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

// A depthwise kernel of `thickness` lines of `length` taps.
struct Stripe {
    bool vertical;                  // the direction of its lines on a map
    int64_t length, anchor;         // along the lines
    int64_t thickness, centre;      // across them
    int64_t first, across, along;   // where the taps lie among each channel's

    // The stripe of the transposed convolution.
    Stripe flipped() const {
        return {vertical, length, length - 1 - anchor, thickness, thickness - 1 - centre, size() - 1, -across, -along};
    }

    int64_t size() const { return thickness * length; }

    template <class T>
    Lines<T> taps(Vector<T>* packed) const { return {packed + first, across, along}; }

    template <class T>
    Lines<T> lines(const PaddedMap<T>& map, int64_t block, int64_t from) const {
        return vertical ? map.columns(block, from) : map.rows(block, from);
    }
};

// The square kernel is a stripe as long as it is thick.
inline Stripe square_stripe(const StripeProblem& p) {
    return {false, p.thickness, p.thickness / 2, p.thickness, p.thickness / 2, 0, p.thickness, 1};
}

inline Stripe horizontal_stripe(const StripeProblem& p) {
    return {false, p.length, p.anchor, p.thickness, p.thickness / 2, 0, p.length, 1};
}

inline Stripe vertical_stripe(const StripeProblem& p) {
    return {true, p.length, p.anchor, p.thickness, p.thickness / 2, 0, 1, p.thickness};
}

template <class T, class Scheme>
class StripeConvolution {
public:
    StripeConvolution(Arena& arena, const StripeProblem& problem, const Scheme& scheme, const Stripe& stripe,
                      int64_t blocks)
        : scheme_(scheme), stripe_(stripe), count_(stripe.vertical ? problem.width : problem.height),
          length_(stripe.vertical ? problem.height : problem.width),
          taps_(arena, blocks * scheme.lines(), stripe.length, margin),
          lines_(arena, scheme.lines() + 1, length_, margin),
          correlation_(arena, length_, length_, stripe.length, stripe.anchor) {}

    int64_t size() const { return stripe_.size(); }

    void set_kernel(int64_t block, Vector<T>* packed) const {
        scheme_.spread_taps(stripe_.taps<T>(packed), taps_.from(block * scheme_.lines()), stripe_.length);
    }

    template <bool Add>
    void run(int64_t block, const PaddedMap<T>& x, const PaddedMap<T>& y) const {
        for (int64_t line = 0; line < count_; line += Scheme::outputs) {
            scheme_.spread_inputs(stripe_.lines(x, block, line - stripe_.centre), lines_.from(1), length_);
            // Each result takes the place of the line before, which is done with: all of them fit in the first cache.
            for (int64_t k = 0; k < scheme_.lines(); ++k) {
                correlation_.run(lines_[k], lines_[k + 1], taps_[block * scheme_.lines() + k], false);
            }
            scheme_.template collect_outputs<Add>(lines_.from(0), stripe_.lines(y, block, line), length_);
        }
    }

private:
    Scheme scheme_;
    Stripe stripe_;
    int64_t count_, length_;
    PaddedLines<T> taps_, lines_;
    Correlation<T> correlation_;
};

template <class T, class Scheme>
class StripeGradient {
public:
    StripeGradient(Arena& arena, const StripeProblem& problem, const Scheme& scheme, const Stripe& stripe,
                   int64_t blocks)
        : scheme_(scheme), stripe_(stripe), count_(stripe.vertical ? problem.width : problem.height),
          length_(stripe.vertical ? problem.height : problem.width),
          x_(arena, scheme.lines(), length_, margin), grad_(arena, scheme.lines(), length_, margin),
          sums_(arena, blocks * scheme.lines(), stripe.length, 0),
          correlation_(arena, stripe.length, length_, length_, stripe.anchor) {
        if (arena.measures()) return;
        for (int64_t k = 0; k < blocks * scheme.lines(); ++k) clear<T>(sums_[k], stripe.length);
    }

    int64_t size() const { return stripe_.size(); }

    void add(int64_t block, const PaddedMap<T>& x, const PaddedMap<T>& grad) const {
        for (int64_t line = 0; line < count_; line += Scheme::outputs) {
            scheme_.spread_inputs(stripe_.lines(x, block, line - stripe_.centre), x_.from(0), length_);
            scheme_.spread_outputs(stripe_.lines(grad, block, line), grad_.from(0), length_);
            for (int64_t k = 0; k < scheme_.lines(); ++k) {
                correlation_.run(sums_[block * scheme_.lines() + k], x_[k], grad_[k], true);
            }
        }
    }

    void get_kernel(int64_t block, Vector<T>* packed) const {
        scheme_.collect_taps(sums_.from(block * scheme_.lines()), stripe_.taps<T>(packed), stripe_.length);
    }

private:
    Scheme scheme_;
    Stripe stripe_;
    int64_t count_, length_;
    PaddedLines<T> x_, grad_, sums_;
    Correlation<T> correlation_;
};

// f(row, column, index) for the taps of a 3x3 kernel, written out.
template <class F>
SW_INLINE void for_each_tap(F f) {
    unroll<9>([&](auto i) SW_INLINE_LAMBDA { f(decltype(i)::value / 3, decltype(i)::value % 3, decltype(i)::value); });
}

// Nine taps are too few for correlations along lines: they are taken one by one.
template <class T>
class Convolution3x3 {
public:
    Convolution3x3(Arena& arena, const StripeProblem& problem, const Winograd<T>&, const Stripe& stripe, int64_t blocks)
        : stripe_(stripe), height_(problem.height), width_(problem.width), taps_(arena.take<Vector<T>>(9 * blocks)) {}

    int64_t size() const { return 9; }

    void set_kernel(int64_t block, Vector<T>* packed) const {
        const Lines<T> from = stripe_.taps<T>(packed);
        for_each_tap([&](int a, int b, int k) { taps_[9 * block + k] = from.data[a * from.across + b * from.along]; });
    }

    template <bool Add>
    void run(int64_t block, const PaddedMap<T>& x, const PaddedMap<T>& y) const {
        Vector<T> taps[9];
        for (int k = 0; k < 9; ++k) taps[k] = taps_[9 * block + k];
        for (int64_t r = 0; r < height_; ++r) {
            const Lines<T> from = x.rows(block, r - 1);
            Vector<T>* const to = y.rows(block, r).data;
            for (int64_t q = 0; q < width_; ++q) {
                Vector<T> sum = Add ? to[q] : Vector<T>{};
                for_each_tap([&](int a, int b, int k) SW_INLINE_LAMBDA {
                    sum += taps[k] * from.data[a * from.across + q + b - 1];
                });
                to[q] = sum;
            }
        }
    }

private:
    Stripe stripe_;
    int64_t height_, width_;
    Vector<T>* taps_;
};

template <class T>
class Gradient3x3 {
public:
    Gradient3x3(Arena& arena, const StripeProblem& problem, const Winograd<T>&, const Stripe&, int64_t blocks)
        : height_(problem.height), width_(problem.width), sums_(arena.take<Vector<T>>(9 * blocks)) {
        if (!arena.measures()) clear<T>(sums_, 9 * blocks);
    }

    int64_t size() const { return 9; }

    void add(int64_t block, const PaddedMap<T>& x, const PaddedMap<T>& grad) const {
        for (int64_t r = 0; r < height_; ++r) {
            const Lines<T> from = x.rows(block, r - 1);
            const Vector<T>* const upstream = grad.rows(block, r).data;
            Vector<T> sums[9] = {};
            for (int64_t q = 0; q < width_; ++q) {
                for_each_tap([&](int a, int b, int k) SW_INLINE_LAMBDA {
                    sums[k] += upstream[q] * from.data[a * from.across + q + b - 1];
                });
            }
            for (int k = 0; k < 9; ++k) sums_[9 * block + k] += sums[k];
        }
    }

    void get_kernel(int64_t block, Vector<T>* packed) const {
        for (int k = 0; k < 9; ++k) packed[k] = sums_[9 * block + k];
    }

private:
    int64_t height_, width_;
    Vector<T>* sums_;
};

// The classes for a square kernel of the thickness that a scheme serves.
template <class T, class Scheme>
struct Square {
    using Convolution = StripeConvolution<T, Scheme>;
    using Gradient = StripeGradient<T, Scheme>;
};

template <class T>
struct Square<T, Winograd<T>> {
    using Convolution = Convolution3x3<T>;
    using Gradient = Gradient3x3<T>;
};

}  // namespace sw::cpu::SW_INSTRUCTION_SET
