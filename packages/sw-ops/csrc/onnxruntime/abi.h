// The part of onnxruntime's C interface that a library of custom operators needs. Its table of functions only ever grows
// at the end, so that their places, and the first members of OrtCustomOp, are the same in every version from 1.17 on.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sw::ort {

struct Status;
struct SessionOptions;
struct Domain;
struct KernelInfo;
struct KernelContext;
struct Value;
struct TensorInfo;

constexpr uint32_t version = 17;  // the first with KernelContext_ParallelFor
constexpr int failed = 1, invalid_argument = 2;  // codes of a status
constexpr int type_float = 1, type_int64 = 7, type_float16 = 10;  // of a tensor's elements

using Table = const void* const*;  // of functions: OrtApi

// A function of the table: its place in it, and what it takes; it returns a status, which is null where all went well.
template <size_t Place, class... Arguments>
struct Function {
    Table table;
    Status* operator()(Arguments... arguments) const {
        return reinterpret_cast<Status* (*)(Arguments...)>(const_cast<void*>(table[Place]))(arguments...);
    }
};

struct Api {
    Table table;

    Status* create_status(int code, const char* message) const {
        return reinterpret_cast<Status* (*)(int, const char*)>(const_cast<void*>(table[0]))(code, message);
    }
    void release_info(TensorInfo* info) const {
        reinterpret_cast<void (*)(TensorInfo*)>(const_cast<void*>(table[99]))(info);
    }

    Function<26, const char*, Domain**> create_domain{table};
    Function<27, Domain*, const struct CustomOp*> add_operator{table};
    Function<28, SessionOptions*, Domain*> add_domain{table};
    Function<51, const Value*, void**> tensor_data{table};
    Function<61, const TensorInfo*, size_t*> dimension_count{table};
    Function<62, const TensorInfo*, int64_t*, size_t> dimensions{table};
    Function<65, const Value*, TensorInfo**> tensor_info{table};
    Function<85, const KernelInfo*, const char*, float*> attribute_float{table};
    Function<86, const KernelInfo*, const char*, int64_t*> attribute_int64{table};
    Function<90, const KernelContext*, size_t, const Value**> input{table};
    Function<91, KernelContext*, size_t, const int64_t*, size_t, Value**> output{table};
    Function<274, const KernelContext*, void (*)(void*, size_t), size_t, size_t, void*> parallel_for{table};
};

struct ApiBase {
    Table (*api)(uint32_t version);
    const char* (*version_text)();
};

// What describes an operator. Members after those of version 17 are not looked at.
struct CustomOp {
    uint32_t version;
    void* (*create_kernel_v1)(const CustomOp*, Table, const KernelInfo*);
    const char* (*name)(const CustomOp*);
    const char* (*provider)(const CustomOp*);
    int (*input_type)(const CustomOp*, size_t);
    size_t (*input_type_count)(const CustomOp*);
    int (*output_type)(const CustomOp*, size_t);
    size_t (*output_type_count)(const CustomOp*);
    void (*compute_v1)(void*, KernelContext*);
    void (*destroy)(void*);
    int (*input_characteristic)(const CustomOp*, size_t);
    int (*output_characteristic)(const CustomOp*, size_t);
    int (*input_memory)(const CustomOp*, size_t);
    int (*variadic_input_least)(const CustomOp*);
    int (*variadic_input_alike)(const CustomOp*);
    int (*variadic_output_least)(const CustomOp*);
    int (*variadic_output_alike)(const CustomOp*);
    Status* (*create_kernel)(const CustomOp*, Table, const KernelInfo*, void**);
    Status* (*compute)(void*, KernelContext*);
    Status* (*infer_shape)(const CustomOp*, void*);  // may be null
    int (*first_version)(const CustomOp*);
    int (*last_version)(const CustomOp*);
};

}  // namespace sw::ort
