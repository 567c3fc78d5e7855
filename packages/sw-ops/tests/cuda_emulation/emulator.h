// Runs the CUDA kernels on a CPU, one fiber per thread, so that their arithmetic, indices and barriers can be tested
// without a GPU. Takes the place of csrc/cuda/device.cuh.
//
// Shared memory starts as NaN, background copies arrive no earlier than their wait, and the threads of a block run one
// after another as far as the next barrier, in the order that the test picks: a missing barrier or wait gives wrong
// results in some order.
#pragma once
#define SW_CUDA_DEVICE
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <iostream>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#undef __launch_bounds__
#define __launch_bounds__(...)

namespace emulator {

struct Device {
    int shared_bytes = 227 * 1024, multiprocessors = 132;
    unsigned order = 0;  // of threads and blocks: 0 first to last, 1 last to first, else the seed of a shuffle
    int selected = -1;   // by cudaSetDevice
};
inline Device device;

[[noreturn]] inline void fail(const char* what) {
    std::cerr << "CUDA emulator: " << what << std::endl;
    std::abort();
}

struct Launch {
    int64_t blocks, threads, shared_bytes;
};
inline Launch launched;  // with the most shared memory, of one function

struct Copy {
    uint32_t* shared;
    const void* global;
    int bytes;
};

struct Thread {
    enum class State { ready, at_barrier, in_warp, done } state = State::ready;
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    dim3 index;
    std::vector<Copy> open;
    std::deque<std::vector<Copy>> committed;
    const void* operands[3];  // of the warp instruction that this thread is in
};

class Block {
public:
    Block(int count, size_t shared_bytes, int index, std::function<void()> body)
        : threads(count), shared(shared_bytes / 4, 0xffffffffu), index(index), body_(std::move(body)) {}

    void run(const std::vector<int>& order) {
        current = this;
        for (size_t i = 0; i < threads.size(); ++i) {
            Thread& t = threads[i];
            t.index = dim3(i, 0, 0);
            t.stack.reset(new char[stack_bytes]);
            std::memset(t.stack.get(), 0xff, stack_bytes);
            getcontext(&t.context);
            t.context.uc_stack.ss_sp = t.stack.get();
            t.context.uc_stack.ss_size = stack_bytes;
            t.context.uc_link = &scheduler_;
            makecontext(&t.context, [] {
                current->body_();
                current->thread().state = Thread::State::done;
            }, 0);
        }
        while (count(Thread::State::done) < threads.size()) {
            bool progress = false;
            for (int i : order)
                for (; threads[i].state == Thread::State::ready; progress = true) {
                    running_ = i;
                    swapcontext(&scheduler_, &threads[i].context);
                }
            if (progress) continue;
            if (count(Thread::State::at_barrier) < threads.size()) fail("not all threads reach the same barrier");
            for (Thread& t : threads) t.state = Thread::State::ready;
        }
    }

    Thread& thread() { return threads[running_]; }

    void wait(Thread::State state) {
        thread().state = state;
        swapcontext(&thread().context, &scheduler_);
    }

    // The last lane to arrive works for its whole warp.
    template <typename Work>
    void together(Work work) {
        Thread* warp = &threads[running_ / 32 * 32];
        const auto arrived = [](const Thread& t) { return t.state == Thread::State::in_warp; };
        if (std::count_if(warp, warp + 32, arrived) < 31) return wait(Thread::State::in_warp);
        work(warp);
        for (Thread* t = warp; t < warp + 32; ++t) t->state = Thread::State::ready;
    }

    static inline Block* current = nullptr;
    std::vector<Thread> threads;
    std::vector<uint32_t> shared;
    dim3 index;

private:
    size_t count(Thread::State state) const {
        return std::count_if(threads.begin(), threads.end(), [&](const Thread& t) { return t.state == state; });
    }

    static constexpr size_t stack_bytes = 32 * 1024;
    ucontext_t scheduler_;
    int running_ = 0;
    std::function<void()> body_;
};

inline std::vector<int> ordered(int count) {
    std::vector<int> order(count);
    std::iota(order.begin(), order.end(), 0);
    if (device.order == 1) std::reverse(order.begin(), order.end());
    if (device.order > 1) std::shuffle(order.begin(), order.end(), std::mt19937(device.order));
    return order;
}

inline Thread& thread() { return Block::current->thread(); }

}  // namespace emulator

#define threadIdx (emulator::thread().index)
#define blockIdx (emulator::Block::current->index)
#define blockDim (dim3(emulator::Block::current->threads.size()))

inline void __syncthreads() { emulator::Block::current->wait(emulator::Thread::State::at_barrier); }

inline void __syncwarp() {
    emulator::Block::current->together([](emulator::Thread*) {});
}

inline float __shfl_xor_sync(unsigned, float value, int mask) {
    float result;
    emulator::thread().operands[0] = &value;
    emulator::thread().operands[1] = &result;
    emulator::Block::current->together([&](emulator::Thread* warp) {
        for (int lane = 0; lane < 32; ++lane)
            *static_cast<float*>(const_cast<void*>(warp[lane].operands[1])) =
                *static_cast<const float*>(warp[lane ^ mask].operands[0]);
    });
    return result;
}

inline int __clz(int value) { return value ? __builtin_clz(value) : 32; }

template <typename T>
T __ldg(const T* p) {
    return *p;
}

inline uint32_t __byte_perm(uint32_t low, uint32_t high, uint32_t selector) {
    const uint64_t bytes = low | static_cast<uint64_t>(high) << 32;
    uint32_t result = 0;
    for (int i = 0; i < 4; ++i) result |= static_cast<uint32_t>(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    return result;
}

namespace sw::cuda {

using std::max;
using std::min;

inline uint32_t* shared_memory() { return emulator::Block::current->shared.data(); }

inline int warp_index() { return static_cast<int>(threadIdx.x) / 32; }

inline void copy_async(uint32_t* shared, const void* global, int bytes) {
    if (bytes && reinterpret_cast<uintptr_t>(global) % 4) emulator::fail("a copy from a misaligned address");
    emulator::thread().open.push_back({shared, global, bytes});
}

inline void copy_async_commit() {
    emulator::thread().committed.push_back(std::move(emulator::thread().open));
    emulator::thread().open.clear();
}

template <int Pending>
void copy_async_wait() {
    for (auto& groups = emulator::thread().committed; groups.size() > Pending; groups.pop_front())
        for (const emulator::Copy& copy : groups.front())
            std::memcpy(std::memset(copy.shared, 0, 4), copy.global, copy.bytes);
}

using SharedAddress = uintptr_t;

inline SharedAddress shared_address(const uint32_t* word) { return reinterpret_cast<uintptr_t>(word); }

inline uint32_t ballot(bool bit) {
    uint32_t result;
    emulator::thread().operands[0] = &bit;
    emulator::thread().operands[1] = &result;
    emulator::Block::current->together([](emulator::Thread* warp) {
        uint32_t word = 0;
        for (int lane = 0; lane < 32; ++lane)
            word |= static_cast<uint32_t>(*static_cast<const bool*>(warp[lane].operands[0])) << lane;
        for (int lane = 0; lane < 32; ++lane)
            *static_cast<uint32_t*>(const_cast<void*>(warp[lane].operands[1])) = word;
    });
    return result;
}

inline void require_shared(SharedAddress address, size_t bytes) {
    const SharedAddress begin = shared_address(shared_memory());
    const size_t size = 4 * emulator::Block::current->shared.size();
    if (address < begin || address + bytes > begin + size) emulator::fail("a read outside of shared memory");
}

inline uint32_t load_word(SharedAddress address) {
    require_shared(address, 4);
    return *reinterpret_cast<const uint32_t*>(address);
}

// give(result of a lane, that lane, addresses of the 32 rows)
template <typename Give>
void read_matrices(uint32_t (&words)[4], SharedAddress row, Give give) {
    if (row % 16) emulator::fail("a matrix at a misaligned address");
    require_shared(row, 16);
    emulator::thread().operands[0] = reinterpret_cast<const void*>(row);
    emulator::thread().operands[1] = words;
    emulator::Block::current->together([&](emulator::Thread* warp) {
        const uint16_t* rows[32];
        for (int lane = 0; lane < 32; ++lane) rows[lane] = static_cast<const uint16_t*>(warp[lane].operands[0]);
        for (int lane = 0; lane < 32; ++lane)
            for (int i = 0; i < 4; ++i) {
                auto* target = static_cast<uint32_t*>(const_cast<void*>(warp[lane].operands[1])) + i;
                *target = give(rows + 8 * i, lane / 4, lane % 4);
            }
    });
}

inline void load_matrices(uint32_t (&words)[4], SharedAddress row) {
    read_matrices(words, row, [](const uint16_t* const* rows, int g, int t) {
        return rows[g][2 * t] | static_cast<uint32_t>(rows[g][2 * t + 1]) << 16;
    });
}

inline void load_matrices_transposed(uint32_t (&words)[4], SharedAddress row) {
    read_matrices(words, row, [](const uint16_t* const* rows, int g, int t) {
        return rows[2 * t][g] | static_cast<uint32_t>(rows[2 * t + 1][g]) << 16;
    });
}

template <int Depth = 16, typename T>
void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], T) {
    emulator::thread().operands[0] = d;
    emulator::thread().operands[1] = a;
    emulator::thread().operands[2] = b;
    emulator::Block::current->together([](emulator::Thread* warp) {
        float left[16][16], right[16][8];
        const auto part = [](const void* words, int i, int half) {
            const auto bits = static_cast<uint16_t>(static_cast<const uint32_t*>(words)[i] >> 16 * half);
            return static_cast<float>(reinterpret_cast<const T&>(bits));
        };
        for (int lane = 0; lane < 32; ++lane) {
            const int g = lane / 4, t = lane % 4;
            for (int half = 0; half < 2; ++half) {
                for (int i = 0; i < 4; ++i)
                    left[g + i % 2 * 8][2 * t + half + i / 2 * 8] = part(warp[lane].operands[1], i, half);
                for (int i = 0; i < 2; ++i) right[2 * t + half + 8 * i][g] = part(warp[lane].operands[2], i, half);
            }
        }
        for (int lane = 0; lane < 32; ++lane) {
            auto* sums = static_cast<float*>(const_cast<void*>(warp[lane].operands[0]));
            for (int i = 0; i < 4; ++i)
                for (int k = 0; k < Depth; ++k)
                    sums[i] += left[lane / 4 + i / 2 * 8][k] * right[k][lane % 4 * 2 + i % 2];
        }
    });
}

template <auto Kernel>
inline int allowed_shared_bytes = 0;

template <auto Kernel>
cudaError_t allow_shared_memory(int, int most_bytes) {
    if (most_bytes != emulator::device.shared_bytes) emulator::fail("a limit that depends on the launch");
    allowed_shared_bytes<Kernel> = most_bytes;
    return cudaSuccess;
}

template <auto Kernel, typename Job>
cudaError_t launch(int64_t blocks, int threads, size_t shared_bytes, cudaStream_t, const Job& job) {
    if (shared_bytes > static_cast<size_t>(allowed_shared_bytes<Kernel>)) return cudaErrorInvalidValue;
    if (emulator::device.selected < 0) emulator::fail("a launch before the caller's device was selected");
    if (static_cast<int64_t>(shared_bytes) >= emulator::launched.shared_bytes)
        emulator::launched = {blocks, threads, static_cast<int64_t>(shared_bytes)};
    for (int block : emulator::ordered(static_cast<int>(blocks)))
        emulator::Block(threads, shared_bytes, block, [&] { Kernel(job); }).run(emulator::ordered(threads));
    return cudaSuccess;
}

}  // namespace sw::cuda
