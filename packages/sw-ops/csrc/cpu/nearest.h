// Squared distances to what is remembered nearby. A strip of points in one column is compared with all that one place
// remembers, which stays in the cache meanwhile: |p - m|^2 = |p|^2 + (|m|^2 - 2 p.m), and only the bracket is minimised.
#pragma once
#include "../nearest.h"
#include "product.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

class Nearest {
public:
    Nearest(const NearestProblem& problem, const NearestTensors& tensors) : p(problem), t(tensors) {
        strip_rows = p.strips ? ceil_divide(p.rows, p.strips) : 0;
    }

    // One strip of one column. Neighbouring strips come after each other: they share most of what they are compared with.
    void compute(int64_t task) const {
        const int64_t column = task / p.strips, strip = task % p.strips;
        const int64_t first = smaller(strip * strip_rows, p.rows), height = smaller(strip_rows, p.rows - first);
        auto* const lowest = static_cast<Vector<float>*>(thread_scratch(static_cast<size_t>(height + 1) * sizeof(Vector<float>)));
        for (int64_t r = 0; r < height; ++r) lowest[r] = everywhere(__builtin_inff(), counts<lanes<float>>);
        const float* const points = t.points + (first * p.columns + column) * p.depth;
        each_different(t.columns + column * p.near_columns, p.near_columns, [&](int64_t memory_column) {
            each_different(t.rows + strip * p.near_rows, p.near_rows, [&](int64_t memory_row) {
                compare({points, p.columns * p.depth, height}, memory_column * p.memory_rows + memory_row, lowest);
            });
        });
        for (int64_t r = 0; r < height; ++r) {
            const float* const point = points + r * p.columns * p.depth;
            float square = 0, least = lowest[r][0];
            for (int64_t k = 0; k < p.depth; ++k) square += point[k] * point[k];
            for (int lane = 1; lane < lanes<float>; ++lane) least = lowest[r][lane] < least ? lowest[r][lane] : least;
            const float squared = square + least;
            t.squared[(first + r) * p.columns + column] = squared < 0 ? 0 : squared;  // a NaN stays one
        }
    }

private:
    // Places beyond a border are written as those at it: once is enough.
    template <class F>
    static void each_different(const int64_t* numbers, int64_t count, const F& f) {
        for (int64_t k = 0; k < count; ++k) {
            if (k == 0 || numbers[k] != numbers[k - 1]) f(numbers[k]);
        }
    }

    void compare(const Rows& points, int64_t place, Vector<float>* lowest) const {
        const auto* const memory = static_cast<const Float16*>(t.memory) + place * p.depth * p.count;
        const float* const squares = t.squares + place * p.count;
        for (int64_t n = 0; n < p.count; n += 2 * lanes<float>) {
            const auto step = [&](int64_t k, int v) SW_INLINE_LAMBDA {
                const Float16* const from = memory + k * p.count + n + v * lanes<float>;
                if (v == 0) __builtin_prefetch(from + p.depth * p.count);  // of the next row, which is likely to come next
                return load(from);
            };
            const auto finish = [&](int64_t row, int v, Vector<float> sum) SW_INLINE_LAMBDA {
                const Vector<float> found = load(squares + n + v * lanes<float>) - 2 * sum;
                lowest[row] = bit_cast<Vector<float>>(
                    select(found < lowest[row], bit_cast<Words>(found), bit_cast<Words>(lowest[row])));
            };
            if (n + lanes<float> < p.count) {
                product_tiles<2>(points, p.depth, step, finish);
            } else {
                product_tiles<1>(points, p.depth, step, finish);
            }
        }
    }

    const NearestProblem p;
    const NearestTensors t;
    int64_t strip_rows;
};

void nearest(const NearestProblem& problem, const NearestTensors& tensors, int threads) {
    const Nearest work(problem, tensors);
    parallel(problem.columns * problem.strips, threads, [&](int64_t task) { work.compute(task); });
}

}  // namespace sw::cpu::SW_INSTRUCTION_SET
