// sw_ops._C: pointers, sizes and strides in, nothing of torch needed to build or to load it.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <string>
#include <tuple>

#include "cpu/stripe_cpu.h"
#ifdef SW_WITH_CUDA
#include "cuda/stripe_cuda.h"
#endif

namespace py = pybind11;
using sw::Channels;
using sw::MapView;
using sw::MlpProblem;
using sw::MlpTensors;
using sw::NearestProblem;
using sw::NearestTensors;
using sw::ResponseNormProblem;
using sw::Scalar;
using sw::StripeProblem;
using sw::Stripes;

namespace {

using Address = uintptr_t;

void* pointer(Address address) { return reinterpret_cast<void*>(address); }

Scalar scalar(const std::string& name) {
    if (name == "float32") return Scalar::f32;
    if (name == "float64") return Scalar::f64;
    if (name == "bfloat16") return Scalar::bf16;
    if (name == "float16") return Scalar::f16;
    throw py::value_error("dtype: got " + name + ", want float32, float64, bfloat16 or float16");
}

// What Python passes for each type of parameter, and how it becomes one.
template <class T>
struct Argument {
    using Python = T;
    static T from(T value) { return value; }
};

template <class T>
struct Argument<T*> {  // a data pointer or a stream
    using Python = Address;
    static T* from(Address address) { return static_cast<T*>(pointer(address)); }
};

template <>
struct Argument<const MapView&> {  // data pointer, then strides of batch, channel, row, column
    using Python = std::array<int64_t, 5>;
    static MapView from(const Python& m) { return {pointer(static_cast<Address>(m[0])), m[1], m[2], m[3], m[4]}; }
};

template <>
struct Argument<const Stripes&> {
    using Python = std::array<Address, 3>;
    static Stripes from(const Python& k) { return {pointer(k[0]), pointer(k[1]), pointer(k[2])}; }
};

template <>
struct Argument<const Channels&> {  // addresses of the numbers, or twice 0; how many channels the maps have
    using Python = std::tuple<Address, Address, int64_t>;
    static Channels from(const Python& c) {
        const auto numbers = [](Address address) { return static_cast<const int64_t*>(pointer(address)); };
        return {numbers(std::get<0>(c)), numbers(std::get<1>(c)), std::get<2>(c)};
    }
};

template <>
struct Argument<const StripeProblem&> {  // dtype; batch, channels, height, width; length, thickness, anchor; exact
    using Python = std::tuple<std::string, std::array<int64_t, 4>, std::array<int64_t, 3>, bool>;
    static StripeProblem from(const Python& p) {
        const auto& [dtype, n, k, exact] = p;
        return {scalar(dtype), n[0], n[1], n[2], n[3], k[0], k[1], k[2], exact};
    }
};

template <>
struct Argument<const MlpProblem&> {  // batch, pixels, channels, processed, squeezed, hidden; epsilon
    using Python = std::tuple<std::array<int64_t, 6>, double>;
    static MlpProblem from(const Python& p) {
        const auto& [n, epsilon] = p;
        return {n[0], n[1], n[2], n[3], n[4], n[5], epsilon};
    }
};

template <>
struct Argument<const MlpTensors&> {  // data pointers, in the order of the members
    using Python = std::array<Address, 15>;
    static MlpTensors from(const Python& t) {
        const auto in = [&t](size_t k) { return static_cast<const float*>(pointer(t[k])); };
        return {in(0), in(1), in(2), in(3), in(4), in(5), in(6), in(7), in(8), in(9), in(10), in(11), in(12),
                static_cast<float*>(pointer(t[13])), static_cast<float*>(pointer(t[14]))};
    }
};

template <>
struct Argument<const NearestProblem&> {  // its members in order
    using Python = std::array<int64_t, 9>;
    static NearestProblem from(const Python& n) { return {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8]}; }
};

template <>
struct Argument<const NearestTensors&> {  // data pointers, in the order of the members
    using Python = std::array<Address, 6>;
    static NearestTensors from(const Python& t) {
        const auto numbers = [&t](size_t k) { return static_cast<const int64_t*>(pointer(t[k])); };
        const auto floats = [&t](size_t k) { return static_cast<float*>(pointer(t[k])); };
        return {floats(0), pointer(t[1]), floats(2), numbers(3), numbers(4), floats(5)};
    }
};

template <>
struct Argument<const ResponseNormProblem&> {  // batch, channels, pixels; whether channels-last; epsilon
    using Python = std::tuple<std::array<int64_t, 3>, bool, double>;
    static ResponseNormProblem from(const Python& p) {
        const auto& [n, channels_last, epsilon] = p;
        return {n[0], n[1], n[2], channels_last, epsilon};
    }
};

// A function of either device, to be called from Python, where other threads go on meanwhile.
template <class Result, class... Native>
auto bound(Result (*function)(Native...)) {
    return [function](const typename Argument<Native>::Python&... arguments) -> Result {
        py::gil_scoped_release release;
        return function(Argument<Native>::from(arguments)...);
    };
}

void bind_cpu(py::module_ m) {
    m.def("stripe_forward", bound(sw::cpu::stripe_forward));
    m.def("stripe_fused", bound(sw::cpu::stripe_fused));
    m.def("stripe_input_grad", bound(sw::cpu::stripe_input_grad));
    m.def("stripe_weight_grad", bound(sw::cpu::stripe_weight_grad));
    m.def("depthwise", bound(sw::cpu::depthwise));
    m.def("depthwise_weight_grad", bound(sw::cpu::depthwise_weight_grad));
    m.def("mlp", bound(sw::cpu::mlp));
    m.def("mlp_workspace", bound(sw::cpu::mlp_workspace));
    m.def("nearest", bound(sw::cpu::nearest));
    m.def("response_norm", bound(sw::cpu::response_norm));
    m.def("response_norm_backward", bound(sw::cpu::response_norm_backward));
    m.def("multiply_adds", bound(sw::cpu::multiply_adds));
    m.def("instruction_set", &sw::cpu::instruction_set);
    m.def("instruction_set_available", &sw::cpu::instruction_set_available);
    m.def("use_instruction_set", &sw::cpu::use_instruction_set);
}

#ifdef SW_WITH_CUDA
void bind_cuda(py::module_ m) {
    m.def("stripe_forward", bound(sw::cuda::stripe_forward));
    m.def("stripe_fused", bound(sw::cuda::stripe_fused));
    m.def("stripe_input_grad", bound(sw::cuda::stripe_input_grad));
    m.def("stripe_weight_grad", bound(sw::cuda::stripe_weight_grad));
    m.def("stripe_backward", bound(sw::cuda::stripe_backward));
    m.def("weight_grad_workspace", bound(sw::cuda::weight_grad_workspace));
    m.def("usable", bound(sw::cuda::usable));
}
#endif

}  // namespace

PYBIND11_MODULE(_C, m, py::mod_gil_not_used()) {
    m.doc() = "Native stripe convolutions of sw-ops.";
    bind_cpu(m.def_submodule("cpu"));
#ifdef SW_WITH_CUDA
    bind_cuda(m.def_submodule("cuda"));
#endif
    m.attr("compiler") = SW_COMPILER;
    m.attr("cuda_compiler") = SW_CUDA_COMPILER;  // empty without CUDA
    m.attr("cuda_architectures") = SW_CUDA_ARCHITECTURES;
    m.attr("cuda_left_out") = SW_CUDA_LEFT_OUT;  // why there is no CUDA; empty with it
}
