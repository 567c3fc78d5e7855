// A plain C interface to the emulated functions of stripe_cuda.h, and the little of the CUDA runtime that they call.
#include <stdexcept>
#include <string>

#include "emulator.h"
#include "stripe_cuda.h"

namespace {

constexpr int caller = 3;  // the device that every function is called for
std::string message;
cudaError_t attributes_error = cudaSuccess;

template <typename Function>
const char* error_of(Function function) {
    emulator::launched = {};
    try {
        function();
        return nullptr;
    } catch (const std::exception& e) {
        message = e.what();
        return message.c_str();
    }
}

using sw::MapView;
using sw::StripeProblem;
using sw::Stripes;

// f(a workspace of just the size that was asked for, so that the allocator may notice a byte more; NaN at first)
template <typename Function>
const char* with_workspace(const StripeProblem& p, const MapView& x, Function f) {
    return error_of([&] {
        const int64_t bytes = sw::cuda::weight_grad_workspace(p, x, caller);
        const std::unique_ptr<char[]> workspace(new char[bytes]);
        std::memset(workspace.get(), 0xff, bytes);
        f(workspace.get());
    });
}

}  // namespace

extern "C" {

void emulate(int shared_bytes, int multiprocessors, unsigned order) {
    emulator::device = {shared_bytes, multiprocessors, order, -1};
}

// blocks, threads and bytes of shared memory
void launch_of_last_function(int64_t* numbers) {
    std::memcpy(numbers, &emulator::launched, sizeof emulator::launched);
}

const char* forward(const StripeProblem* p, const MapView* x, const Stripes* k, const MapView* h, const MapView* v, const MapView* s) {
    return error_of([&] { sw::cuda::stripe_forward(*p, *x, *k, *h, *v, *s, caller, nullptr); });
}

const char* fused(const StripeProblem* p, const MapView* x, const Stripes* k, const void* bias, const MapView* y) {
    return error_of([&] { sw::cuda::stripe_fused(*p, *x, *k, bias, *y, caller, nullptr); });
}

const char* input_grad(const StripeProblem* p, const MapView* h, const MapView* v, const MapView* s, const Stripes* k,
                       const MapView* x) {
    return error_of([&] { sw::cuda::stripe_input_grad(*p, *h, *v, *s, *k, *x, caller, nullptr); });
}

const char* weight_grad(const StripeProblem* p, const MapView* x, const MapView* h, const MapView* v, const MapView* s,
                        const Stripes* k) {
    return with_workspace(*p, *x, [&](void* workspace) {
        sw::cuda::stripe_weight_grad(*p, *x, *h, *v, *s, *k, workspace, caller, nullptr);
    });
}

const char* backward(const StripeProblem* p, const MapView* x, const MapView* h, const MapView* v, const MapView* s,
                     const Stripes* k, const MapView* grad_x, const Stripes* grad_k) {
    return with_workspace(*p, *x, [&](void* workspace) {
        sw::cuda::stripe_backward(*p, *x, *h, *v, *s, *k, *grad_x, *grad_k, workspace, caller, nullptr);
    });
}

const char* why_not_usable(int error) {
    attributes_error = static_cast<cudaError_t>(error);
    message = sw::cuda::usable(caller);
    return message.c_str();
}

// There is no cudaGetDevice: it would open a context on device 0.
cudaError_t cudaSetDevice(int device) {
    if (device != caller) emulator::fail("another device than the caller's");
    emulator::device.selected = device;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    if (device != caller) emulator::fail("another device than the caller's");
    const bool multiprocessors = attribute == cudaDevAttrMultiProcessorCount;
    *value = multiprocessors ? emulator::device.multiprocessors : emulator::device.shared_bytes;
    return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t error) {
    return error == attributes_error ? "emulated error of the attributes" : "emulated error";
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void*) { return attributes_error; }
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t) {
    std::memset(data, value, bytes);
    return cudaSuccess;
}

}  // extern "C"
