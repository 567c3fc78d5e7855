// A block's pointwise half on a CPU: squeeze-excite, expand, GELU, global response norm, project, plus the block's input.
#pragma once
#include <cstdint>

namespace sw {

struct MlpProblem {
    int64_t batch, pixels, channels, processed, squeezed, hidden;
    double epsilon;  // of the response norm
};

// All float. Maps are channels-last: [batch, pixels, channels], `processed` with the first channels alone, the others
// being input * ghost_scale + ghost_shift.
struct MlpTensors {
    const float *input, *processed, *ghost_scale, *ghost_shift;
    const float *squeeze, *squeeze_bias, *excite, *excite_bias;  // [squeezed, channels], [channels, squeezed]
    const float *expand, *expand_bias;                           // [hidden, channels]
    const float *response, *project, *project_bias;              // [hidden], [channels, hidden]
    float *workspace, *output;
};

}  // namespace sw
