// Which compilation of the kernels serves this machine.
#include <atomic>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef SW_X86
#include <cpuid.h>
#endif

#include "instruction_set.h"

namespace sw::cpu {
namespace {

#ifdef SW_X86
bool converts_halves() {  // compilers before GCC 11 have no name for it in __builtin_cpu_supports
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

// The fastest first.
std::vector<const InstructionSet*> find_instruction_sets() {
    std::vector<const InstructionSet*> found;
#ifdef SW_X86
    __builtin_cpu_init();
    const bool avx2_runs = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && converts_halves();
    const bool avx512_runs = avx2_runs && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    if (avx512_runs) found.push_back(&avx512::functions);
    if (avx2_runs) found.push_back(&avx2::functions);
#endif
    found.push_back(&portable::functions);
    return found;
}

const std::vector<const InstructionSet*>& instruction_sets() {
    static const std::vector<const InstructionSet*> all = find_instruction_sets();
    return all;
}

const InstructionSet* find(const char* name) {
    for (const InstructionSet* set : instruction_sets()) {
        if (std::strcmp(set->name, name) == 0) return set;
    }
    return nullptr;
}

std::atomic<const InstructionSet*>& current() {
    static std::atomic<const InstructionSet*> set{instruction_sets().front()};
    return set;
}

}  // namespace

void stripe_forward(const StripeProblem& problem, const MapView& x, const Stripes& kernels, const MapView& h, const MapView& v,
                    const MapView& s, int threads) {
    current().load()->forward(problem, x, kernels, h, v, s, threads);
}

void stripe_fused(const StripeProblem& problem, const MapView& x, const Stripes& kernels, const void* bias,
                  const Channels& channels, const MapView& y, int threads) {
    for (const int64_t* numbers : {channels.input, channels.output}) {
        for (int64_t c = 0; numbers && c < problem.channels; ++c) {
            if (numbers[c] < 0 || numbers[c] >= channels.count) {
                throw std::invalid_argument("channels: got " + std::to_string(numbers[c]) + ", want numbers of the " +
                                            std::to_string(channels.count) + " channels of x, from 0 on");
            }
        }
    }
    current().load()->fused(problem, x, kernels, bias, channels, y, threads);
}

void stripe_input_grad(const StripeProblem& problem, const MapView& grad_h, const MapView& grad_v, const MapView& grad_s,
                       const Stripes& kernels, const MapView& grad_x, int threads) {
    current().load()->input_grad(problem, grad_h, grad_v, grad_s, kernels, grad_x, threads);
}

void stripe_weight_grad(const StripeProblem& problem, const MapView& x, const MapView& grad_h, const MapView& grad_v,
                        const MapView& grad_s, const Stripes& grad_kernels, int threads) {
    current().load()->weight_grad(problem, x, grad_h, grad_v, grad_s, grad_kernels, threads);
}

void depthwise(const StripeProblem& problem, const MapView& x, const void* kernel, const void* bias, const MapView& y,
               int threads) {
    current().load()->depthwise(problem, x, kernel, bias, y, threads);
}

void depthwise_weight_grad(const StripeProblem& problem, const MapView& x, const MapView& grad, void* grad_kernel,
                           int threads) {
    current().load()->depthwise_weight_grad(problem, x, grad, grad_kernel, threads);
}

void mlp(const MlpProblem& problem, const MlpTensors& tensors, int threads) {
    current().load()->mlp(problem, tensors, threads);
}

int64_t mlp_workspace(const MlpProblem& problem, int threads) { return current().load()->mlp_workspace(problem, threads); }

void nearest(const NearestProblem& problem, const NearestTensors& tensors, int threads) {
    const auto check = [](const char* name, const int64_t* numbers, int64_t count, int64_t end) {
        for (int64_t k = 0; k < count; ++k) {
            if (numbers[k] < 0 || numbers[k] >= end) {
                throw std::out_of_range(std::string(name) + ": got " + std::to_string(numbers[k]) + ", want numbers of the memory's " +
                                        std::to_string(end) + ", from 0 on");
            }
        }
    };
    check("rows", tensors.rows, problem.strips * problem.near_rows, problem.memory_rows);
    check("columns", tensors.columns, problem.columns * problem.near_columns, problem.memory_columns);
    current().load()->nearest(problem, tensors, threads);
}

void response_norm(const ResponseNormProblem& problem, const float* x, const float* weight, const float* bias, float* norms,
                   float* y, int threads) {
    current().load()->response_norm(problem, x, weight, bias, norms, y, threads);
}

void response_norm_backward(const ResponseNormProblem& problem, const float* x, const float* norms, const float* weight,
                            const float* grad, float* products, float* grads, float* grad_x, int threads) {
    current().load()->response_norm_backward(problem, x, norms, weight, grad, products, grads, grad_x, threads);
}

int64_t multiply_adds(int threads) { return current().load()->multiply_adds(threads); }

const char* instruction_set() { return current().load()->name; }

bool instruction_set_available(const char* name) { return find(name) != nullptr; }

void use_instruction_set(const char* name) {
    const InstructionSet* set = find(name);
    if (!set) {
        std::string message = std::string("instruction set: got ") + name + ", this machine runs";
        for (const InstructionSet* other : instruction_sets()) message += std::string(" ") + other->name;
        throw std::invalid_argument(message);
    }
    current().store(set);
}

}  // namespace sw::cpu
