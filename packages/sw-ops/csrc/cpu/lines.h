// Working memory, and lines of vectors in it or in a tensor.
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

// Vectors at a step of so many numbers.
template <class T>
struct Line {
    T* data;
    int64_t step;

    T* at(int64_t position) const { return data + position * step; }
    Line from(int64_t position) const { return {at(position), step}; }

    SW_INLINE T* next() {
        T* const here = data;
        data += step;
        return here;
    }

    template <int Count>
    SW_INLINE void load(Vector<T> (&to)[Count]) const {
        unroll<Count>([&](auto i) SW_INLINE_LAMBDA {
            to[decltype(i)::value] = SW_INSTRUCTION_SET::load(at(decltype(i)::value));
        });
    }

    template <int Count>
    SW_INLINE void store(const Vector<T> (&from)[Count]) const {
        unroll<Count>([&](auto i) SW_INLINE_LAMBDA {
            SW_INSTRUCTION_SET::store(at(decltype(i)::value), from[decltype(i)::value]);
        });
    }

    // Fetches the cache lines of the first `Count` vectors.
    template <int Count>
    SW_INLINE void prefetch_to_write() const {
        unroll<Count>([&](auto i) SW_INLINE_LAMBDA {
            T* const first = at(decltype(i)::value);
            __builtin_prefetch(first, 1);
            __builtin_prefetch(first + lanes<T> - 1, 1);
        });
    }
};

// One block of channels of an image or of a kernel: its lines in one of the two directions, wherever they lie.
template <class T>
struct Plane {
    T* data;
    int64_t across, along;  // steps from line to line, and along a line
    int64_t count;          // of lines
    T* outside;             // the vector that stands for all of a line beyond them

    // What lies from a position of each line on.
    Plane from(int64_t position) const { return {data + position * along, across, along, count, outside}; }

    bool inside(int64_t k) const { return 0 <= k && k < count; }

    Line<T> line(int64_t k) const {
        if (!inside(k)) return {outside, 0};
        return {data + k * across, along};
    }
};

// Parallel lines in working memory, with zeros between them for correlations that reach over their ends.
template <class T>
class PaddedLines {
public:
    // An odd stride: the same position of many lines would otherwise compete for one set of the cache.
    PaddedLines(Arena& arena, int64_t count, int64_t length, int64_t margin)
        : stride_((length + margin) | 1), data_(arena.take<Vector<T>>(margin + count * stride_) + margin) {
        if (arena.measures()) return;
        clear<T>(data_ - margin, margin);
        for (int64_t k = 0; k < count; ++k) clear<T>((*this)[k] + length, stride_ - length);
    }

    Vector<T>* operator[](int64_t line) const { return data_ + line * stride_; }

    PaddedLines from(int64_t line) const { return {stride_, (*this)[line]}; }

private:
    PaddedLines(int64_t stride, Vector<T>* data) : stride_(stride), data_(data) {}

    int64_t stride_;
    Vector<T>* data_;
};

}  // namespace sw::cpu::SW_INSTRUCTION_SET
