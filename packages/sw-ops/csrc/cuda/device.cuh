// The instructions and the launch that only a GPU has. Everything else in this folder is plain C++ over these few names,
// so a test can put an emulator in their place (define SW_CUDA_DEVICE) and run the kernels on a CPU.
#ifndef SW_CUDA_DEVICE
#define SW_CUDA_DEVICE
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <atomic>
#include <cstdint>

namespace sw::cuda {

__device__ inline uint32_t* shared_memory() {
    extern __shared__ uint4 storage[];
    return reinterpret_cast<uint32_t*>(storage);
}

// The shuffle tells the compiler that all lanes agree, so branches on it need no reconvergence.
__device__ inline int warp_index() { return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x / 32), 0); }

// Copies the first 0, 2 or 4 bytes of a word in the background and writes zeros for the rest.
__device__ inline void copy_async(uint32_t* shared, const void* global, int bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(
                     static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
                 "l"(global), "r"(bytes)
                 : "memory");
}

__device__ inline void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `Pending` of this thread's committed groups are still on their way.
template <int Pending>
__device__ inline void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

using SharedAddress = uint32_t;  // in bytes

__device__ inline SharedAddress shared_address(const uint32_t* word) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(word));
}

// A bit for each lane of the warp, whose lanes all get the same word.
__device__ inline uint32_t ballot(bool bit) { return __ballot_sync(0xffffffffu, bit); }

// To be read here, whatever else was read before: a copy of a register would cost as much and hold one more.
__device__ inline uint32_t load_word(SharedAddress address) {
    uint32_t word;
    asm volatile("ld.volatile.shared.u32 %0, [%1];" : "=r"(word) : "r"(address));
    return word;
}

// Reads four 8x8 matrices of 16-bit numbers; lane i gives the address of row i % 8 of matrix i / 8. With g = lane / 4 and
// t = lane % 4, the words are columns 2t, 2t + 1 of row g; transposed, they are rows 2t, 2t + 1 of column g.
__device__ inline void load_matrices(uint32_t (&words)[4], SharedAddress row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(row));
}

__device__ inline void load_matrices_transposed(uint32_t (&words)[4], SharedAddress row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(row));
}

// d += a b on one warp's 16 x Depth by Depth x 8 tiles. With g = lane / 4 and t = lane % 4, and two k slots per register:
//   a[0], a[1] hold rows g, g + 8 at k = 2t, 2t + 1;  a[2], a[3] the same rows at k + 8
//   b[0], b[1] hold column g at k = 2t, 2t + 1 and at k + 8
//   d[0], d[1] are row g, columns 2t, 2t + 1;         d[2], d[3] row g + 8
// With a depth of 8 there is no k + 8.
#define SW_MMA(TYPE, NAME)                                                                                                \
    template <int Depth = 16>                                                                                             \
    __device__ inline void mma(float(&d)[4], const uint32_t(&a)[4], const uint32_t(&b)[2], TYPE) {                        \
        if constexpr (Depth == 16)                                                                                        \
            asm("mma.sync.aligned.m16n8k16.row.col.f32." NAME "." NAME                                                    \
                ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                                              \
                : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                          \
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                                      \
        else                                                                                                              \
            asm("mma.sync.aligned.m16n8k8.row.col.f32." NAME "." NAME ".f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};" \
                : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                          \
                : "r"(a[0]), "r"(a[1]), "r"(b[0]));                                                                       \
    }
SW_MMA(__nv_bfloat16, "bf16")
SW_MMA(__half, "f16")
#undef SW_MMA

// Lets a kernel use all of the shared memory that blocks of the device may have. Once and for all of it, for another
// thread may be about to launch the same kernel with more.
template <auto Kernel>
cudaError_t allow_shared_memory(int device, int most_bytes) {
    static std::atomic<uint64_t> allowed{0};  // a bit per device
    const uint64_t bit = device < 64 ? uint64_t{1} << device : 0;
    if (allowed.load() & bit) return cudaSuccess;
    const cudaError_t error = cudaFuncSetAttribute(Kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most_bytes);
    if (error == cudaSuccess) allowed.fetch_or(bit);
    return error;
}

template <auto Kernel, typename Job>
cudaError_t launch(int64_t blocks, int threads, size_t shared_bytes, cudaStream_t stream, const Job& job) {
    Kernel<<<static_cast<unsigned>(blocks), threads, shared_bytes, stream>>>(job);
    return cudaGetLastError();
}

}  // namespace sw::cuda
#endif
