#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <dlfcn.h>
#endif

namespace sw::cpu {
namespace {

constexpr std::align_val_t cache_line{64};

// Every thread has a share of the tasks, the same in every call, whose data may still lie in its cache. One that is done
// goes on with the others' shares, so that a thread that lost time to another process holds nobody up.
class TaskQueue {
public:
    TaskQueue(int64_t tasks, int threads, Task task, const void* context)
        : tasks_(tasks), threads_(threads), task_(task), context_(context), shares_(new Share[threads]) {
        for (int t = 0; t < threads; ++t) shares_[t].next = tasks * t / threads;
    }

    void work(int thread) noexcept {
        try {
            for (int k = 0; k < threads_; ++k) {
                const int t = (thread + k) % threads_;
                const int64_t end = tasks_ * (t + 1) / threads_;
                for (int64_t index; (index = shares_[t].next.fetch_add(1, std::memory_order_relaxed)) < end;) {
                    task_(context_, index);
                }
            }
        } catch (...) {
            for (int t = 0; t < threads_; ++t) shares_[t].next.store(tasks_, std::memory_order_relaxed);
            const std::lock_guard<std::mutex> lock(mutex_);
            if (!error_) error_ = std::current_exception();
        }
    }

    void rethrow() const {
        if (error_) std::rethrow_exception(error_);
    }

private:
    struct alignas(64) Share {  // a cache line each: threads would otherwise wait for each other's counters
        std::atomic<int64_t> next;
    };

    const int64_t tasks_;
    const int threads_;
    const Task task_;
    const void* const context_;
    const std::unique_ptr<Share[]> shares_;
    std::mutex mutex_;
    std::exception_ptr error_;
};

// The OpenMP runtime that torch has loaded, so that its waiting workers serve here too: a second pool would fight
// them for the cores. Null where there is no torch, or a torch on another runtime.
struct TorchPool {
    void (*parallel)(void (*function)(void*), void* argument, unsigned threads, unsigned flags);
    int (*thread)();
};

TorchPool find_torch_pool() {
#ifndef _WIN32
    if (void* const torch = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD)) {
        return {reinterpret_cast<decltype(TorchPool::parallel)>(dlsym(torch, "GOMP_parallel")),
                reinterpret_cast<decltype(TorchPool::thread)>(dlsym(torch, "omp_get_thread_num"))};
    }
#endif
    return {nullptr, nullptr};
}

const TorchPool& torch_pool() {
    static const TorchPool pool = find_torch_pool();
    return pool;
}

void work_in_torch_pool(void* queue) { static_cast<TaskQueue*>(queue)->work(torch_pool().thread()); }

void work_in_pool(void* queue, size_t thread) { static_cast<TaskQueue*>(queue)->work(static_cast<int>(thread)); }

thread_local Pool* lent_pool = nullptr;

void work_on_new_threads(TaskQueue& queue, int threads) {
    std::vector<std::thread> workers;
    try {
        for (int t = 1; t < threads; ++t) workers.emplace_back(&TaskQueue::work, &queue, t);
    } catch (const std::system_error&) {  // no more threads to be had: those that run take all tasks
    }
    queue.work(0);
    for (std::thread& worker : workers) worker.join();
}

}  // namespace

void parallel_for(int64_t tasks, int threads, Task task, const void* context) {
    if (threads <= 1 || tasks <= 1) {
        for (int64_t index = 0; index < tasks; ++index) task(context, index);
        return;
    }
    TaskQueue queue(tasks, threads, task, context);
    if (lent_pool) {
        lent_pool->run(threads, work_in_pool, &queue);
        return queue.rethrow();
    }
    const TorchPool& pool = torch_pool();
    if (pool.parallel && pool.thread) {
        // All the threads even when there are fewer tasks: it would end the others, and make them anew for torch's
        // next operation.
        pool.parallel(work_in_torch_pool, &queue, static_cast<unsigned>(threads), 0);
    } else {
        work_on_new_threads(queue, static_cast<int>(std::min<int64_t>(threads, tasks)));
    }
    queue.rethrow();
}

UsePool::UsePool(Pool& pool) { lent_pool = &pool; }
UsePool::~UsePool() { lent_pool = nullptr; }

Buffer::Buffer(size_t bytes) : data_(::operator new(bytes, cache_line)) {}
Buffer::~Buffer() { ::operator delete(data_, cache_line); }
void* Buffer::data() const { return data_; }

void* thread_scratch(size_t bytes) {
    thread_local std::unique_ptr<Buffer> buffer;
    thread_local size_t size = 0;
    if (size < bytes) {
        size = 0;
        buffer.reset();
        buffer = std::make_unique<Buffer>(bytes);
        size = bytes;
    }
    return buffer->data();
}

}  // namespace sw::cpu
