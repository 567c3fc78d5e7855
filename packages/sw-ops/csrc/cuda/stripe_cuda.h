// The CUDA stripe convolutions: f32, f16 and bf16 with f32 sums, no atomics, on the caller's device and stream.
// Every function throws std::runtime_error with CUDA's own message when a launch fails, and makes `device` the current
// one: the caller, who knows what it was before, sets it back.
//
// Infinities: f16 and bf16 maps are multiplied with whole Toeplitz matrices, whose zeros make a NaN of an infinity or of
// a NaN for all of its line in a tile; f32 does so as far as seven taps beyond the reach of the stripe.
#pragma once
#include <string>

#include "../stripe.h"

namespace sw::cuda {

using Stream = void*;  // a cudaStream_t

// h, v, s = horizontal * x, vertical * x, square * x
void stripe_forward(const StripeProblem&, const MapView& x, const Stripes& kernels,
                    const MapView& h, const MapView& v, const MapView& s, int device, Stream);

// y = horizontal * x + vertical * x + bias; kernels.square is null
void stripe_fused(const StripeProblem&, const MapView& x, const Stripes& kernels, const void* bias,
                  const MapView& y, int device, Stream);

// grad_x: the transpose of stripe_forward applied to (grad_h, grad_v, grad_s), summed
void stripe_input_grad(const StripeProblem&, const MapView& grad_h, const MapView& grad_v, const MapView& grad_s,
                       const Stripes& kernels, const MapView& grad_x, int device, Stream);

// grad_kernels: correlation of x with each upstream map
void stripe_weight_grad(const StripeProblem&, const MapView& x, const MapView& grad_h, const MapView& grad_v, const MapView& grad_s,
                        const Stripes& grad_kernels, void* workspace, int device, Stream);

// stripe_input_grad and stripe_weight_grad, where possible in one launch that reads the three gradients once.
void stripe_backward(const StripeProblem&, const MapView& x, const MapView& grad_h, const MapView& grad_v, const MapView& grad_s,
                     const Stripes& kernels, const MapView& grad_x, const Stripes& grad_kernels, void* workspace, int device,
                     Stream);

// How many bytes of memory of the device stripe_weight_grad and stripe_backward work in.
int64_t weight_grad_workspace(const StripeProblem&, const MapView& x, int device);

// Why these functions cannot run on a device, in CUDA's words: the driver is too old, or nothing was compiled for its
// architecture. Empty where they can.
std::string usable(int device);

}  // namespace sw::cuda
