// How the few taps across a stripe are dealt with, so that only correlations along lines remain:
//   spread_inputs    neighbouring lines of x   -> lines to correlate   (and spread_taps the same for the stripe)
//   collect_outputs  correlated lines          -> lines of the output, added to those of `start`
// and for the stripe's gradient the transposes of the last two, spread_outputs and collect_taps.
#pragma once
#include "lines.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

// Lines first, first + 1, ... of a plane -> to: f(in, out) on the vectors at each position.
template <int Ins, int Outs, class T, class F>
SW_INLINE void spread(const Plane<T>& from, int64_t first, const PaddedLines<T>& to, int64_t length, F f) {
    Line<T> lines[Ins];
    for (int i = 0; i < Ins; ++i) lines[i] = from.line(first + i);
    for (int64_t p = 0; p < length; ++p) {
        Vector<T> in[Ins], out[Outs];
        unroll<Ins>([&](auto i) SW_INLINE_LAMBDA {
            in[decltype(i)::value] = load(lines[decltype(i)::value].next());
            keep(in[decltype(i)::value]);
        });
        f(in, out);
        unroll<Outs>([&](auto i) SW_INLINE_LAMBDA { to[decltype(i)::value][p] = out[decltype(i)::value]; });
    }
}

// The way back: f adds to `start`.
template <int Ins, int Outs, class T, class F>
SW_INLINE void collect(const PaddedLines<T>& from, const Plane<T>& start, const Plane<T>& to, int64_t first,
                       int64_t length, F f) {
    Line<T> before[Outs], after[Outs];
    for (int i = 0; i < Outs; ++i) before[i] = start.line(first + i), after[i] = to.line(first + i);
    for (int64_t p = 0; p < length; ++p) {
        Vector<T> in[Ins], out[Outs];
        unroll<Ins>([&](auto i) SW_INLINE_LAMBDA {
            in[decltype(i)::value] = from[decltype(i)::value][p];
            keep(in[decltype(i)::value]);
        });
        unroll<Outs>([&](auto i) SW_INLINE_LAMBDA {
            out[decltype(i)::value] = load(before[decltype(i)::value].next());
        });
        f(in, out);
        unroll<Outs>([&](auto i) SW_INLINE_LAMBDA {
            store(after[decltype(i)::value].next(), out[decltype(i)::value]);
        });
    }
}

// Any thickness: one correlation per output line and tap.
template <class T>
struct Direct {
    int64_t thickness;
    static constexpr int64_t outputs = 1;
    int64_t lines() const { return thickness; }

    void spread_inputs(const Plane<T>& x, int64_t first, const PaddedLines<T>& lines, int64_t length) const {
        for (int64_t k = 0; k < thickness; ++k) spread<1, 1>(x, first + k, lines.from(k), length, same);
    }

    void spread_taps(const Plane<T>& taps, const PaddedLines<T>& lines, int64_t length) const {
        spread_inputs(taps, 0, lines, length);
    }

    void collect_outputs(const PaddedLines<T>& lines, const Plane<T>& start, const Plane<T>& y, int64_t first,
                         int64_t length) const {
        for (int64_t k = 0; k < thickness; ++k) {
            collect<1, 1>(lines.from(k), k ? y : start, y, first, length, added);
        }
    }

    void spread_outputs(const Plane<T>& y, int64_t first, const PaddedLines<T>& lines, int64_t length) const {
        for (int64_t k = 0; k < thickness; ++k) spread<1, 1>(y, first, lines.from(k), length, same);
    }

    void collect_taps(const PaddedLines<T>& lines, const Plane<T>& zero, const Plane<T>& taps, int64_t length) const {
        for (int64_t k = 0; k < thickness; ++k) collect<1, 1>(lines.from(k), zero, taps, k, length, added);
    }

private:
    static constexpr auto same = [](const auto* in, auto* out) SW_INLINE_LAMBDA { out[0] = in[0]; };
    static constexpr auto added = [](const auto* in, auto* out) SW_INLINE_LAMBDA { out[0] += in[0]; };
};

// Thickness 3 with half the multiplications: Winograd's F(4, 3), which makes 4 lines of the output from 6
// correlations instead of 12. Polynomials are evaluated at 0, +-a, +-b and infinity. The usual +-1 and +-2 would
// triple the rounding errors of the plain sum; with these points, all of them exact in binary, they stay about equal.
template <class T>
struct Winograd {
    static constexpr int64_t thickness = 3, outputs = 4;
    static constexpr int64_t lines() { return 6; }

    void spread_inputs(const Plane<T>& x, int64_t first, const PaddedLines<T>& lines, int64_t length) const {
        spread<6, 6>(x, first, lines, length, [](const auto* d, auto* out) SW_INLINE_LAMBDA {
            const auto even_a = d[4] - bb * d[2], odd_a = d[3] - bb * d[1];
            const auto even_b = d[4] - aa * d[2], odd_b = d[3] - aa * d[1];
            out[0] = d[4] - (aa + bb) * d[2] + aa * bb * d[0];
            out[1] = even_a + a * odd_a;
            out[2] = even_a - a * odd_a;
            out[3] = even_b + b * odd_b;
            out[4] = even_b - b * odd_b;
            out[5] = d[5] - (aa + bb) * d[3] + aa * bb * d[1];
        });
    }

    void spread_taps(const Plane<T>& taps, const PaddedLines<T>& lines, int64_t length) const {
        spread<3, 6>(taps, 0, lines, length, [](const auto* g, auto* out) SW_INLINE_LAMBDA {
            const auto even_a = scale_a * (g[0] + aa * g[2]), odd_a = scale_a * a * g[1];
            const auto even_b = scale_b * (g[0] + bb * g[2]), odd_b = scale_b * b * g[1];
            out[0] = scale_0 * g[0];
            out[1] = even_a + odd_a;
            out[2] = even_a - odd_a;
            out[3] = even_b + odd_b;
            out[4] = even_b - odd_b;
            out[5] = g[2];
        });
    }

    void collect_outputs(const PaddedLines<T>& lines, const Plane<T>& start, const Plane<T>& y, int64_t first,
                         int64_t length) const {
        collect<6, 4>(lines, start, y, first, length, [](const auto* m, auto* out) SW_INLINE_LAMBDA {
            const auto even_a = m[1] + m[2], odd_a = m[1] - m[2];
            const auto even_b = m[3] + m[4], odd_b = m[3] - m[4];
            out[0] += m[0] + even_a + even_b;
            out[1] += a * odd_a + b * odd_b;
            out[2] += aa * even_a + bb * even_b;
            out[3] += aa * a * odd_a + bb * b * odd_b + m[5];
        });
    }

    void spread_outputs(const Plane<T>& y, int64_t first, const PaddedLines<T>& lines, int64_t length) const {
        spread<4, 6>(y, first, lines, length, [](const auto* e, auto* out) SW_INLINE_LAMBDA {
            const auto even_a = e[0] + aa * e[2], odd_a = a * (e[1] + aa * e[3]);
            const auto even_b = e[0] + bb * e[2], odd_b = b * (e[1] + bb * e[3]);
            out[0] = e[0];
            out[1] = even_a + odd_a;
            out[2] = even_a - odd_a;
            out[3] = even_b + odd_b;
            out[4] = even_b - odd_b;
            out[5] = e[3];
        });
    }

    void collect_taps(const PaddedLines<T>& lines, const Plane<T>& zero, const Plane<T>& taps, int64_t length) const {
        collect<6, 3>(lines, zero, taps, 0, length, [](const auto* m, auto* out) SW_INLINE_LAMBDA {
            const auto even_a = scale_a * (m[1] + m[2]), odd_a = scale_a * a * (m[1] - m[2]);
            const auto even_b = scale_b * (m[3] + m[4]), odd_b = scale_b * b * (m[3] - m[4]);
            out[0] += scale_0 * m[0] + even_a + even_b;
            out[1] += odd_a + odd_b;
            out[2] += aa * even_a + bb * even_b + m[5];
        });
    }

private:
    static constexpr T a = T(0.75), b = T(1.5), aa = a * a, bb = b * b;
    // One over the product of each point's distances to the other finite ones.
    static constexpr T scale_0 = 1 / (aa * bb), scale_a = 1 / (2 * aa * (aa - bb)), scale_b = 1 / (2 * bb * (bb - aa));
};

}  // namespace sw::cpu::SW_INSTRUCTION_SET
