// Threads for the kernels, and memory for each of them.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sw::cpu {

using Task = void (*)(const void* context, int64_t index);

// Runs task(context, 0) ... task(context, tasks - 1), on the calling thread alone when threads is 1.
// The first exception of a task is thrown again here, after every running task has ended.
void parallel_for(int64_t tasks, int threads, Task task, const void* context);

// Threads of the program that calls, for parallel_for to use in the place of others.
class Pool {
public:
    virtual void run(int threads, void (*work)(void* context, size_t thread), void* context) = 0;

protected:
    ~Pool() = default;
};

// Lends a pool to the calling thread for as long as this lives.
class UsePool {
public:
    explicit UsePool(Pool& pool);
    ~UsePool();
    UsePool(const UsePool&) = delete;
    UsePool& operator=(const UsePool&) = delete;
};

// Memory on a cache line's boundary.
class Buffer {
public:
    explicit Buffer(size_t bytes);
    ~Buffer();
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    void* data() const;

private:
    void* data_;
};

// The calling thread's own such memory. Kept, because a fresh one would cost its page faults in every call; valid
// until the thread asks for more.
void* thread_scratch(size_t bytes);

}  // namespace sw::cpu
