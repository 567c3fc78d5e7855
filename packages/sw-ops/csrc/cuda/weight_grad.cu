// stripe_weight_grad: correlations of x with the three gradients.
//
// Floor. Memory: 4 x B C H W elements, each map once. Arithmetic: a gradient pixel meets as many taps as in the forward; on
// matrix units, 72 products of 16x16x8 per channel, stripe and 16 lines at 56x56, thickness 3, length 51, and 21 for the
// square: 5 M warp instructions at C = 60, batch 128.
//
// Shape. A block streams units of 8 lines (rows for a horizontal stripe, columns for a vertical one) of many images
// through two stages of shared memory, and keeps its sums for some planes, 3 taps across and about 60 along. The square
// kernel's gradient rides along with the horizontal stripe's, for both read the same lines of x. Sums of different blocks
// meet in a workspace, and a second kernel adds them in a fixed order: no atomics.
#include "stripe_cuda.h"
#include "weight_grad_plan.cuh"

namespace sw::cuda {
namespace {

template <typename Engine>
__global__ void __launch_bounds__(32 * Engine::warps, Engine::least_blocks) correlate(const __grid_constant__ GradientJob job) {
    correlate_block<Engine>(job, blockIdx.x);
}

template <typename Engine>
void run(GradientPlan plan, void* workspace, const Limits& limit, int device, cudaStream_t stream) {
    GradientJob& job = plan.job;
    job.workspace = static_cast<float*>(workspace);
    require_blocks(plan.blocks);
    check(allow_shared_memory<correlate<Engine>>(device, limit.shared_bytes), "stripe weight gradient");
    check(launch<correlate<Engine>>(plan.blocks, 32 * Engine::warps, plan.shared_bytes, stream, job),
          "stripe weight gradient");
    add_up<typename Engine::Scalar>(job, stream);
}

bool empty(const StripeProblem& p) { return p.batch == 0 || p.channels == 0 || p.height == 0 || p.width == 0; }

// f(an object of the problem's engine)
template <typename F>
void with_engine(const StripeProblem& p, const F& f) {
    switch (p.scalar) {
        case Scalar::f32:
            return f(FmaGradient());
        case Scalar::f16:
            return f(MmaGradient<__half>());
        case Scalar::bf16:
            return f(MmaGradient<__nv_bfloat16>());
        default:
            throw std::runtime_error("stripe convolution: CUDA has float32, float16 and bfloat16, not float64");
    }
}

}  // namespace

int64_t weight_grad_workspace(const StripeProblem& p, const MapView& x, int device) {
    if (empty(p)) return 0;
    require_32_bits(p);
    int64_t bytes = 0;
    with_engine(p, [&](auto engine) {
        using Engine = decltype(engine);
        bytes = plan_gradient<Engine>(p, gradient_job<Engine>(p, x, {&x, &x, &x}, {}), limits(device)).workspace_bytes;
    });
    return bytes;
}

void stripe_weight_grad(const StripeProblem& p, const MapView& x, const MapView& grad_h, const MapView& grad_v,
                        const MapView& grad_s, const Stripes& grads, void* workspace, int device,
                        Stream stream_of_caller) {
    if (p.channels == 0) return;
    require_32_bits(p);
    select(device);
    const auto stream = static_cast<cudaStream_t>(stream_of_caller);
    if (empty(p)) {
        const size_t size = p.scalar == Scalar::f32 ? 4 : 2, stripe_bytes = p.channels * p.thickness * p.length * size;
        check(cudaMemsetAsync(grads.horizontal, 0, stripe_bytes, stream), "stripe weight gradient");
        check(cudaMemsetAsync(grads.vertical, 0, stripe_bytes, stream), "stripe weight gradient");
        check(cudaMemsetAsync(grads.square, 0, p.channels * p.thickness * p.thickness * size, stream),
              "stripe weight gradient");
        return;
    }
    with_engine(p, [&](auto engine) {
        using Engine = decltype(engine);
        const Limits limit = limits(device);
        const GradientJob job = gradient_job<Engine>(p, x, {&grad_h, &grad_v, &grad_s}, grads);
        run<Engine>(plan_gradient<Engine>(p, job, limit), workspace, limit, device, stream);
    });
}

}  // namespace sw::cuda
