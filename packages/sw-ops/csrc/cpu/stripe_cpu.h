// The CPU's stripe convolutions. Any strides are accepted; channels-last and contiguous memory are fast.
// Results do not depend on the number of threads, to the bit. Sums are kept in float (double for f64).
// Wanted: 0 <= anchor < length.
#pragma once
#include "../mlp.h"
#include "../nearest.h"
#include "../response_norm.h"
#include "../stripe.h"

namespace sw::cpu {

// h, v, s = horizontal * x, vertical * x, square * x
void stripe_forward(const StripeProblem&, const MapView& x, const Stripes& kernels,
                    const MapView& h, const MapView& v, const MapView& s, int threads);

// y = horizontal * x + vertical * x + bias; kernels.square is null. Other channels of y than these stay as they are.
void stripe_fused(const StripeProblem&, const MapView& x, const Stripes& kernels, const void* bias,
                  const Channels&, const MapView& y, int threads);

// grad_x: the transpose of stripe_forward applied to (grad_h, grad_v, grad_s), summed
void stripe_input_grad(const StripeProblem&, const MapView& grad_h, const MapView& grad_v, const MapView& grad_s,
                       const Stripes& kernels, const MapView& grad_x, int threads);

// grad_kernels: correlation of x with each upstream map
void stripe_weight_grad(const StripeProblem&, const MapView& x, const MapView& grad_h, const MapView& grad_v, const MapView& grad_s,
                        const Stripes& grad_kernels, int threads);

// A dense kernel per channel is the problem's horizontal one, of any odd thickness and length: y = kernel * x + bias.
// The bias may be null.
void depthwise(const StripeProblem&, const MapView& x, const void* kernel, const void* bias, const MapView& y, int threads);

// grad_kernel: correlation of x with the upstream map
void depthwise_weight_grad(const StripeProblem&, const MapView& x, const MapView& grad, void* grad_kernel, int threads);

// output = input + project(grn(gelu(expand(se(processed and ghost channels))))), as mlp.h has them; and how many floats
// its workspace must hold
void mlp(const MlpProblem&, const MlpTensors&, int threads);
int64_t mlp_workspace(const MlpProblem&, int threads);

// Squared distances to the nearest of what is remembered near each point, as nearest.h has them. `count` is a multiple of
// 16: as wide as the widest vectors.
void nearest(const NearestProblem&, const NearestTensors&, int threads);

// y = x * (1 + weight * n) + bias, and the norms [batch, channels] that n is made of, all float. Backward: grad_x, and for
// each image and channel the sums over the pixels of x * grad and of grad, [batch, channels].
void response_norm(const ResponseNormProblem&, const float* x, const float* weight, const float* bias, float* norms, float* y,
                   int threads);
void response_norm_backward(const ResponseNormProblem&, const float* x, const float* norms, const float* weight, const float* grad,
                            float* products, float* grads, float* grad_x, int threads);

// Nothing but multiply-adds of float for a moment, as fast as this machine can; returns how many.
int64_t multiply_adds(int threads);

// The instruction set in use ("avx512", "avx2" or "portable"), those this machine can run, and a choice among them.
const char* instruction_set();
bool instruction_set_available(const char* name);
void use_instruction_set(const char* name);

}  // namespace sw::cpu
