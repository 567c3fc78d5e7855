// sw_ops._C: pointers, sizes and strides in, nothing of torch needed to build or to load it.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <string>

#include "cpu/stripe_cpu.h"
#ifdef SW_WITH_CUDA
#include "cuda/stripe_cuda.h"
#endif

namespace py = pybind11;
using sw::Map;
using sw::Scalar;
using sw::StripeProblem;
using sw::Stripes;

namespace {

using Address = uintptr_t;
using MapArgument = std::array<int64_t, 5>;   // data pointer, then strides of batch, channel, row, column
using Sizes = std::array<int64_t, 4>;         // batch, channels, height, width
using KernelSizes = std::array<int64_t, 3>;   // length, thickness, anchor

void* pointer(Address address) { return reinterpret_cast<void*>(address); }

Map map(const MapArgument& m) { return {pointer(static_cast<Address>(m[0])), m[1], m[2], m[3], m[4]}; }

Stripes stripes(const std::array<Address, 3>& k) { return {pointer(k[0]), pointer(k[1]), pointer(k[2])}; }

Scalar scalar(const std::string& name) {
    if (name == "float32") return Scalar::f32;
    if (name == "float64") return Scalar::f64;
    if (name == "bfloat16") return Scalar::bf16;
    if (name == "float16") return Scalar::f16;
    throw py::value_error("dtype: got " + name + ", want float32, float64, bfloat16 or float16");
}

StripeProblem problem(const std::string& dtype, const Sizes& n, const KernelSizes& k) {
    return {scalar(dtype), n[0], n[1], n[2], n[3], k[0], k[1], k[2]};
}

void bind_cpu(py::module_ m) {
    m.def("stripe_forward", [](const std::string& dtype, const Sizes& sizes, const KernelSizes& kernel,
                               const MapArgument& x, const std::array<Address, 3>& kernels, const MapArgument& h,
                               const MapArgument& v, const MapArgument& s, int threads) {
        py::gil_scoped_release release;
        sw::cpu::stripe_forward(problem(dtype, sizes, kernel), map(x), stripes(kernels), map(h), map(v), map(s), threads);
    });
    m.def("stripe_fused", [](const std::string& dtype, const Sizes& sizes, const KernelSizes& kernel,
                             const MapArgument& x, const std::array<Address, 3>& kernels, Address bias,
                             const MapArgument& y, int threads) {
        py::gil_scoped_release release;
        sw::cpu::stripe_fused(problem(dtype, sizes, kernel), map(x), stripes(kernels), pointer(bias), map(y), threads);
    });
    m.def("stripe_input_grad", [](const std::string& dtype, const Sizes& sizes, const KernelSizes& kernel,
                                  const MapArgument& grad_h, const MapArgument& grad_v, const MapArgument& grad_s,
                                  const std::array<Address, 3>& kernels, const MapArgument& grad_x, int threads) {
        py::gil_scoped_release release;
        sw::cpu::stripe_input_grad(problem(dtype, sizes, kernel), map(grad_h), map(grad_v), map(grad_s),
                                   stripes(kernels), map(grad_x), threads);
    });
    m.def("stripe_weight_grad", [](const std::string& dtype, const Sizes& sizes, const KernelSizes& kernel,
                                   const MapArgument& x, const MapArgument& grad_h, const MapArgument& grad_v,
                                   const MapArgument& grad_s, const std::array<Address, 3>& grad_kernels, int threads) {
        py::gil_scoped_release release;
        sw::cpu::stripe_weight_grad(problem(dtype, sizes, kernel), map(x), map(grad_h), map(grad_v), map(grad_s),
                                    stripes(grad_kernels), threads);
    });
    m.def("multiply_adds", &sw::cpu::multiply_adds, py::call_guard<py::gil_scoped_release>());
    m.def("instruction_set", &sw::cpu::instruction_set);
    m.def("instruction_set_available", &sw::cpu::instruction_set_available);
    m.def("use_instruction_set", &sw::cpu::use_instruction_set);
}

#ifdef SW_WITH_CUDA
void bind_cuda(py::module_ m) {
    m.def("stripe_forward", [](const std::string& dtype, const Sizes& sizes, const KernelSizes& kernel,
                               const MapArgument& x, const std::array<Address, 3>& kernels, const MapArgument& h,
                               const MapArgument& v, const MapArgument& s, int device, Address stream) {
        py::gil_scoped_release release;
        sw::cuda::stripe_forward(problem(dtype, sizes, kernel), map(x), stripes(kernels), map(h), map(v), map(s),
                                 device, pointer(stream));
    });
    m.def("stripe_fused", [](const std::string& dtype, const Sizes& sizes, const KernelSizes& kernel,
                             const MapArgument& x, const std::array<Address, 3>& kernels, Address bias,
                             const MapArgument& y, int device, Address stream) {
        py::gil_scoped_release release;
        sw::cuda::stripe_fused(problem(dtype, sizes, kernel), map(x), stripes(kernels), pointer(bias), map(y), device,
                               pointer(stream));
    });
    m.def("stripe_input_grad", [](const std::string& dtype, const Sizes& sizes, const KernelSizes& kernel,
                                  const MapArgument& grad_h, const MapArgument& grad_v, const MapArgument& grad_s,
                                  const std::array<Address, 3>& kernels, const MapArgument& grad_x, int device,
                                  Address stream) {
        py::gil_scoped_release release;
        sw::cuda::stripe_input_grad(problem(dtype, sizes, kernel), map(grad_h), map(grad_v), map(grad_s),
                                    stripes(kernels), map(grad_x), device, pointer(stream));
    });
    m.def("stripe_weight_grad", [](const std::string& dtype, const Sizes& sizes, const KernelSizes& kernel,
                                   const MapArgument& x, const MapArgument& grad_h, const MapArgument& grad_v,
                                   const MapArgument& grad_s, const std::array<Address, 3>& grad_kernels, int device,
                                   Address stream) {
        py::gil_scoped_release release;
        sw::cuda::stripe_weight_grad(problem(dtype, sizes, kernel), map(x), map(grad_h), map(grad_v), map(grad_s),
                                     stripes(grad_kernels), device, pointer(stream));
    });
}
#endif

}  // namespace

PYBIND11_MODULE(_C, m) {
    m.doc() = "Native stripe convolutions of sw-ops.";
    bind_cpu(m.def_submodule("cpu"));
#ifdef SW_WITH_CUDA
    bind_cuda(m.def_submodule("cuda"));
#endif
    m.attr("compiler") = SW_COMPILER;
    m.attr("cuda_compiler") = SW_CUDA_COMPILER;  // empty without CUDA
    m.attr("cuda_architectures") = SW_CUDA_ARCHITECTURES;
}
