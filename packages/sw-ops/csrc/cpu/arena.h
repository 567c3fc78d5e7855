// Working memory, cut into arrays of vectors.
#pragma once
#include "pack.h"
#include "parallel.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

// Cuts a block of memory into aligned arrays. What lives in one is made twice: without memory, to learn how much is
// wanted, then with it.
class Arena {
public:
    explicit Arena(void* memory = nullptr) : memory_(static_cast<char*>(memory)) {}

    template <class T>
    T* take(int64_t count) {
        T* const array = memory_ ? reinterpret_cast<T*>(memory_ + used_) : nullptr;
        used_ += ceil_divide(count * static_cast<int64_t>(sizeof(T)), 64) * 64;
        return array;
    }

    bool measures() const { return !memory_; }
    size_t used() const { return static_cast<size_t>(used_); }

private:
    char* memory_;
    int64_t used_ = 0;
};

template <class T>
void clear(Vector<T>* array, int64_t count) {
    for (int64_t k = 0; k < count; ++k) array[k] = Vector<T>{};
}

// A Work made in the calling thread's scratch memory.
template <class Work, class... Arguments>
Work make_work(const Arguments&... arguments) {
    Arena measure;
    Work(measure, arguments...);
    Arena arena(thread_scratch(measure.used()));
    return Work(arena, arguments...);
}

}  // namespace sw::cpu::SW_INSTRUCTION_SET
