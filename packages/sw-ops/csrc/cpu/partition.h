// A problem cut into parts that threads work on.
#pragma once
#include "plane.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

// Channels that fill a vector, or its beginning.
struct Block {
    int64_t first_channel;
    int channels;
};

// A few blocks of channels of some of the images.
struct Part {
    int64_t first_channel, channels, lanes, blocks;
    int64_t first_image, last_image;

    // The last block may overlap the one before: the same results are written twice, which is cheaper than a piece of a
    // vector.
    Block block(int64_t index) const {
        const int64_t count = smaller(lanes, channels);
        return {first_channel + smaller(index * lanes, channels - count), static_cast<int>(count)};
    }
};

// A problem cut into parts that threads work on.
struct Partition {
    // More blocks in a part save memory traffic where channels lie next to each other, since a block alone fills no
    // whole cache lines there; more images save preparations of the kernels.
    Partition(const StripeProblem& problem, bool channels_last, int64_t lanes, int64_t wanted)
        : batch(problem.batch), channels(problem.channels), lanes(lanes) {
        const int64_t blocks = ceil_divide(channels, lanes);
        group = lanes * (channels_last ? larger(1, smaller(max_blocks, blocks * batch / wanted)) : 1);
        groups = ceil_divide(channels, group);
        chunks = groups ? larger(1, smaller(batch, ceil_divide(wanted, groups))) : 0;
    }

    int64_t parts() const { return groups * chunks; }

    Part part(int64_t index) const {
        // All channels of some images come before other images: threads that work on neighbouring channels at the same
        // time would wait for each other's cache lines.
        const int64_t first = index % groups * group, chunk = index / groups;
        const int64_t count = smaller(group, channels - first);
        return {first, count, lanes, ceil_divide(count, lanes), batch * chunk / chunks, batch * (chunk + 1) / chunks};
    }

    static constexpr int max_blocks = 4;
    int64_t batch, channels, lanes, group, groups, chunks;
};

template <class F>
void parallel(int64_t tasks, int threads, const F& f) {
    parallel_for(tasks, threads, [](const void* f, int64_t task) { (*static_cast<const F*>(f))(task); }, &f);
}

// Every part has summed `size` numbers for each of its blocks. Adds up those of the same channels, and calls
// f(sums, block).
template <class T, class F>
void add_parts(const Partition& partition, Vector<T>* sums, int64_t size, int threads, const F& f) {
    const int64_t part_size = partition.group / lanes<T> * size;
    parallel(partition.groups, threads, [&](int64_t group) {
        const Part part = partition.part(group);
        Vector<T>* const sum = sums + group * part_size;
        for (int64_t other = group + partition.groups; other < partition.parts(); other += partition.groups) {
            for (int64_t k = 0; k < part.blocks * size; ++k) sum[k] += sums[other * part_size + k];
        }
        for (int64_t b = 0; b < part.blocks; ++b) f(sum + b * size, part.block(b));
    });
}

// Block `block` of a part, in a [channels, size] kernel.
template <class Storage>
BlockView<Storage> kernel_view(void* kernel, int64_t size, const Block& block) {
    return {static_cast<Storage*>(kernel) + block.first_channel * size, size, 1, size, 1, size, block.channels};
}

template <class Storage>
BlockView<Storage> map_view(const StripeProblem& problem, const MapView& map, int64_t image, const Block& block,
                            const int64_t* numbers = nullptr) {
    const int64_t first = numbers ? 0 : block.first_channel * map.channel_stride;
    return {static_cast<Storage*>(map.data) + image * map.batch_stride + first,
            map.row_stride, map.column_stride, map.channel_stride, problem.height, problem.width, block.channels,
            numbers ? numbers + block.first_channel : nullptr};
}

}  // namespace sw::cpu::SW_INSTRUCTION_SET
