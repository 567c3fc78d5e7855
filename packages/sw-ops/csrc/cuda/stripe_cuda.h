// The CUDA stripe convolutions: f32, f16 and bf16 with f32 sums, no atomics, on the caller's device and stream.
// Every function throws std::runtime_error with CUDA's own message when a launch fails.
#pragma once
#include "../stripe.h"

namespace sw::cuda {

using Stream = void*;  // a cudaStream_t

// h, v, s = horizontal * x, vertical * x, square * x
void stripe_forward(const StripeProblem&, const Map& x, const Stripes& kernels,
                    const Map& h, const Map& v, const Map& s, int device, Stream);

// y = horizontal * x + vertical * x + bias; kernels.square is null
void stripe_fused(const StripeProblem&, const Map& x, const Stripes& kernels, const void* bias,
                  const Map& y, int device, Stream);

// grad_x: the transpose of stripe_forward applied to (grad_h, grad_v, grad_s), summed
void stripe_input_grad(const StripeProblem&, const Map& grad_h, const Map& grad_v, const Map& grad_s,
                       const Stripes& kernels, const Map& grad_x, int device, Stream);

// grad_kernels: correlation of x with each upstream map
void stripe_weight_grad(const StripeProblem&, const Map& x, const Map& grad_h, const Map& grad_v, const Map& grad_s,
                        const Stripes& grad_kernels, int device, Stream);

}  // namespace sw::cuda
