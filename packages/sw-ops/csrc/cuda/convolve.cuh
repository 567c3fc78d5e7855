// What the kernel of convolve.cu hands to its engines.
#pragma once
#include "stripe.cuh"

namespace sw::cuda {

// A piece of one plane in shared memory. `words` is the pixel (row, column) of the map; pixels that lines of the tile
// reach across the stripe are there or zero, and so are [along, along + count) along it, up to a multiple of 8.
struct Window {
    const uint32_t* words;
    int stride, image_stride, row, column, along, count;
};

constexpr int zero_words = 16;  // before and behind the banks, whose lines end in as many

}  // namespace sw::cuda
