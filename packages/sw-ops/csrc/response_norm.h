// The global response norm of maps: x * (1 + weight * n) + bias, with n a channel's norm over the mean of all norms.
#pragma once
#include <cstdint>

namespace sw {

struct ResponseNormProblem {
    int64_t batch, channels, pixels;
    bool channels_last;  // [batch, pixels, channels], else [batch, channels, pixels]
    double epsilon;      // added to the mean of the norms
};

}  // namespace sw
