// How the few taps across a stripe are dealt with, so that only correlations along lines remain:
//   spread_inputs    neighbouring lines of x   -> lines to correlate   (and spread_taps the same for the stripe)
//   collect_outputs  correlated lines          -> lines of the output, added to those of `start`
// and for the stripe's gradient the transposes of the last two, spread_outputs and collect_taps.
#pragma once
#include "plane.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

// Lines first, first + 1, ... of a plane -> to: f(in, out) on the vectors at each position.
template <int Ins, int Outs, class T, class F>
SW_INLINE void spread(const LinesView<T>& from, int64_t first, const PaddedLines<T>& to, int64_t length, F f) {
    LineView<T> lines[Ins];
    for (int i = 0; i < Ins; ++i) lines[i] = from.line(first + i);
    for (int64_t p = 0; p < length; ++p) {
        Vector<T> in[Ins], out[Outs];
        unroll<Ins>([&](auto i) SW_INLINE_LAMBDA {
            in[i] = load(lines[i].next());
            keep(in[i]);
        });
        f(in, out);
        unroll<Outs>([&](auto i) SW_INLINE_LAMBDA { to[i][p] = out[i]; });
    }
}

// The way back: f adds to `start`.
template <int Ins, int Outs, class T, class F>
SW_INLINE void collect(const PaddedLines<T>& from, const LinesView<T>& start, const LinesView<T>& to, int64_t first,
                       int64_t length, F f) {
    LineView<T> before[Outs], after[Outs];
    for (int i = 0; i < Outs; ++i) before[i] = start.line(first + i), after[i] = to.line(first + i);
    for (int64_t p = 0; p < length; ++p) {
        Vector<T> in[Ins], out[Outs];
        unroll<Ins>([&](auto i) SW_INLINE_LAMBDA {
            in[i] = from[i][p];
            keep(in[i]);
        });
        unroll<Outs>([&](auto i) SW_INLINE_LAMBDA {
            out[i] = load(before[i].next());
        });
        f(in, out);
        unroll<Outs>([&](auto i) SW_INLINE_LAMBDA {
            store(after[i].next(), out[i]);
        });
    }
}

// Any thickness: one correlation per output line and tap.
template <class T>
struct Direct {
    int64_t thickness;
    bool exact;
    static constexpr int64_t outputs = 1;
    int64_t lines() const { return thickness; }

    void spread_inputs(const LinesView<T>& x, int64_t first, const PaddedLines<T>& lines, int64_t length) const {
        for (int64_t k = 0; k < thickness; ++k) spread<1, 1>(x, first + k, lines.from(k), length, same);
    }

    void spread_taps(const LinesView<T>& taps, const PaddedLines<T>& lines, int64_t length) const {
        spread_inputs(taps, 0, lines, length);
    }

    void collect_outputs(const PaddedLines<T>& lines, const LinesView<T>& start, const LinesView<T>& y, int64_t first,
                         int64_t length) const {
        for (int64_t k = 0; k < thickness; ++k) {
            collect<1, 1>(lines.from(k), k ? y : start, y, first, length, added);
        }
    }

    void spread_outputs(const LinesView<T>& y, int64_t first, const PaddedLines<T>& lines, int64_t length) const {
        for (int64_t k = 0; k < thickness; ++k) spread<1, 1>(y, first, lines.from(k), length, same);
    }

    void collect_taps(const PaddedLines<T>& lines, const LinesView<T>& zero, const LinesView<T>& taps, int64_t length) const {
        for (int64_t k = 0; k < thickness; ++k) collect<1, 1>(lines.from(k), zero, taps, k, length, added);
    }

private:
    static constexpr auto same = [](const auto* in, auto* out) SW_INLINE_LAMBDA { out[0] = in[0]; };
    static constexpr auto added = [](const auto* in, auto* out) SW_INLINE_LAMBDA { out[0] += in[0]; };
};

}  // namespace sw::cpu::SW_INSTRUCTION_SET
