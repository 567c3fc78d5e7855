// Products of rows of numbers with matrices that are kept in panels.
#pragma once
#include "partition.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

// A matrix [columns, depth] is kept as [ceil(columns / panel), depth, panel], zeros after its last column: what a step
// along the depth needs lies together, whatever the width of vectors.
constexpr int panel = 16;

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int most_rows = 12;  // of sums, two vectors each, beside the vectors of a step: what 32 registers hold
#else
constexpr int most_rows = 6;  // 16 registers
#endif

constexpr int64_t group = 2 * lanes<float>;  // columns whose sums are kept in registers at a time

constexpr int64_t panel_floats(int64_t columns, int64_t depth) { return ceil_divide(columns, panel) * depth * panel; }

inline void pack_panel(const float* matrix, int64_t columns, int64_t depth, int64_t index, float* panels) {
    constexpr int all = lanes<float>;
    float* const to = panels + index * depth * panel;
    for (int64_t part = 0; part < panel; part += all) {
        const int64_t column = index * panel + part, count = larger(0, smaller(all, columns - column));
        for (int64_t k = 0; k < depth; k += all) {
            const int steps = static_cast<int>(smaller(all, depth - k));
            Vector<float> block[all];
            for (int i = 0; i < all; ++i) {
                block[i] = i < count ? load(matrix + (column + i) * depth + k, steps) : Vector<float>{};
            }
            transpose<float>(block);
            for (int i = 0; i < steps; ++i) store(to + (k + i) * panel + part, block[i]);
        }
    }
}

template <int Count>
constexpr auto counts = std::make_integer_sequence<int, Count>{};

// Not by an addition: a load that spreads its number costs no unit that adds.
template <int... Lanes>
SW_INLINE Vector<float> everywhere(float number, std::integer_sequence<int, Lanes...>) {
    return Vector<float>{(static_cast<void>(Lanes), number)...};
}

struct Rows {
    const float* data;
    int64_t stride, count;
};

// Adds up Count rows times `Vectors` vectors of columns, of which step(k, v) loads what is at the depth k, and hands
// every sum to finish(row, v, vector).
template <int Count, int Vectors, class Step, class Finish>
SW_INLINE void product_tile(const float* rows, int64_t stride, int64_t depth, const Step& step, const Finish& finish) {
    Vector<float> sums[Count][Vectors] = {};
    const float* starts[ceil_divide(Count, 3)];
    for (int r = 0; r < Count; r += 3) starts[r / 3] = rows + r * stride;
#pragma GCC unroll 4
    for (int64_t k = 0; k < depth; ++k) {
        Vector<float> columns[Vectors];
        unroll<Vectors>([&](auto v) SW_INLINE_LAMBDA { columns[v] = step(k, int{v}); });
        unroll<Count>([&](auto r) SW_INLINE_LAMBDA {
            constexpr int i = r;
            const Vector<float> value = everywhere(starts[i / 3][(i % 3) * stride + k], counts<lanes<float>>);
            unroll<Vectors>([&](auto v) SW_INLINE_LAMBDA { sums[r][v] += value * columns[v]; });
        });
    }
    unroll<Count>([&](auto r) SW_INLINE_LAMBDA {
        unroll<Vectors>([&](auto v) SW_INLINE_LAMBDA { finish(int{r}, int{v}, sums[r][v]); });
    });
}

template <int Vectors, class Step, class Finish, int... Counts>
void product_tile(int64_t count, const float* rows, int64_t stride, int64_t depth, const Step& step, const Finish& finish,
                  std::integer_sequence<int, Counts...>) {
    ((count == Counts + 1 ? product_tile<Counts + 1, Vectors>(rows, stride, depth, step, finish) : void()), ...);
}

// The same of any number of rows, in tiles as high as each other: a low one wastes what it loads.
template <int Vectors, class Step, class Finish>
void product_tiles(const Rows& rows, int64_t depth, const Step& step, const Finish& finish) {
    const int64_t tiles = ceil_divide(rows.count, most_rows);
    for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t row = rows.count * tile / tiles, count = rows.count * (tile + 1) / tiles - row;
        const auto finish_row = [&](int r, int v, Vector<float> sum) SW_INLINE_LAMBDA { finish(row + r, v, sum); };
        product_tile<Vectors>(count, rows.data + row * rows.stride, rows.stride, depth, step, finish_row, counts<most_rows>);
    }
}

// Columns [first, last) of rows x matrix, in groups, of which `first` begins one.
template <class Finish>
void product(const Rows& rows, const float* matrix, int64_t depth, int64_t first, int64_t last, const Finish& finish) {
    for (int64_t column = first; column < last; column += group) {
        const auto start = [&](int64_t c) { return matrix + c / panel * panel * depth + c % panel; };
        const float* const columns[2] = {start(column), start(column + lanes<float>)};
        const auto step = [&](int64_t k, int v) SW_INLINE_LAMBDA { return load(columns[v] + k * panel); };
        const auto finish_column = [&](int64_t row, int v, Vector<float> sum) SW_INLINE_LAMBDA {
            finish(row, column + v * lanes<float>, sum);
        };
        if (column + lanes<float> < last) {
            product_tiles<2>(rows, depth, step, finish_column);
        } else {
            product_tiles<1>(rows, depth, step, finish_column);
        }
    }
}

}  // namespace sw::cpu::SW_INSTRUCTION_SET
