// What the kernel of weight_grad.cu hands to its engines.
#pragma once
#include "stripe.cuh"

namespace sw::cuda {

constexpr int lines_per_unit = 8, across_per_block = 3;

// What a block has in shared memory: units of 8 lines of the gradient, and the lines of x that their taps read.
// Plane p of unit u is number (u << plane_bits) + p; `along` and `across` are strides to the next pixel and line.
struct Stage {
    const uint32_t *x, *grad, *square;
};

struct Chunk {
    int x_plane, x_along, x_across, grad_plane, grad_along, grad_across;
    int units, plane_bits;
    int across_taps, along_taps;   // of this block
    int x_start, x_count;          // pixels [0, x_count) of x are here; gradient pixel 0 meets those from x_start on
    int slack;                     // of which tap 0 reads that so many on
    bool square_rides;             // the gradient of the square kernel's output is here, too
    int square_start, square_slack;
    int grad_count;
};

}  // namespace sw::cuda
