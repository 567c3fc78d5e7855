// The plain engine of convolve.cu: f32, where the matrix units would round the factors to tf32.
//
// A lane owns one line (a row under a horizontal stripe, a column under a vertical one) and 8 outputs along it at a time:
// per tap one read of the map, one broadcast read of the tap, 8 multiply-adds. Planes have odd strides, so the lanes'
// reads hit different banks in either direction. Sums of several stripes meet in the warp's stage.
#pragma once
#include "convolve.cuh"

namespace sw::cuda {

struct FmaConvolve {
    using Scalar = float;
    static constexpr int size = 32, rows = size, columns = size, images = 1, reach = 64, channel_bits = 0;
    static constexpr int warp_bits = 4, warp_bits_wanted = warp_bits, blocks_wanted = 1;  // per multiprocessor
    static constexpr bool oriented = false;  // a window serves stripes of either direction
    static constexpr int stride_step = 1, window_step = 1;
    static constexpr int outputs = 8, bank_front = 0, bank_back = outputs, bank_slack = 0;
    static constexpr int stage_stride = size + 1, stage_size = size * stage_stride + 4;

    float* tile;

    __device__ static uint32_t bank_word(const Taps<float>& taps, int m) { return taps[m]; }

    __device__ void start(uint32_t* stage, const float* bias, int channel, int channels) {
        const int lane = threadIdx.x % 32;
        tile = reinterpret_cast<float*>(stage + warp_index() * stage_size);
        const float value = bias && channel < channels ? bias[channel] : 0.0f;
        for (int i = 0; i < size; ++i) tile[i * stage_stride + lane] = value;
        __syncwarp();
    }

    __device__ void accumulate(const Window& window, const Stripe& s, const uint32_t* bank, const Extent& extent,
                               int row, int column) {
        const int lane = threadIdx.x % 32;
        const int along_stride = s.vertical ? window.stride : 1, across_stride = s.vertical ? 1 : window.stride;
        const int left = s.vertical ? extent.height - row : extent.width - column;
        const int first_row = s.vertical ? window.along : row - s.centre + lane;
        const int first_column = s.vertical ? column - s.centre + lane : window.along;
        const uint32_t* words = window.words + (first_row - window.row) * window.stride + first_column - window.column;
        for (int q = 0; q < size && q < left; q += outputs) {
            const int start = (s.vertical ? row : column) + q - s.anchor - window.along;  // of tap 0 of output q
            const int begin = max(0, -start - (outputs - 1)), end = min(s.length, window.count - start);
            float sums[outputs] = {};
            for (int a = 0; a < s.thickness; ++a) {
                const float* x = reinterpret_cast<const float*>(words) + a * across_stride;
                const float* taps = reinterpret_cast<const float*>(bank) + a * bank_row<FmaConvolve>(s);
                const auto at = [&](int i) { return i >= 0 && i < window.count ? x[i * along_stride] : 0.0f; };
                float ring[outputs];
#pragma unroll
                for (int i = 0; i < outputs - 1; ++i) ring[i] = at(start + begin + i);
                for (int m = begin; m < end; m += outputs) {
#pragma unroll
                    for (int j = 0; j < outputs; ++j) {
                        ring[(j + outputs - 1) % outputs] = at(start + m + j + outputs - 1);
                        const float weight = taps[m + j];
#pragma unroll
                        for (int i = 0; i < outputs; ++i) sums[i] += weight * ring[(j + i) % outputs];
                    }
                }
            }
            float* target = s.vertical ? tile + q * stage_stride + lane : tile + lane * stage_stride + q;
#pragma unroll
            for (int i = 0; i < outputs; ++i) target[i * (s.vertical ? stage_stride : 1)] += sums[i];
        }
        __syncwarp();
    }

    template <typename Origin>
    __device__ void store(uint32_t* stage, int plane_bits, const DeviceView& map, const Extent& extent, int channel,
                          int tile_bits, Origin origin) const {
        __syncthreads();
        store_tiles<float>(stage, {stage_stride, stage_size}, plane_bits, map, extent, channel, tile_bits, 5, size,
                           origin);
        __syncthreads();
    }
};

}  // namespace sw::cuda
