// A plain C interface to the emulated functions of stripe_cuda.h, and the little of the CUDA runtime that they call.
#include <stdexcept>
#include <string>

#include "emulator.h"
#include "stripe_cuda.h"

namespace {

std::string message;

template <typename Function>
const char* error_of(Function function) {
    try {
        function();
        return nullptr;
    } catch (const std::exception& e) {
        message = e.what();
        return message.c_str();
    }
}

}  // namespace

using sw::Map;
using sw::StripeProblem;
using sw::Stripes;

extern "C" {

void emulate(int shared_bytes, int multiprocessors, unsigned order) {
    emulator::device = {shared_bytes, multiprocessors, order};
}

const char* forward(const StripeProblem* p, const Map* x, const Stripes* k, const Map* h, const Map* v, const Map* s) {
    return error_of([&] { sw::cuda::stripe_forward(*p, *x, *k, *h, *v, *s, 0, nullptr); });
}

const char* fused(const StripeProblem* p, const Map* x, const Stripes* k, const void* bias, const Map* y) {
    return error_of([&] { sw::cuda::stripe_fused(*p, *x, *k, bias, *y, 0, nullptr); });
}

const char* input_grad(const StripeProblem* p, const Map* h, const Map* v, const Map* s, const Stripes* k,
                       const Map* x) {
    return error_of([&] { sw::cuda::stripe_input_grad(*p, *h, *v, *s, *k, *x, 0, nullptr); });
}

const char* weight_grad(const StripeProblem* p, const Map* x, const Map* h, const Map* v, const Map* s,
                        const Stripes* k) {
    return error_of([&] { sw::cuda::stripe_weight_grad(*p, *x, *h, *v, *s, *k, 0, nullptr); });
}

cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    const bool multiprocessors = attribute == cudaDevAttrMultiProcessorCount;
    *value = multiprocessors ? emulator::device.multiprocessors : emulator::device.shared_bytes;
    return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t) { return "emulated error"; }
cudaError_t cudaMemPoolCreate(cudaMemPool_t*, const cudaMemPoolProps*) { return cudaSuccess; }
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMallocFromPoolAsync(void** data, size_t bytes, cudaMemPool_t, cudaStream_t) {
    *data = std::malloc(bytes);
    std::memset(*data, 0xff, bytes);
    return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* data, cudaStream_t) {
    std::free(data);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t) {
    std::memset(data, value, bytes);
    return cudaSuccess;
}

}  // extern "C"
