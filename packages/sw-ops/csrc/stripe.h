// What every device's stripe functions share: the sizes of the problem and where its tensors lie.
#pragma once
#include <cstdint>

namespace sw {

enum class Scalar { f32, f64, bf16, f16 };

// A [batch, channels, height, width] tensor in memory; strides count elements, not bytes.
struct MapView {
    void* data;
    int64_t batch_stride, channel_stride, row_stride, column_stride;
};

// Three depthwise kernels per channel, each contiguous and zero padded at the borders of the map:
//   horizontal [channels, thickness, length]     tap (a, m) reads row  r + a - thickness/2, column q + m - anchor
//   vertical   [channels, length, thickness]     tap (m, a) reads row  r + m - anchor,      column q + a - thickness/2
//   square     [channels, thickness, thickness]  tap (a, b) reads row  r + a - thickness/2, column q + b - thickness/2
struct Stripes {
    void* horizontal;
    void* vertical;
    void* square;  // may be null where a function says so
};

// The channels of input and output that a problem is about: as many numbers as the problem has channels, each below
// `count`, which the maps have. Null: all of the maps, in order.
struct Channels {
    const int64_t *input, *output;
    int64_t count;
};

struct StripeProblem {
    Scalar scalar;
    int64_t batch, channels, height, width;
    int64_t length, thickness, anchor;
    bool exact;  // on a CPU: no fast algorithm, and a NaN or an infinity stays within the taps' reach
};

}  // namespace sw
