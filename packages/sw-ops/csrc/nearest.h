// How far each description in a map is from the nearest of those that are remembered near it.
#pragma once
#include <cstdint>

namespace sw {

// The map has `rows` and `columns`, cut into `strips` of rows, all but the last of ceil(rows / strips). At each of
// memory_columns x memory_rows places `count` descriptions of `depth` numbers are remembered.
struct NearestProblem {
    int64_t rows, columns, depth;
    int64_t memory_columns, memory_rows, count;
    int64_t strips, near_rows, near_columns;
};

struct NearestTensors {
    const float* points;     // [rows, columns, depth]
    const void* memory;      // float16 [memory_columns, memory_rows, depth, count]
    const float* squares;    // [memory_columns, memory_rows, count], sums of the squares of each, or infinity
    const int64_t* rows;     // [strips, near_rows], of the memory
    const int64_t* columns;  // [columns, near_columns], likewise
    float* squared;          // [rows, columns], distances
};

}  // namespace sw
