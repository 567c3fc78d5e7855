// stripe_backward: stripe_input_grad and stripe_weight_grad in one launch.
//
// Floor. Memory: 5 x B C H W elements, where the two functions one after the other take 8: both read the three gradients.
//
// Shape. Blocks of either kind, in turns: those of the gradient to the kernels for a few images, then those of the gradient
// to x for the same images. They run side by side, so that what one kind reads, the other finds in the L2.
#include "convolve_plan.cuh"
#include "weight_grad_plan.cuh"

namespace sw::cuda {
namespace {

struct Both {
    Job convolution;
    GradientJob gradient;
    unsigned convolution_blocks, gradient_blocks;  // for each group of images
};

constexpr int threads_of_both = 256;

template <typename Convolution, typename Gradient>
__global__ void __launch_bounds__(threads_of_both, Gradient::least_blocks) backward(const __grid_constant__ Both both) {
    const unsigned blocks = both.convolution_blocks + both.gradient_blocks, group = blockIdx.x / blocks;
    const unsigned number = blockIdx.x - group * blocks;
    if (number < both.gradient_blocks)
        correlate_block<Gradient>(both.gradient, int64_t{group} * both.gradient_blocks + number);
    else
        Block<Convolution>(both.convolution, group * both.convolution_blocks + number - both.gradient_blocks).run();
}

// Whether both kinds of blocks could be launched together, and were.
template <typename Convolution, typename Gradient>
bool launched(const StripeProblem& p, const Job& job, const GradientJob& gradient_job, void* workspace, int device,
              cudaStream_t stream) {
    const Limits limit = limits(device);
    const ConvolutionPlan convolution = plan_convolution<Convolution>(p, job, limit);
    const GradientPlan gradient = plan_gradient<Gradient>(p, gradient_job, limit);
    const int units = gradient.job.parts[0].units_per_image;
    static_assert(32 * Gradient::warps == threads_of_both);
    if (convolution.threads != threads_of_both || units != gradient.job.parts[1].units_per_image) return false;

    Both both{convolution.job, gradient.job, 0, 0};
    // Images of a group: a multiple of a block's for x, which is a power of 2, and no fewer than one split's for the kernels,
    // so that the workspace is large enough.
    int64_t images = both.convolution.images;
    while (images * units < both.gradient.units_per_split) images *= 2;
    const int64_t groups = (p.batch + images - 1) / images;
    const int64_t all_blocks = blocks(both.convolution), steps = (p.batch - 1) / both.convolution.images + 1;
    both.convolution_blocks = static_cast<unsigned>(all_blocks / steps * (images / both.convolution.images));
    both.gradient_blocks = static_cast<unsigned>(both.gradient.cells * both.gradient.channel_groups);
    both.gradient.units_per_split = images * units;
    for (GradientPart& part : both.gradient.parts) part.slots = static_cast<int>(groups * part.tiles);
    both.gradient.workspace = static_cast<float*>(workspace);
    const int64_t count = groups * (int64_t{both.convolution_blocks} + both.gradient_blocks);
    require_blocks(count);
    check(allow_shared_memory<backward<Convolution, Gradient>>(device, limit.shared_bytes), "stripe backward");
    check(launch<backward<Convolution, Gradient>>(count, threads_of_both,
                                                  std::max(convolution.shared_bytes, gradient.shared_bytes), stream, both),
          "stripe backward");
    add_up<typename Gradient::Scalar>(both.gradient, stream);
    return true;
}

template <typename T>
bool launched_half(const StripeProblem& p, const MapView& x, const MapView& grad_h, const MapView& grad_v,
                   const MapView& grad_s, const Stripes& kernels, const MapView& grad_x, const Stripes& grads,
                   void* workspace, int device, cudaStream_t stream) {
    using Gradient = MmaGradient<T>;
    const Job job = convolution_job<T>(p, kernels, nullptr, true,
                                       {{Direction::horizontal, grad_h, grad_x},
                                        {Direction::vertical, grad_v, grad_x},
                                        {Direction::square, grad_s, grad_x}},
                                       Outputs::one);
    const GradientJob gradient = gradient_job<Gradient>(p, x, {&grad_h, &grad_v, &grad_s}, grads);
    bool done = false;
    with_half_engine<T>(p, [&](auto engine) {
        done = launched<decltype(engine), Gradient>(p, job, gradient, workspace, device, stream);
    });
    return done;
}

}  // namespace

void stripe_backward(const StripeProblem& p, const MapView& x, const MapView& grad_h, const MapView& grad_v,
                     const MapView& grad_s, const Stripes& kernels, const MapView& grad_x, const Stripes& grad_kernels,
                     void* workspace, int device, Stream stream) {
    const bool any = p.batch && p.channels && p.height && p.width;
    const auto together = [&](auto scalar) {
        require_32_bits(p);
        select(device);
        return launched_half<decltype(scalar)>(p, x, grad_h, grad_v, grad_s, kernels, grad_x, grad_kernels, workspace, device,
                                               static_cast<cudaStream_t>(stream));
    };
    if (any && p.scalar == Scalar::bf16 && together(__nv_bfloat16())) return;
    if (any && p.scalar == Scalar::f16 && together(__half())) return;
    stripe_input_grad(p, grad_h, grad_v, grad_s, kernels, grad_x, device, stream);
    stripe_weight_grad(p, x, grad_h, grad_v, grad_s, grad_kernels, workspace, device, stream);
}

}  // namespace sw::cuda
