// mlp: a block's pointwise half, image by image, so that what it widens to stays in the cache.
#pragma once
#include "../mlp.h"
#include "gelu.h"
#include "product.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

// How the work is cut: a few images at a time, their pixels in chunks, the columns of a product in slices.
struct MlpPlan {
    MlpPlan(const MlpProblem& p, int threads) : hidden_stride(ceil_divide(p.hidden, panel) * panel + panel) {
        constexpr int64_t group_bytes = 2 << 20, chunk_bytes = 1 << 19;  // what a thread's share of the caches holds
        const int64_t row_bytes = hidden_stride * static_cast<int64_t>(sizeof(float));
        images = smaller(larger(p.batch, 1), larger(threads, threads * group_bytes / (row_bytes * larger(p.pixels, 1))));
        const int64_t rows = larger(most_rows, chunk_bytes / row_bytes), wanted = threads > 1 ? 2 * threads : 1;
        const int64_t most_chunks = larger(1, p.pixels / most_rows);
        chunks = larger(1, larger(ceil_divide(p.pixels, rows), smaller(most_chunks, ceil_divide(wanted, images))));
        slices = smaller(4, ceil_divide(wanted, images * chunks));
    }

    // In this order: the panels, the hidden maps, and per image sums over pixels (of each chunk), gates and factors.
    int64_t hidden_floats(const MlpProblem& p) const { return images * p.pixels * hidden_stride; }
    int64_t sums_floats(const MlpProblem& p) const { return images * chunks * larger(hidden_stride, p.channels); }
    int64_t floats(const MlpProblem& p) const {
        return panel_floats(p.hidden, p.channels) + panel_floats(p.channels, p.hidden) + hidden_floats(p) + sums_floats(p) +
               images * (p.channels + p.squeezed + hidden_stride);
    }

    int64_t hidden_stride, images, chunks, slices;
};

class Mlp {
public:
    Mlp(const MlpProblem& problem, const MlpTensors& tensors, int threads)
        : p(problem), t(tensors), plan(problem, threads), threads(threads), expand(t.workspace),
          project(expand + panel_floats(p.hidden, p.channels)), hidden(project + panel_floats(p.channels, p.hidden)),
          sums(hidden + plan.hidden_floats(p)), gates(sums + plan.sums_floats(p)), squeezes(gates + plan.images * p.channels),
          factors(squeezes + plan.images * p.squeezed) {}

    void run() const {
        const int64_t panels = ceil_divide(p.hidden, panel);
        parallel(panels + ceil_divide(p.channels, panel), threads, [&](int64_t task) {
            if (task < panels) {
                pack_panel(t.expand, p.hidden, p.channels, task, expand);
            } else {
                pack_panel(t.project, p.channels, p.hidden, task - panels, project);
            }
        });
        for (int64_t first = 0; first < p.batch; first += plan.images) {
            const int64_t images = smaller(plan.images, p.batch - first), chunks = images * plan.chunks;
            parallel(chunks, threads, [&](int64_t task) { add_up(first, chunk(task)); });
            parallel(images, threads, [&](int64_t image) { set_gates(image); });
            parallel(chunks * plan.slices, threads, [&](int64_t task) { widen(first, chunk(task / plan.slices), task % plan.slices); });
            parallel(images, threads, [&](int64_t image) { set_factors(image); });
            parallel(chunks * plan.slices, threads, [&](int64_t task) { narrow(first, chunk(task / plan.slices), task % plan.slices); });
        }
    }

private:
    struct Chunk {
        int64_t image, index, row, rows;
    };

    // Where a product's sums go: whole vectors as they are, or as many columns as there are, on top of an input and a
    // bias. Both in one, for a product is compiled once for each of its destinations, and that takes long.
    struct Sums {
        float* to;
        int64_t stride;
        const float *input = nullptr, *bias = nullptr;

        SW_INLINE void operator()(int64_t row, int64_t column, Vector<float> sum) const {
            const int64_t at = row * stride + column;
            if (!input) return store(to + at, sum);
            const int n = static_cast<int>(smaller(lanes<float>, stride - column));
            store(to + at, load(input + at, n) + (sum + load(bias + column, n)), n);
        }
    };

    Chunk chunk(int64_t task) const {
        const int64_t index = task % plan.chunks, row = p.pixels * index / plan.chunks;
        return {task / plan.chunks, index, row, p.pixels * (index + 1) / plan.chunks - row};
    }

    // f(first, last) columns of a slice, whole groups but for the end.
    template <class F>
    void in_slice(int64_t columns, int64_t slice, const F& f) const {
        const int64_t groups = ceil_divide(columns, group);
        f(groups * slice / plan.slices * group, smaller(columns, groups * (slice + 1) / plan.slices * group));
    }

    template <class F>
    static SW_INLINE void by_vectors(int64_t count, const F& f) {
        for (int64_t c = 0; c < count; c += lanes<float>) f(c, static_cast<int>(smaller(lanes<float>, count - c)));
    }

    const float* input_row(int64_t first, const Chunk& chunk, int64_t row) const {
        return t.input + ((first + chunk.image) * p.pixels + chunk.row + row) * p.channels;
    }

    const float* processed_row(int64_t first, const Chunk& chunk, int64_t row) const {
        return t.processed + ((first + chunk.image) * p.pixels + chunk.row + row) * p.processed;
    }

    // Sums of the processed channels, and of the others as they come in.
    void add_up(int64_t first, const Chunk& chunk) const {
        float* const sum = sums + (chunk.image * plan.chunks + chunk.index) * p.channels;
        for (int64_t c = 0; c < p.channels; ++c) sum[c] = 0;
        for (int64_t r = 0; r < chunk.rows; ++r) {
            const float* const processed = processed_row(first, chunk, r);
            const float* const copied = input_row(first, chunk, r) + p.processed;
            by_vectors(p.processed, [&](int64_t c, int n) SW_INLINE_LAMBDA {
                store(sum + c, load(sum + c, n) + load(processed + c, n), n);
            });
            by_vectors(p.channels - p.processed, [&](int64_t c, int n) SW_INLINE_LAMBDA {
                float* const to = sum + p.processed + c;
                store(to, load(to, n) + load(copied + c, n), n);
            });
        }
    }

    // sigmoid(excite(relu(squeeze(mean))))
    void set_gates(int64_t image) const {
        float* const gate = gates + image * p.channels;
        float* const squeezed = squeezes + image * p.squeezed;
        for (int64_t c = 0; c < p.channels; ++c) {
            float total = 0;
            for (int64_t k = 0; k < plan.chunks; ++k) total += sums[(image * plan.chunks + k) * p.channels + c];
            const float mean = total / static_cast<float>(p.pixels);
            const int64_t ghost = c - p.processed;
            gate[c] = ghost < 0 ? mean : mean * t.ghost_scale[ghost] + t.ghost_shift[ghost];
        }
        for (int64_t s = 0; s < p.squeezed; ++s) {
            const float value = t.squeeze_bias[s] + inner(t.squeeze + s * p.channels, gate, p.channels);
            squeezed[s] = value < 0 ? 0 : value;
        }
        for (int64_t c = 0; c < p.channels; ++c) {
            gate[c] = 1 / (1 + __builtin_expf(-t.excite_bias[c] - inner(t.excite + c * p.squeezed, squeezed, p.squeezed)));
        }
    }

    static SW_INLINE float inner(const float* a, const float* b, int64_t count) {
        Vector<float> products{};
        by_vectors(count, [&](int64_t k, int n) SW_INLINE_LAMBDA { products += load(a + k, n) * load(b + k, n); });
        float sum = 0;
        for (int lane = 0; lane < lanes<float>; ++lane) sum += products[lane];
        return sum;
    }

    // hidden = gelu(expand(gate * what comes in)), and its squares' sums over the pixels
    void widen(int64_t first, const Chunk& chunk, int64_t slice) const {
        const int64_t stride = p.channels + panel;
        float* const gated = static_cast<float*>(thread_scratch(static_cast<size_t>(chunk.rows * stride) * sizeof(float)));
        gather_gated(first, chunk, gated, stride);
        float* const h = hidden + (chunk.image * p.pixels + chunk.row) * plan.hidden_stride;
        float* const squares = sums + (chunk.image * plan.chunks + chunk.index) * plan.hidden_stride;
        in_slice(p.hidden, slice, [&](int64_t from, int64_t to) {
            for (int64_t column = from; column < to; column += group) {
                const int64_t end = smaller(column + group, to);
                product({gated, stride, chunk.rows}, expand, p.channels, column, end, Sums{h, plan.hidden_stride});
                for (int64_t c = column; c < end; c += lanes<float>) {
                    activate(h + c, chunk.rows, load(t.expand_bias + c, static_cast<int>(smaller(lanes<float>, p.hidden - c))), squares + c);
                }
            }
        });
    }

    void activate(float* h, int64_t rows, Vector<float> bias, float* squares) const {
        constexpr int together = 4;  // rows, to hide the latency of one
        Vector<float> total{};
        int64_t r = 0;
        const auto next = [&](auto count) SW_INLINE_LAMBDA {
            Vector<float> y[count];
            unroll<count>([&](auto k) SW_INLINE_LAMBDA { y[k] = gelu(load(h + (r + k) * plan.hidden_stride) + bias); });
            unroll<count>([&](auto k) SW_INLINE_LAMBDA {
                total += y[k] * y[k];
                store(h + (r + k) * plan.hidden_stride, y[k]);
            });
            r += count;
        };
        while (r + together <= rows) next(Index<together>{});
        while (r < rows) next(Index<1>{});
        store(squares, total);
    }

    void gather_gated(int64_t first, const Chunk& chunk, float* gated, int64_t stride) const {
        const float* const gate = gates + chunk.image * p.channels;
        for (int64_t r = 0; r < chunk.rows; ++r) {
            const float* const processed = processed_row(first, chunk, r);
            const float* const copied = input_row(first, chunk, r) + p.processed;
            float* const to = gated + r * stride;
            by_vectors(p.processed, [&](int64_t c, int n) SW_INLINE_LAMBDA {
                store(to + c, load(processed + c, n) * load(gate + c, n), n);
            });
            by_vectors(p.channels - p.processed, [&](int64_t c, int n) SW_INLINE_LAMBDA {
                const Vector<float> value = load(copied + c, n) * load(t.ghost_scale + c, n) + load(t.ghost_shift + c, n);
                store(to + p.processed + c, value * load(gate + p.processed + c, n), n);
            });
        }
    }

    // 1 + weight * norm / (mean of the norms + epsilon)
    void set_factors(int64_t image) const {
        float* const factor = factors + image * plan.hidden_stride;
        double mean = 0;
        for (int64_t c = 0; c < p.hidden; ++c) {
            float total = 0;
            for (int64_t k = 0; k < plan.chunks; ++k) total += sums[(image * plan.chunks + k) * plan.hidden_stride + c];
            factor[c] = __builtin_sqrtf(total);
            mean += factor[c];
        }
        const float scale = static_cast<float>(1 / (mean / static_cast<double>(p.hidden) + p.epsilon));
        for (int64_t c = 0; c < p.hidden; ++c) factor[c] = 1 + t.response[c] * factor[c] * scale;
    }

    // output = input + project(factor * hidden)
    void narrow(int64_t first, const Chunk& chunk, int64_t slice) const {
        const int64_t stride = plan.hidden_stride;
        float* const scaled = static_cast<float*>(thread_scratch(static_cast<size_t>(chunk.rows * stride) * sizeof(float)));
        const float* const h = hidden + (chunk.image * p.pixels + chunk.row) * stride;
        const float* const factor = factors + chunk.image * stride;
        for (int64_t r = 0; r < chunk.rows; ++r) {
            by_vectors(p.hidden, [&](int64_t c, int n) SW_INLINE_LAMBDA {
                store(scaled + r * stride + c, load(h + r * stride + c) * load(factor + c, n));
            });
        }
        const float* const input = input_row(first, chunk, 0);
        float* const output = t.output + (input - t.input);
        in_slice(p.channels, slice, [&](int64_t from, int64_t to) {
            product({scaled, stride, chunk.rows}, project, p.hidden, from, to, Sums{output, p.channels, input, t.project_bias});
        });
    }

    const MlpProblem p;
    const MlpTensors t;
    const MlpPlan plan;
    const int threads;
    float *const expand, *const project, *const hidden, *const sums, *const gates, *const squeezes, *const factors;
};

void mlp(const MlpProblem& problem, const MlpTensors& tensors, int threads) { Mlp(problem, tensors, threads).run(); }

int64_t mlp_workspace(const MlpProblem& problem, int threads) { return MlpPlan(problem, threads).floats(problem); }

}  // namespace sw::cpu::SW_INSTRUCTION_SET
