// The global response norm for training: two passes over the map forward, and two backward, a few images at a time, so
// that the second finds in the cache what the first has read.
#pragma once
#include "../response_norm.h"
#include "arena.h"
#include "partition.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

// Images cut into chunks: of pixels where channels lie next to each other, else of channels.
class ResponseNorm {
public:
    ResponseNorm(const ResponseNormProblem& problem, int threads) : p(problem), threads(threads) {
        constexpr int64_t group_floats = 1 << 18, chunk_floats = 1 << 14;  // what a thread's share of the caches holds
        const int64_t image = larger(1, p.channels * p.pixels);
        images = smaller(larger(p.batch, 1), larger(threads, threads * group_floats / image));
        chunks = larger(1, smaller(p.channels_last ? p.pixels : p.channels, image / chunk_floats));
        parts = p.channels_last ? chunks : 1;  // that the sum over a channel's pixels comes in
    }

    void forward(const float* x, const float* weight, const float* bias, float* norms, float* y) const {
        const Buffer memory(bytes(parts + 1));
        float* const sums = static_cast<float*>(memory.data());
        float* const factors = sums + images * parts * p.channels;
        by_images([&](int64_t first, int64_t count) {
            parallel(count * chunks, threads, [&](int64_t task) {
                add_up<1>(chunk(first, task), sums + task / chunks * parts * p.channels, [&](int64_t at, int n) SW_INLINE_LAMBDA {
                    const Vector<float> value = load(x + at, n);
                    return Pair{value * value, {}};
                });
            });
            parallel(count, threads, [&](int64_t image) {
                float* const norm = norms + (first + image) * p.channels;
                for (int64_t c = 0; c < p.channels; ++c) norm[c] = __builtin_sqrtf(total(sums, image, c));
                const float scale = inverse_mean(norm);
                for (int64_t c = 0; c < p.channels; ++c) factors[image * p.channels + c] = 1 + weight[c] * norm[c] * scale;
            });
            parallel(count * chunks, threads, [&](int64_t task) {
                const float* const factor = factors + task / chunks * p.channels;
                for_each(chunk(first, task), [&](int64_t at, int n, const auto& of_channel) SW_INLINE_LAMBDA {
                    store(y + at, load(x + at, n) * of_channel(factor) + of_channel(bias), n);
                });
            });
        });
    }

    // grad_x, and for each image and channel the sums over its pixels of x * grad and of grad
    void backward(const float* x, const float* norms, const float* weight, const float* grad, float* products, float* grads,
                  float* grad_x) const {
        const Buffer memory(bytes(2 * parts + 2));
        float* const product_sums = static_cast<float*>(memory.data());
        float* const grad_sums = product_sums + images * parts * p.channels;
        float* const of_grad = grad_sums + images * parts * p.channels;  // what the gradient is multiplied by, and x
        float* const of_x = of_grad + images * p.channels;
        by_images([&](int64_t first, int64_t count) {
            parallel(count * chunks, threads, [&](int64_t task) {
                const int64_t image = task / chunks * parts * p.channels;
                add_up<2>(chunk(first, task), product_sums + image, [&](int64_t at, int n) SW_INLINE_LAMBDA {
                    const Vector<float> value = load(grad + at, n);
                    return Pair{value * load(x + at, n), value};
                }, grad_sums + image);
            });
            parallel(count, threads, [&](int64_t image) {
                const int64_t at = (first + image) * p.channels;
                for (int64_t c = 0; c < p.channels; ++c) {
                    products[at + c] = total(product_sums, image, c);
                    grads[at + c] = total(grad_sums, image, c);
                }
                set_factors(norms + at, weight, products + at, of_grad + image * p.channels, of_x + image * p.channels);
            });
            parallel(count * chunks, threads, [&](int64_t task) {
                const int64_t image = task / chunks * p.channels;
                for_each(chunk(first, task), [&](int64_t at, int n, const auto& of_channel) SW_INLINE_LAMBDA {
                    store(grad_x + at, load(grad + at, n) * of_channel(of_grad + image) + load(x + at, n) * of_channel(of_x + image), n);
                });
            });
        });
    }

private:
    struct Pair {
        Vector<float> first, second;
    };

    struct Chunk {
        int64_t image, index, from, to;  // pixels or channels
    };

    size_t bytes(int64_t per_channel) const { return static_cast<size_t>(images * per_channel * p.channels) * sizeof(float); }

    template <class F>
    void by_images(const F& f) const {
        for (int64_t first = 0; first < p.batch; first += images) f(first, smaller(images, p.batch - first));
    }

    Chunk chunk(int64_t first, int64_t task) const {
        const int64_t index = task % chunks, extent = p.channels_last ? p.pixels : p.channels;
        return {first + task / chunks, index, extent * index / chunks, extent * (index + 1) / chunks};
    }

    // f(index, count) for vectors of so many numbers
    template <class F>
    static SW_INLINE void by_vectors(int64_t count, const F& f) {
        int64_t k = 0;
        for (; k + lanes<float> <= count; k += lanes<float>) f(k, lanes<float>);
        if (k < count) f(k, static_cast<int>(count - k));
    }

    // Sums of value(at, n), one or a pair, over the chunk's pixels of each channel.
    template <int Count, class F>
    void add_up(const Chunk& chunk, float* sums, const F& value, float* others = nullptr) const {
        const int64_t start = chunk.image * p.channels * p.pixels;
        if (p.channels_last) {
            float* const sum = sums + chunk.index * p.channels;
            float* const other = others + chunk.index * p.channels;
            for (int64_t c = 0; c < p.channels; ++c) {
                sum[c] = 0;
                if (Count == 2) other[c] = 0;
            }
            for (int64_t pixel = chunk.from; pixel < chunk.to; ++pixel) {
                by_vectors(p.channels, [&](int64_t c, int n) SW_INLINE_LAMBDA {
                    const Pair pair = value(start + pixel * p.channels + c, n);
                    store(sum + c, load(sum + c, n) + pair.first, n);
                    if (Count == 2) store(other + c, load(other + c, n) + pair.second, n);
                });
            }
        } else {
            for (int64_t c = chunk.from; c < chunk.to; ++c) {
                Pair total{};
                by_vectors(p.pixels, [&](int64_t pixel, int n) SW_INLINE_LAMBDA {
                    const Pair pair = value(start + c * p.pixels + pixel, n);
                    total.first += pair.first;
                    total.second += pair.second;
                });
                sums[c] = across(total.first);
                if (Count == 2) others[c] = across(total.second);
            }
        }
    }

    // f(at, n, of_channel) over a chunk, where of_channel(numbers) are those of the channels at hand
    template <class F>
    void for_each(const Chunk& chunk, const F& f) const {
        const int64_t start = chunk.image * p.channels * p.pixels;
        for (int64_t k = chunk.from; k < chunk.to; ++k) {
            if (p.channels_last) {
                by_vectors(p.channels, [&](int64_t c, int n) SW_INLINE_LAMBDA {
                    f(start + k * p.channels + c, n, [&](const float* numbers) SW_INLINE_LAMBDA { return load(numbers + c, n); });
                });
            } else {
                by_vectors(p.pixels, [&](int64_t pixel, int n) SW_INLINE_LAMBDA {
                    f(start + k * p.pixels + pixel, n, [&](const float* numbers) SW_INLINE_LAMBDA { return Vector<float>{} + numbers[k]; });
                });
            }
        }
    }

    float total(const float* sums, int64_t image, int64_t channel) const {
        float sum = 0;
        for (int64_t part = 0; part < parts; ++part) sum += sums[(image * parts + part) * p.channels + channel];
        return sum;
    }

    static SW_INLINE float across(Vector<float> vector) {
        float sum = 0;
        for (int lane = 0; lane < lanes<float>; ++lane) sum += vector[lane];
        return sum;
    }

    float inverse_mean(const float* norm) const {
        double sum = 0;
        for (int64_t c = 0; c < p.channels; ++c) sum += static_cast<double>(norm[c]);
        return static_cast<float>(1 / (sum / static_cast<double>(p.channels) + p.epsilon));
    }

    // With y = x * s, s = 1 + w * N / (m + eps), N the norms and m their mean, and P the sums of x * grad:
    // grad_x = grad * s + x * (dL/dN) / N, dL/dN = (w * P - mean of (w * P * N) / (m + eps)) / (m + eps).
    void set_factors(const float* norm, const float* weight, const float* product, float* of_grad, float* of_x) const {
        const float scale = inverse_mean(norm);
        double shared = 0;
        for (int64_t c = 0; c < p.channels; ++c) shared += static_cast<double>(weight[c] * product[c] * norm[c]);
        const float mean = static_cast<float>(shared / static_cast<double>(p.channels)) * scale;
        for (int64_t c = 0; c < p.channels; ++c) {
            of_grad[c] = 1 + weight[c] * norm[c] * scale;
            of_x[c] = norm[c] == 0 ? 0 : (weight[c] * product[c] - mean) * scale / norm[c];
        }
    }

    const ResponseNormProblem p;
    const int threads;
    int64_t images, chunks, parts;
};

void response_norm(const ResponseNormProblem& problem, const float* x, const float* weight, const float* bias, float* norms,
                   float* y, int threads) {
    ResponseNorm(problem, threads).forward(x, weight, bias, norms, y);
}

void response_norm_backward(const ResponseNormProblem& problem, const float* x, const float* norms, const float* weight,
                            const float* grad, float* products, float* grads, float* grad_x, int threads) {
    ResponseNorm(problem, threads).backward(x, norms, weight, grad, products, grads, grad_x);
}

}  // namespace sw::cpu::SW_INSTRUCTION_SET
