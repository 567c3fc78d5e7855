#define SW_INSTRUCTION_SET portable
#define SW_VECTOR_BYTES 16
#include "convolve.h"
#include "depthwise.h"
#include "instruction_set.h"
#include "mlp.h"
#include "nearest.h"
#include "peak.h"
#include "response_norm.h"
#include "weight_grad.h"

namespace sw::cpu::portable {
const InstructionSet functions{"portable", forward, fused, input_grad, weight_grad, depthwise,
                               depthwise_weight_grad, mlp, mlp_workspace, nearest, response_norm,
                               response_norm_backward, multiply_adds};
}
