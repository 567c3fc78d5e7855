// One stripe of a launch, and the taps of it that one block works with.
#pragma once
#include "tiles.cuh"

namespace sw::cuda {

// Tap (a, m), across and along the stripe, reads the input at offset (a - centre, m - anchor) from the output.
struct Stripe {
    const void* taps;
    int channel_stride, across_stride, along_stride;  // of the taps, in elements
    int length, thickness, anchor, centre;
    bool vertical;  // runs along the rows of a column, so `across` counts columns
    bool flipped;   // taps are read from the last to the first
};

inline Extent extent(const StripeProblem& p) {
    return {static_cast<int>(p.batch), static_cast<int>(p.channels), static_cast<int>(p.height),
            static_cast<int>(p.width)};
}

enum class Direction { horizontal, vertical, square };

inline Stripe stripe(const StripeProblem& problem, const Stripes& kernels, Direction direction) {
    const int length = static_cast<int>(problem.length), thickness = static_cast<int>(problem.thickness);
    const int anchor = static_cast<int>(problem.anchor), centre = thickness / 2;
    switch (direction) {
        case Direction::horizontal:
            return {kernels.horizontal, thickness * length, length, 1, length, thickness, anchor, centre, false, false};
        case Direction::vertical:
            return {kernels.vertical, thickness * length, 1, thickness, length, thickness, anchor, centre, true, false};
        default:
            return {kernels.square, thickness * thickness, thickness, 1, thickness, thickness, centre, centre,
                    false, false};
    }
}

// The stripe whose convolution is the transpose of this one's.
inline Stripe transposed(Stripe s) {
    s.anchor = s.length - 1 - s.anchor;
    s.centre = s.thickness - 1 - s.centre;
    s.flipped = !s.flipped;
    return s;
}

// One line of taps along a stripe, zero outside of it.
template <typename T>
struct Taps {
    const Bits<T>* first;
    int step, length;

    __device__ Taps(const Stripe& s, int channel, int a) : step(s.along_stride), length(s.length) {
        first = static_cast<const Bits<T>*>(s.taps) + int64_t{channel} * s.channel_stride;
        first += (s.flipped ? s.thickness - 1 - a : a) * s.across_stride;
        if (!s.flipped) return;
        first += (length - 1) * step;
        step = -step;
    }
    __device__ uint32_t operator[](int m) const { return m >= 0 && m < length ? __ldg(first + m * step) : 0; }
};

// A bank holds the stripe of some channels as words [channel, a, front + length + back], where engines read them:
// word i of a row is Engine::bank_word(taps, i - front), and what lies outside of the stripe is zero.
template <typename Engine>
__host__ __device__ inline int bank_row(const Stripe& s) {
    return s.length + Engine::bank_front + Engine::bank_back;
}

template <typename Engine>
__device__ void build_bank(uint32_t* bank, const Stripe& s, int channel, int channels, int all_channels) {
    const int row = bank_row<Engine>(s), warps = blockDim.x / 32;
    for (int line = warp_index(); line < channels * s.thickness; line += warps) {
        const int c = line / s.thickness, a = line - c * s.thickness;
        const bool inside = channel + c < all_channels;
        const Taps<typename Engine::Scalar> taps(s, channel + c, a);
        for (int i = threadIdx.x % 32; i < row; i += 32)
            bank[line * row + i] = inside ? Engine::bank_word(taps, i - Engine::bank_front) : 0;
    }
}

}  // namespace sw::cuda
