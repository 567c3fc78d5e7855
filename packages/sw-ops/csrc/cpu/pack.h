// Between tensors of any layout and vectors that hold one channel per lane.
#pragma once
#include "vector.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Numbers [rows, columns, channels] in memory, channels for one vector at most. Strides count numbers.
template <class Storage>
struct BlockView {
    Storage* data;
    int64_t row_stride, column_stride, channel_stride;
    int64_t rows, columns;
    int channels;
    const int64_t* numbers = nullptr;  // of its channels; null: 0, 1, 2, ...

    Storage* at(int64_t row, int64_t column) const { return data + row * row_stride + column * column_stride; }

    bool adjacent() const { return channel_stride == 1 && !numbers; }

    // Where each channel lies from the first number of a position on; at the last for the lanes left over.
    void channel_offsets(int64_t* offsets) const {
        for (int c = 0; c < lanes<SumOf<std::remove_const_t<Storage>>>; ++c) {
            const int64_t channel = smaller(c, channels - 1);
            offsets[c] = (numbers ? numbers[channel] : channel) * channel_stride;
        }
    }

    // As a single row, where one row follows the other without a gap.
    BlockView joined() const {
        if (row_stride != columns * column_stride) return *this;
        return {data, 0, column_stride, channel_stride, 1, rows * columns, channels, numbers};
    }
};

// Calls f(row, first column, count) for runs of `size` columns, or of fewer in rows shorter than that. The last run of
// a row may overlap the one before, which is cheaper than a piece of a vector.
template <class Storage, class F>
SW_INLINE void for_each_chunk(const BlockView<Storage>& view, int64_t size, F f) {
    const int count = static_cast<int>(smaller(size, view.columns));
    for (int64_t r = 0; r < view.rows; ++r) {
        for (int64_t q = 0; q < view.columns; q += size) f(r, smaller(q, view.columns - count), count);
    }
}

// Writes one vector per position, in reading order.
template <class Storage>
void pack(const BlockView<const Storage>& view, Vector<SumOf<Storage>>* to) {
    using Sum = SumOf<Storage>;
    constexpr int all = lanes<Sum>;
    const BlockView<const Storage> from = view.joined();
    int64_t offsets[all];
    from.channel_offsets(offsets);
    if (from.adjacent()) {
        for (int64_t r = 0; r < from.rows; ++r) {
            // A whole vector even of fewer channels, where a position behind shows that the memory is the tensor's
            // own: what it brings into the lanes left over has no effect.
            const int64_t behind = from.column_stride ? ceil_divide(all - from.channels, from.column_stride) : from.columns;
            int64_t q = 0;
            for (; q + behind < from.columns; ++q) *to++ = load(from.at(r, q));
            for (; q < from.columns; ++q) *to++ = load(from.at(r, q), from.channels);
        }
    } else if (from.column_stride == 1) {
        for_each_chunk(from, all, [&](int64_t r, int64_t q, int count) {
            Vector<Sum> matrix[all];
            load_matrix(from.at(r, q), offsets, from.channels, count, matrix);
            transpose<Sum>(matrix);
            Vector<Sum>* const place = to + r * from.columns + q;
            for (int k = 0; k < count; ++k) place[k] = matrix[k];
        });
    } else {
        for (int64_t r = 0; r < from.rows; ++r) {
            for (int64_t q = 0; q < from.columns; ++q) *to++ = load_from(from.at(r, q), offsets);
        }
    }
}

template <class Storage>
void unpack(const Vector<SumOf<Storage>>* from, const BlockView<Storage>& view) {
    using Sum = SumOf<Storage>;
    constexpr int all = lanes<Sum>;
    const BlockView<Storage> to = view.joined();
    int64_t offsets[all];
    to.channel_offsets(offsets);
    if (to.adjacent()) {
        for (int64_t r = 0; r < to.rows; ++r) {
            for (int64_t q = 0; q < to.columns; ++q) store(to.at(r, q), *from++, to.channels);
        }
    } else if (to.column_stride == 1) {
        for_each_chunk(to, all, [&](int64_t r, int64_t q, int count) {
            Vector<Sum> matrix[all];
            const Vector<Sum>* const place = from + r * to.columns + q;
            for (int k = 0; k < all; ++k) matrix[k] = k < count ? place[k] : Vector<Sum>{};
            transpose<Sum>(matrix);
            store_matrix(matrix, to.at(r, q), offsets, to.channels, count);
        });
    } else {
        for (int64_t r = 0; r < to.rows; ++r) {
            for (int64_t q = 0; q < to.columns; ++q) store_to(to.at(r, q), offsets, *from++, to.channels);
        }
    }
}

}  // namespace sw::cpu::SW_INSTRUCTION_SET
