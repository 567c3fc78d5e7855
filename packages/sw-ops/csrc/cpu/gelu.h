// The Gaussian error linear unit, x * Phi(x).
#pragma once
#include "vector.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

// max(x, 0) - |x| * Phi(-|x|), with Phi(-t) as the polynomial of (t - 2.75) / 2.75 whose product with t is nearest to
// t * Phi(-t) up to 5.5; beyond that, the product is less than 2e-7 and left out. The largest error is 2e-7.
SW_INLINE Vector<float> gelu(Vector<float> x) {
    constexpr float reach = 5.5f;
    constexpr float coefficients[] = {
        -0.0014443801f, 0.0025022069f, 0.0070895907f, -0.0175599586f, -0.0079575345f, 0.0528639816f, -0.0311686676f,
        -0.0712898970f, 0.1271872968f, -0.0228717364f, -0.1616064161f, 0.2148091942f,  -0.0515221879f, -0.1765996963f,
        0.2718836367f,  -0.2068468034f, 0.0945589393f, -0.0250073075f, 0.0029797629f};
    const Vector<float> zero{};
    const Vector<float> size = x < 0 ? -x : x;
    const Vector<float> place = size * (2 / reach) - 1;
    Vector<float> tail = zero + coefficients[0];
    unroll<18>([&](auto k) SW_INLINE_LAMBDA { tail = tail * place + coefficients[k + 1]; });
    const Vector<float> positive = x < 0 ? zero : x;  // of a NaN, the NaN
    return size > reach ? positive : positive - size * tail;
}

}  // namespace sw::cpu::SW_INSTRUCTION_SET
