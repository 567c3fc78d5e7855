// A plane is one block of channels of an image, a vector of channels at each position: as rows and columns, as lines in
// one of the two directions, and in memory of its own.
#pragma once
#include "../stripe.h"
#include "arena.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

// Calls f(storage) with an object of the type that the problem's tensors hold.
template <class F>
void with_storage(const StripeProblem& problem, const F& f) {
    switch (problem.scalar) {
        case Scalar::f32: return f(float{});
        case Scalar::f64: return f(double{});
        case Scalar::bf16: return f(BFloat16{});
        case Scalar::f16: return f(Float16{});
    }
}

// One block of channels of an image: a number per channel at each of its positions.
template <class T>
struct PlaneView {
    T* data;
    int64_t row_step, column_step;
};

template <class T>
PlaneView<T> same_everywhere(Vector<T>* vector) {
    return {reinterpret_cast<T*>(vector), 0, 0};
}

// Vectors at a step of so many numbers.
template <class T>
struct LineView {
    T* data;
    int64_t step;

    T* at(int64_t position) const { return data + position * step; }
    LineView from(int64_t position) const { return {at(position), step}; }

    SW_INLINE T* next() {
        T* const here = data;
        data += step;
        return here;
    }

    template <int Count>
    SW_INLINE void load(Vector<T> (&to)[Count]) const {
        unroll<Count>([&](auto i) SW_INLINE_LAMBDA {
            to[i] = SW_INSTRUCTION_SET::load(at(i));
        });
    }

    template <int Count>
    SW_INLINE void store(const Vector<T> (&from)[Count]) const {
        unroll<Count>([&](auto i) SW_INLINE_LAMBDA {
            SW_INSTRUCTION_SET::store(at(i), from[i]);
        });
    }

    // Fetches the cache lines of the first `Count` vectors.
    template <int Count>
    SW_INLINE void prefetch_to_write() const {
        unroll<Count>([&](auto i) SW_INLINE_LAMBDA {
            T* const first = at(i);
            __builtin_prefetch(first, 1);
            __builtin_prefetch(first + lanes<T> - 1, 1);
        });
    }
};

// One block of channels of an image or of a kernel: its lines in one of the two directions, wherever they lie.
template <class T>
struct LinesView {
    T* data;
    int64_t across, along;  // steps from line to line, and along a line
    int64_t count;          // of lines
    T* outside;             // the vector that stands for all of a line beyond them

    // What lies from a position of each line on.
    LinesView from(int64_t position) const { return {data + position * along, across, along, count, outside}; }

    bool inside(int64_t k) const { return 0 <= k && k < count; }

    LineView<T> line(int64_t k) const {
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

// Memory for a block of an image, for where the tensor does not hold it as vectors of its channels.
template <class T>
class PlaneBuffer {
public:
    PlaneBuffer(Arena& arena, const StripeProblem& problem)
        : width_(problem.width), data_(arena.take<Vector<T>>(problem.height * problem.width)) {}

    // Whether the tensor holds such vectors itself.
    template <class Storage>
    static bool in_place(const BlockView<Storage>& tensor) {
        return std::is_same_v<std::remove_const_t<Storage>, T> && tensor.adjacent() && tensor.channels == lanes<T>;
    }

    PlaneView<T> view() const { return {reinterpret_cast<T*>(data_), width_ * lanes<T>, lanes<T>}; }

    template <class Storage>
    PlaneView<T> read(const BlockView<const Storage>& tensor) const {
        if (in_place(tensor)) return {numbers(tensor), tensor.row_stride, tensor.column_stride};
        pack(tensor, data_);
        return view();
    }

    // f(image to write)
    template <class Storage, class F>
    void write(const BlockView<Storage>& tensor, F f) const {
        if (in_place(tensor)) return f({numbers(tensor), tensor.row_stride, tensor.column_stride});
        f(view());
        unpack(data_, tensor);
    }

private:
    // Images are not written through when they are inputs.
    template <class Storage>
    static T* numbers(const BlockView<Storage>& tensor) {
        return reinterpret_cast<T*>(const_cast<std::remove_const_t<Storage>*>(tensor.data));
    }

    int64_t width_;
    Vector<T>* data_;
};

}  // namespace sw::cpu::SW_INSTRUCTION_SET
