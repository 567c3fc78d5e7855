// The inner loop of every function: out[i] = sum over j of taps[j] * x[i + j - offset], x zero outside [0, n_in).
#pragma once
#include "arena.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int widest_tile = 14;  // 32 vector registers
#else
constexpr int widest_tile = 7;  // 16
#endif

// Doubles check results more often than they hurry: tiles of half the width compile in a quarter of the time.
template <class T>
constexpr int max_tile = sizeof(T) == sizeof(double) ? 7 : widest_tile;

// Tiles read less than this far over either end of x and of the taps, and want zeros there.
constexpr int64_t margin = widest_tile;

// A tile of outputs and the window of x under them stay in registers, so that one load of x and one of a tap serve
// as many multiply-adds as the tile is wide.
template <class T>
struct Tile {
    void (*run)(Vector<T>* out, const Vector<T>* x, const Vector<T>* taps, const Tile&, bool add);
    int64_t out, x, taps;  // where its outputs begin, and the x and the taps of its first step
    int64_t body;          // number of steps that all its outputs take part in
    bool enter, leave;     // with the steps before, each with one output more, and those after, each with one less
};

template <class T, int Width>
void run_tile(Vector<T>* out, const Vector<T>* x, const Vector<T>* taps, const Tile<T>& tile, bool add) {
    Vector<T> sum[Width] = {}, window[Width];
    if (tile.enter) {
        unroll<Width - 1>([&](auto step) SW_INLINE_LAMBDA {
            constexpr int s = step;
            window[s] = x[s];
            const Vector<T> tap = *taps++;
            unroll<s + 1>([&](auto k) SW_INLINE_LAMBDA {
                sum[Width - 1 - s + k] += tap * window[k];
            });
        });
    } else {
        unroll<Width - 1>([&](auto k) SW_INLINE_LAMBDA { window[k] = x[k]; });
    }
    const Vector<T>* const end = x + tile.body;
    bool more = x < end;
    while (more) {
        unroll<Width>([&](auto step) SW_INLINE_LAMBDA {
            constexpr int s = step;
            if (!more) return;
            window[(s + Width - 1) % Width] = x[Width - 1];
            const Vector<T> tap = *taps++;
            unroll<Width>([&](auto i) SW_INLINE_LAMBDA {
                sum[i] += tap * window[(i + s) % Width];
            });
            more = ++x < end;
        });
    }
    if (tile.leave) {
        unroll<Width - 1>([&](auto k) SW_INLINE_LAMBDA { window[k] = x[k]; });
        unroll<Width - 1>([&](auto step) SW_INLINE_LAMBDA {
            constexpr int s = step;
            const Vector<T> tap = *taps++;
            unroll<Width - 1 - s>([&](auto i) SW_INLINE_LAMBDA {
                sum[i] += tap * window[i + s];
            });
        });
    }
    if (add) unroll<Width>([&](auto i) SW_INLINE_LAMBDA { sum[i] += out[i]; });
    unroll<Width>([&](auto i) SW_INLINE_LAMBDA { out[i] = sum[i]; });
}

// Calls f(Tile<T, width>::run, begin) for tiles of about one width that cover so many outputs, each at most as wide as the
// line that they read and as the registers allow.
template <template <class, int> class Tile, class T, class F, int... Less>
SW_INLINE void for_each_tile(int64_t outputs, int64_t extent, const F& f, std::integer_sequence<int, Less...>) {
    constexpr decltype(&Tile<T, 1>::run) functions[] = {Tile<T, Less + 1>::run...};
    const int64_t tiles = ceil_divide(outputs, larger(1, smaller(max_tile<T>, extent)));
    for (int64_t k = 0; k < tiles; ++k) {
        const int64_t begin = outputs * k / tiles;
        f(functions[outputs * (k + 1) / tiles - begin - 1], begin);
    }
}

template <template <class, int> class Tile, class T, class F>
SW_INLINE void for_each_tile(int64_t outputs, int64_t extent, const F& f) {
    for_each_tile<Tile, T>(outputs, extent, f, std::make_integer_sequence<int, max_tile<T>>{});
}

template <class T, int... Less>
SW_INLINE auto tile_function(int64_t width, std::integer_sequence<int, Less...>) {
    constexpr decltype(Tile<T>::run) functions[] = {run_tile<T, Less + 1>...};
    return functions[width - 1];
}

// The tiles of a correlation, found once and run on many lines.
template <class T>
class Correlation {
public:
    // Exact: no output meets an x that is not under one of its taps, not even times zero.
    Correlation(Arena& arena, int64_t n_out, int64_t n_in, int64_t n_taps, int64_t offset, bool exact) {
        const int64_t first = larger(0, offset - (n_taps - 1));
        const int64_t outputs = larger(0, smaller(n_out, n_in + offset) - first);  // those that meet x at all
        end_ = first + outputs;
        count_ = ceil_divide(outputs, smaller(max_tile<T>, n_in + 1));
        tiles_ = arena.take<Tile<T>>(count_);
        if (arena.measures()) return;
        for (int64_t k = 0; k < count_; ++k) {
            const int64_t begin = first + outputs * k / count_;
            tiles_[k] = tile(begin, first + outputs * (k + 1) / count_ - begin, n_in, n_taps, offset, exact);
        }
    }

    int64_t tiles() const { return count_; }

    // The first output of a tile; of the one after the last: the end of the outputs.
    int64_t begin(int64_t tile) const { return tile < count_ ? tiles_[tile].out : end_; }

    void run_tile(int64_t tile, Vector<T>* out, const Vector<T>* x, const Vector<T>* taps, bool add) const {
        const Tile<T>& t = tiles_[tile];
        t.run(out + t.out, x + t.x, taps + t.taps, t, add);
    }

    // Outputs that never meet x are left as they are.
    void run(Vector<T>* out, const Vector<T>* x, const Vector<T>* taps, bool add) const {
        for (int64_t tile = 0; tile < count_; ++tile) run_tile(tile, out, x, taps, add);
    }

private:
    static Tile<T> tile(int64_t begin, int64_t width, int64_t n_in, int64_t n_taps, int64_t offset, bool exact) {
        const int64_t all_in = offset - begin;              // from this tap on, all outputs have entered x
        const int64_t first_out = all_in + n_in - width + 1;  // and at this one the last output leaves it
        // With few steps to spare it is cheaper to run all outputs over the zeros of the margin: those of x, and unless
        // exact those of the taps.
        const int64_t worth = exact ? width - 1 : width / 2;
        const bool enter = all_in >= worth, leave = n_taps - first_out >= worth;
        const int64_t body_begin = enter ? all_in : 0, body_end = leave ? first_out : n_taps;
        const int64_t start = enter ? all_in - (width - 1) : 0;
        return {tile_function<T>(width, std::make_integer_sequence<int, max_tile<T>>{}),
                begin, enter ? 0 : begin - offset, start, body_end - body_begin, enter, leave};
    }

    Tile<T>* tiles_;
    int64_t count_, end_;
};

}  // namespace sw::cpu::SW_INSTRUCTION_SET
