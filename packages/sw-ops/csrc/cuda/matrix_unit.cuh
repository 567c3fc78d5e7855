// Words of two channels to and from the matrix units' operands.
#pragma once
#include "device.cuh"

namespace sw::cuda {

// Two words of two channels each become the operand registers of either channel.
__device__ inline void split(uint32_t low, uint32_t high, uint32_t& first, uint32_t& second) {
    first = __byte_perm(low, high, 0x5410);
    second = __byte_perm(low, high, 0x7632);
}

__device__ inline uint32_t pack(float low, float high, __nv_bfloat16) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return reinterpret_cast<const uint32_t&>(pair);
}

__device__ inline uint32_t pack(float low, float high, __half) {
    const __half2 pair = __floats2half2_rn(low, high);
    return reinterpret_cast<const uint32_t&>(pair);
}

}  // namespace sw::cuda
