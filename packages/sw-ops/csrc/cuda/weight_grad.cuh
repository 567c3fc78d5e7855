// What the kernel of weight_grad.cu hands to its engines.
#pragma once
#include "stripe.cuh"

namespace sw::cuda {

constexpr int gradient_warps = 12, lines_per_unit = 8, across_per_block = 3;

// What a block has in shared memory: units of 8 lines of the gradient, and the lines of x that their taps read.
// Plane p of unit u is number (u << plane_bits) + p; `along` and `across` are strides to the next pixel and line.
struct Chunk {
    const uint32_t *x, *grad;
    int x_plane, x_along, x_across, grad_plane, grad_along, grad_across;
    int units, plane_bits;
    int across_taps, along_taps;   // of this block
    int x_start, x_count;          // pixels [0, x_count) of x are here; tap 0 of gradient pixel 0 reads pixel x_start
    int x_zeros;                   // the first of `Engine::block` pixels of x that are zero
    int grad_count;
    uint32_t keep;  // a __byte_perm selector that changes nothing, but the compiler cannot know
};

}  // namespace sw::cuda
