// Working memory: lines and maps of vectors with the zeros around them that the kernels rely on.
#pragma once
#include "../stripe.h"
#include "pack.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

// Cuts a block of memory into aligned arrays. What lives in one is made twice: without memory, to learn how much is
// wanted, then with it.
class Arena {
public:
    explicit Arena(void* memory = nullptr) : memory_(static_cast<char*>(memory)) {}

    template <class T>
    T* take(int64_t count) {
        T* const array = memory_ ? reinterpret_cast<T*>(memory_ + used_) : nullptr;
        used_ += ceil_divide(count * static_cast<int64_t>(sizeof(T)), 64) * 64;
        return array;
    }

    bool measures() const { return !memory_; }
    size_t used() const { return static_cast<size_t>(used_); }

private:
    char* memory_;
    int64_t used_ = 0;
};

template <class T>
void clear(Vector<T>* array, int64_t count) {
    for (int64_t k = 0; k < count; ++k) array[k] = Vector<T>{};
}

// Parallel lines of vectors.
template <class T>
struct Lines {
    Vector<T>* data;
    int64_t across, along;  // strides from line to line, and from position to position

    Lines from(int64_t line) const { return {data + line * across, across, along}; }
};

// Lines with zeros between them, for correlations that reach over their ends.
template <class T>
class PaddedLines {
public:
    // An odd stride: the same position of many lines would otherwise compete for one set of the cache.
    PaddedLines(Arena& arena, int64_t count, int64_t length, int64_t margin)
        : margin_(margin), stride_((length + margin) | 1), data_(arena.take<Vector<T>>(margin + count * stride_)) {
        if (arena.measures()) return;
        clear<T>(data_, margin);
        for (int64_t k = 0; k < count; ++k) clear<T>((*this)[k] + length, stride_ - length);
    }

    Vector<T>* operator[](int64_t line) const { return data_ + margin_ + line * stride_; }
    Lines<T> from(int64_t line) const { return {(*this)[line], stride_, 1}; }

private:
    int64_t margin_, stride_;
    Vector<T>* data_;
};

// One image of a few blocks of channels. The zeros reach `border` beyond each edge, after its height and width were
// rounded up to multiples of `step`.
template <class T>
class PaddedMap {
public:
    PaddedMap(Arena& arena, const StripeProblem& problem, int64_t border, int64_t step, int64_t blocks)
        : border_(border), row_stride_((ceil_divide(problem.width, step) * step + 2 * border) | 1),
          block_stride_((ceil_divide(problem.height, step) * step + 2 * border) * row_stride_),
          data_(arena.take<Vector<T>>(blocks * block_stride_)) {
        if (arena.measures()) return;
        for (int64_t b = 0; b < blocks; ++b) {
            Vector<T>* end = data_ + b * block_stride_;  // of what is cleared or will be filled
            for (int64_t r = 0; r < problem.height; ++r) {
                Vector<T>* const row = planes().row(b, r);
                clear<T>(end, row - end);
                end = row + problem.width;
            }
            clear<T>(end, data_ + (b + 1) * block_stride_ - end);
        }
    }

    Planes<T> planes() const { return {data_ + border_ * (row_stride_ + 1), block_stride_, row_stride_}; }
    Lines<T> rows(int64_t block, int64_t first) const { return {planes().row(block, first), row_stride_, 1}; }
    Lines<T> columns(int64_t block, int64_t first) const { return {planes().row(block, 0) + first, 1, row_stride_}; }

private:
    int64_t border_, row_stride_, block_stride_;
    Vector<T>* data_;
};

}  // namespace sw::cpu::SW_INSTRUCTION_SET
