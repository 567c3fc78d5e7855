// What every launch needs: errors as exceptions, the caller's device, and its limits.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "../stripe.h"

namespace sw::cuda {

inline void check(cudaError_t error, const char* what) {
    if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

// To ask for the current device first would open a context on device 0 in a process that works on another.
inline void select(int device) { check(cudaSetDevice(device), "cudaSetDevice"); }

struct Limits {
    int shared_bytes, multiprocessors;
};

inline Limits limits(int device) {
    Limits l{};
    check(cudaDeviceGetAttribute(&l.shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "shared memory");
    check(cudaDeviceGetAttribute(&l.multiprocessors, cudaDevAttrMultiProcessorCount, device), "multiprocessors");
    return l;
}

inline void require_32_bits(const StripeProblem& p) {
    constexpr int64_t most = 1 << 28;
    for (const int64_t size : {p.batch, p.channels, p.height, p.width, p.length * p.thickness})
        if (size > most) throw std::runtime_error("stripe convolution: sizes and taps must each stay under 2^28");
}

inline void require_blocks(int64_t blocks) {
    if (blocks > INT32_MAX)
        throw std::runtime_error("stripe convolution: " + std::to_string(blocks) + " blocks are more than one launch takes");
}

[[noreturn]] inline void too_large(const StripeProblem& p) {
    throw std::runtime_error("stripe convolution: a stripe of " + std::to_string(p.thickness) + " x " +
                             std::to_string(p.length) + " taps needs more shared memory than this device has");
}

}  // namespace sw::cuda
