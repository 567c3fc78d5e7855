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

// Tasks are handed out one by one, so that a thread that lost time to another process holds nobody up.
class TaskQueue {
public:
    TaskQueue(int64_t tasks, Task task, const void* context) : tasks_(tasks), task_(task), context_(context) {}

    void work() noexcept {
        try {
            for (int64_t index; (index = next_.fetch_add(1, std::memory_order_relaxed)) < tasks_;) {
                task_(context_, index);
            }
        } catch (...) {
            next_.store(tasks_, std::memory_order_relaxed);
            const std::lock_guard<std::mutex> lock(mutex_);
            if (!error_) error_ = std::current_exception();
        }
    }

    void rethrow() const {
        if (error_) std::rethrow_exception(error_);
    }

private:
    const int64_t tasks_;
    const Task task_;
    const void* const context_;
    std::atomic<int64_t> next_{0};
    std::mutex mutex_;
    std::exception_ptr error_;
};

void work(void* queue) { static_cast<TaskQueue*>(queue)->work(); }

// The OpenMP runtime that torch has loaded, so that its waiting workers serve here too: a second pool would fight
// them for the cores. Null where there is no torch, or a torch on another runtime.
using OpenMPParallel = void (*)(void (*function)(void*), void* argument, unsigned threads, unsigned flags);

OpenMPParallel torch_pool() {
#ifdef _WIN32
    return nullptr;
#else
    void* torch = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
    return torch ? reinterpret_cast<OpenMPParallel>(dlsym(torch, "GOMP_parallel")) : nullptr;
#endif
}

void run_on_new_threads(TaskQueue& queue, int threads) {
    std::vector<std::thread> workers;
    try {
        while (static_cast<int>(workers.size()) < threads - 1) workers.emplace_back(work, &queue);
    } catch (const std::system_error&) {  // no more threads to be had: those that run take all tasks
    }
    queue.work();
    for (std::thread& worker : workers) worker.join();
}

}  // namespace

void parallel_for(int64_t tasks, int threads, Task task, const void* context) {
    if (threads <= 1 || tasks <= 1) {
        for (int64_t index = 0; index < tasks; ++index) task(context, index);
        return;
    }
    TaskQueue queue(tasks, task, context);
    // Torch's pool is asked for all the threads even when there are fewer tasks: it would end the others, and make
    // them anew for torch's next operation.
    if (const OpenMPParallel pool = torch_pool()) {
        pool(work, &queue, static_cast<unsigned>(threads), 0);
    } else {
        run_on_new_threads(queue, static_cast<int>(std::min<int64_t>(threads, tasks)));
    }
    queue.rethrow();
}

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
