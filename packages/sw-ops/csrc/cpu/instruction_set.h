// The functions as compiled for one instruction set.
#pragma once
#include "stripe_cpu.h"

namespace sw::cpu {

struct InstructionSet {
    const char* name;
    decltype(&stripe_forward) forward;
    decltype(&stripe_fused) fused;
    decltype(&stripe_input_grad) input_grad;
    decltype(&stripe_weight_grad) weight_grad;
    decltype(&sw::cpu::depthwise) depthwise;
    decltype(&sw::cpu::depthwise_weight_grad) depthwise_weight_grad;
    decltype(&sw::cpu::mlp) mlp;
    decltype(&sw::cpu::mlp_workspace) mlp_workspace;
    decltype(&sw::cpu::nearest) nearest;
    decltype(&sw::cpu::response_norm) response_norm;
    decltype(&sw::cpu::response_norm_backward) response_norm_backward;
    decltype(&sw::cpu::multiply_adds) multiply_adds;
};

namespace avx512 { extern const InstructionSet functions; }
namespace avx2 { extern const InstructionSet functions; }
namespace portable { extern const InstructionSet functions; }

}  // namespace sw::cpu
