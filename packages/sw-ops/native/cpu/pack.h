// Between tensors of any layout and vectors that hold one channel per lane.
#pragma once
#include "vector.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Numbers [rows, columns, channels] in memory. Strides count numbers.
template <class Storage>
struct Picture {
    Storage* data;
    int64_t row_stride, column_stride, channel_stride;
    int64_t rows, columns, channels;

    Storage* at(int64_t row, int64_t column, int64_t channel = 0) const {
        return data + row * row_stride + column * column_stride + channel * channel_stride;
    }

    // As a single row, where one row follows the other without a gap.
    Picture joined() const {
        if (row_stride != columns * column_stride) return *this;
        return {data, 0, column_stride, channel_stride, 1, rows * columns, channels};
    }
};

// The same numbers as vectors [blocks of channels, rows, columns].
template <class T>
struct Planes {
    Vector<T>* data;
    int64_t block_stride, row_stride;

    Vector<T>* row(int64_t block, int64_t r) const { return data + block * block_stride + r * row_stride; }
};

// Walks over the positions of a block in reading order.
template <class T>
class Cursor {
public:
    Cursor(const Planes<T>& planes, int64_t block, int64_t columns, int64_t position)
        : row_(planes.row(block, position / columns)), row_stride_(planes.row_stride), columns_(columns),
          column_(position % columns) {}

    SW_INLINE void write(const Vector<T>* square, int count) {
        if (count == lanes<T>) {
            unroll<lanes<T>>([&](auto k) SW_INLINE_LAMBDA { next() = square[decltype(k)::value]; });
        } else {
            for (int k = 0; k < count; ++k) next() = square[k];
        }
    }

    SW_INLINE void read(Vector<T>* square, int count) {
        if (count == lanes<T>) {
            unroll<lanes<T>>([&](auto k) SW_INLINE_LAMBDA { square[decltype(k)::value] = next(); });
        } else {
            for (int k = 0; k < lanes<T>; ++k) square[k] = k < count ? next() : Vector<T>{};
        }
    }

private:
    SW_INLINE Vector<T>& next() {
        if (column_ == columns_) {
            column_ = 0;
            row_ += row_stride_;
        }
        return row_[column_++];
    }

    Vector<T>* row_;
    int64_t row_stride_, columns_, column_;
};

// Calls f(row, first column, count) for runs of `size` columns, or of fewer in rows shorter than that. The last run of
// a row may overlap the one before, which is cheaper than a piece of a vector.
template <class Storage, class F>
SW_INLINE void for_each_chunk(const Picture<Storage>& picture, int64_t size, F f) {
    const int count = static_cast<int>(smaller(size, picture.columns));
    for (int64_t r = 0; r < picture.rows; ++r) {
        for (int64_t q = 0; q < picture.columns; q += size) f(r, smaller(q, picture.columns - count), count);
    }
}

template <class Storage>
void pack(const Picture<const Storage>& from, const Planes<SumOf<Storage>>& to) {
    using Sum = SumOf<Storage>;
    constexpr int all = lanes<Sum>;
    if (from.channel_stride == 1) {
        const int64_t full = from.channels / all;
        const int rest = static_cast<int>(from.channels % all);
        for (int64_t r = 0; r < from.rows; ++r) {
            // A whole vector for the rest too, where the next row shows that the memory behind the channels is the
            // tensor's own: what it brings into the lanes left over has no effect.
            const int last = rest && r + 1 < from.rows && from.row_stride + rest >= all ? all : rest;
            for (int64_t q = 0; q < from.columns; ++q) {
                const Storage* const data = from.at(r, q);
                Vector<Sum>* const place = to.row(0, r) + q;
                for (int64_t b = 0; b < full; ++b) place[b * to.block_stride] = load(data + b * all);
                if (last) place[full * to.block_stride] = load(data + full * all, last);
            }
        }
        return;
    }
    for (int64_t b = 0; b * all < from.channels; ++b) {
        const int channels = static_cast<int>(smaller(all, from.channels - b * all));
        if (from.column_stride == 1) {
            const Picture<const Storage> picture = from.joined();
            for_each_chunk(picture, all, [&](int64_t r, int64_t q, int count) {
                Vector<Sum> square[all];
                load_square(picture.at(r, q, b * all), picture.channel_stride, channels, count, square);
                transpose<Sum>(square);
                Cursor<Sum>(to, b, from.columns, r * picture.columns + q).write(square, count);
            });
        } else {
            for (int64_t r = 0; r < from.rows; ++r) {
                for (int64_t q = 0; q < from.columns; ++q) {
                    Storage few[all] = {};
                    for (int c = 0; c < channels; ++c) few[c] = *from.at(r, q, b * all + c);
                    to.row(b, r)[q] = load(few);
                }
            }
        }
    }
}

// Writes the numbers plus a bias, one vector of it per block.
template <class Storage>
void unpack(const Planes<SumOf<Storage>>& from, const Vector<SumOf<Storage>>* bias, const Picture<Storage>& to) {
    using Sum = SumOf<Storage>;
    constexpr int all = lanes<Sum>;
    if (to.channel_stride == 1) {
        const int64_t full = to.channels / all;
        const int rest = static_cast<int>(to.channels % all);
        for (int64_t r = 0; r < to.rows; ++r) {
            for (int64_t q = 0; q < to.columns; ++q) {
                Storage* const data = to.at(r, q);
                const Vector<Sum>* const place = from.row(0, r) + q;
                for (int64_t b = 0; b < full; ++b) store(data + b * all, place[b * from.block_stride] + bias[b]);
                if (rest) store(data + full * all, place[full * from.block_stride] + bias[full], rest);
            }
        }
        return;
    }
    for (int64_t b = 0; b * all < to.channels; ++b) {
        const int channels = static_cast<int>(smaller(all, to.channels - b * all));
        if (to.column_stride == 1) {
            const Picture<Storage> picture = to.joined();
            for_each_chunk(picture, all, [&](int64_t r, int64_t q, int count) {
                Vector<Sum> square[all];
                Cursor<Sum>(from, b, to.columns, r * picture.columns + q).read(square, count);
                unroll<all>([&](auto k) SW_INLINE_LAMBDA { square[decltype(k)::value] += bias[b]; });
                transpose<Sum>(square);
                store_square(square, picture.at(r, q, b * all), picture.channel_stride, channels, count);
            });
        } else {
            for (int64_t r = 0; r < to.rows; ++r) {
                for (int64_t q = 0; q < to.columns; ++q) {
                    Storage few[all];
                    store(few, from.row(b, r)[q] + bias[b]);
                    for (int c = 0; c < channels; ++c) *to.at(r, q, b * all + c) = few[c];
                }
            }
        }
    }
}

}  // namespace sw::cpu::SW_INSTRUCTION_SET
