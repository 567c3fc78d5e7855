// stripe_forward, stripe_fused and stripe_input_grad: sums of stripe convolutions of one to three maps.
//
// Floor. Memory: every map once, so 4 x B C H W elements for the forward and for the input gradient, 2 x for the fused
// form. At 56x56, C = 60, batch 128, bf16 the forward moves 193 MB: 40 us at 4.8 TB/s. Arithmetic on the matrix units,
// padding included: 12,000 products of 16x16x8 per 16 channels and image there (thickness 3, length 51), 25 GFLOP: 32 us
// at 790 TFLOP/s. The two are close, so loads, products and stores of different warps and blocks have to overlap.
//
// Shape. A block owns some planes of some images and keeps what their taps reach in shared memory: lines over all of a map
// up to 64x64, or windows of a larger one, of which the next is on its way while one is worked on. Each of its warps owns
// one channel and a tile of the output. Two blocks share a multiprocessor where they can, and one works while the other
// waits; blocks of neighbouring channels run side by side, so the second half of a sector is found in the L2.
#include "convolve_plan.cuh"

namespace sw::cuda {
namespace {

template <typename Engine>
__global__ void __launch_bounds__(32 << Engine::warp_bits, 1) convolve(const __grid_constant__ Job job) {
    Block<Engine>(job, blockIdx.x).run();
}

template <typename Engine>
void run(const StripeProblem& problem, const Job& job, int device, Stream stream) {
    const Limits limit = limits(device);
    const ConvolutionPlan plan = plan_convolution<Engine>(problem, job, limit);
    require_blocks(plan.blocks);
    check(allow_shared_memory<convolve<Engine>>(device, limit.shared_bytes), "stripe convolution");
    check(launch<convolve<Engine>>(plan.blocks, plan.threads, plan.shared_bytes, static_cast<cudaStream_t>(stream), plan.job),
          "stripe convolution");
}

template <typename T>
void run_half(const StripeProblem& problem, const Job& job, int device, Stream stream) {
    with_half_engine<T>(problem, [&](auto engine) { run<decltype(engine)>(problem, job, device, stream); });
}

void convolve_maps(const StripeProblem& p, const Stripes& kernels, const void* bias, bool transpose,
                   std::initializer_list<Term> terms, Outputs outputs, int device, Stream stream) {
    if (p.batch == 0 || p.channels == 0 || p.height == 0 || p.width == 0) return;
    require_32_bits(p);
    select(device);
    switch (p.scalar) {
        case Scalar::f32:
            return run<FmaConvolve>(p, convolution_job<float>(p, kernels, bias, transpose, terms, outputs), device, stream);
        case Scalar::f16:
            return run_half<__half>(p, convolution_job<__half>(p, kernels, bias, transpose, terms, outputs), device, stream);
        case Scalar::bf16:
            return run_half<__nv_bfloat16>(
                p, convolution_job<__nv_bfloat16>(p, kernels, bias, transpose, terms, outputs), device, stream);
        default:
            throw std::runtime_error("stripe convolution: CUDA has float32, float16 and bfloat16, not float64");
    }
}

}  // namespace

std::string usable(int device) {
    cudaFuncAttributes attributes;
    cudaError_t error = cudaSetDevice(device);
    if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&convolve<FmaConvolve>));
    if (error == cudaSuccess) return "";
    cudaGetLastError();  // forgets the error, which is not one of the next launch
    return cudaGetErrorString(error);
}

// Terms alternate between horizontal and vertical: with paired windows, one loads while the other is worked on.

void stripe_forward(const StripeProblem& p, const MapView& x, const Stripes& kernels, const MapView& h, const MapView& v,
                    const MapView& s, int device, Stream stream) {
    convolve_maps(p, kernels, nullptr, false,
                  {{Direction::horizontal, x, h}, {Direction::vertical, x, v}, {Direction::square, x, s}},
                  Outputs::one_per_term, device, stream);
}

void stripe_fused(const StripeProblem& p, const MapView& x, const Stripes& kernels, const void* bias, const MapView& y,
                  int device, Stream stream) {
    convolve_maps(p, kernels, bias, false, {{Direction::horizontal, x, y}, {Direction::vertical, x, y}}, Outputs::one,
                  device, stream);
}

void stripe_input_grad(const StripeProblem& p, const MapView& grad_h, const MapView& grad_v, const MapView& grad_s,
                       const Stripes& kernels, const MapView& grad_x, int device, Stream stream) {
    convolve_maps(p, kernels, nullptr, true,
                  {{Direction::horizontal, grad_h, grad_x},
                   {Direction::vertical, grad_v, grad_x},
                   {Direction::square, grad_s, grad_x}},
                  Outputs::one, device, stream);
}

}  // namespace sw::cuda
