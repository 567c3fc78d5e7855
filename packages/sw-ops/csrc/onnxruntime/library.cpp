// A library of custom operators for onnxruntime: the kernels of sw_ops._C, as nodes of the domain "sw_ops".
#include <algorithm>
#include <exception>
#include <functional>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../cpu/parallel.h"
#include "../cpu/stripe_cpu.h"
#include "abi.h"

namespace sw::ort {
namespace {

struct Refusal {  // what onnxruntime said
    Status* status;
};

void check(Status* status) {
    if (status) throw Refusal{status};
}

template <class F>
Status* guarded(const Api& api, const F& f) {
    try {
        f();
        return nullptr;
    } catch (const Refusal& refusal) {
        return refusal.status;
    } catch (const std::invalid_argument& problem) {
        return api.create_status(invalid_argument, problem.what());
    } catch (const std::exception& problem) {
        return api.create_status(failed, problem.what());
    }
}

using Shape = std::vector<int64_t>;

int64_t count(const Shape& shape) {
    return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>());
}

std::string text(const Shape& shape) {
    std::string all = "[";
    for (const int64_t size : shape) all += (all.size() > 1 ? ", " : "") + std::to_string(size);
    return all + "]";
}

// What a node is computed from, and what it writes.
class Call {
public:
    Call(const Api& api, KernelContext* context) : api_(api), context_(context) {}

    const Value* input(size_t index) const {
        const Value* value = nullptr;
        check(api_.input(context_, index, &value));
        return value;
    }

    template <class T>
    const T* data(size_t index) const {
        void* data = nullptr;
        check(api_.tensor_data(input(index), &data));
        return static_cast<const T*>(data);
    }

    Shape shape(size_t index) const {
        TensorInfo* info = nullptr;
        check(api_.tensor_info(input(index), &info));
        const auto release = [this](TensorInfo* it) { api_.release_info(it); };
        const std::unique_ptr<TensorInfo, decltype(release)> owner(info, release);
        size_t count = 0;
        check(api_.dimension_count(info, &count));
        Shape shape(count);
        check(api_.dimensions(info, shape.data(), count));
        return shape;
    }

    void want_shape(size_t index, const char* name, const Shape& wanted) const {
        const Shape found = shape(index);
        if (found != wanted) throw std::invalid_argument(std::string(name) + ": got " + text(found) + ", want " + text(wanted));
    }

    float* output(const Shape& shape) const {
        Value* value = nullptr;
        check(api_.output(context_, 0, shape.data(), shape.size(), &value));
        void* data = nullptr;
        check(api_.tensor_data(value, &data));
        return static_cast<float*>(data);
    }

    const Api& api() const { return api_; }
    const KernelContext* context() const { return context_; }

private:
    const Api& api_;
    KernelContext* const context_;
};

// The session's threads. How many it has, it does not tell: more shares than threads cost little.
class SessionPool final : public cpu::Pool {
public:
    explicit SessionPool(const Call& call) : call_(call) {}
    void run(int threads, void (*work)(void*, size_t), void* context) override {
        check(call_.api().parallel_for(call_.context(), work, static_cast<size_t>(threads), 0, context));
    }

private:
    const Call& call_;
};

const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));

// x [batch, height, width, R], horizontal [R, k, length], vertical [R, length, k], bias [R]: what
// sw_ops.stripe_conv2d_fused computes, like x.
struct StripeConv {
    static constexpr const char* name = "StripeConv";
    static constexpr size_t inputs = 4;
    static int type(size_t) { return type_float; }

    StripeConv(const Api& api, const KernelInfo* info) {
        check(api.attribute_int64(info, "anchor", &anchor));
        check(api.attribute_int64(info, "exact", &exact));
    }

    void compute(const Call& call) const { run(call, call.output(call.shape(0)), nullptr); }

    // Into the channels of y with these numbers, or into all.
    void run(const Call& call, float* y, const int64_t* places) const {
        const Shape x = call.shape(0), horizontal = call.shape(1);
        if (x.size() != 4 || horizontal.size() != 3) {
            throw std::invalid_argument("horizontal: got " + text(horizontal) + " for x " + text(x) + ", want 3 dimensions for 4");
        }
        const int64_t rep = horizontal[0], thickness = horizontal[1], length = horizontal[2];
        call.want_shape(2, "vertical", {rep, length, thickness});
        call.want_shape(3, "bias", {rep});
        const bool fits = places ? rep <= x[3] : rep == x[3];
        if (!fits || anchor < 0 || anchor >= length || thickness % 2 == 0) {
            throw std::invalid_argument("horizontal: got " + text(horizontal) + " for x " + text(x) + " and anchor " +
                                        std::to_string(anchor) + ", want its channels, an odd thickness and the anchor inside");
        }
        if (x[0] * x[1] * x[2] == 0) return;
        const auto view = [&x](const float* data) {
            return MapView{const_cast<float*>(data), x[1] * x[2] * x[3], 1, x[2] * x[3], x[3]};
        };
        const Stripes kernels{const_cast<float*>(call.data<float>(1)), const_cast<float*>(call.data<float>(2)), nullptr};
        const StripeProblem problem{Scalar::f32, x[0], rep, x[1], x[2], length, thickness, anchor, exact != 0};
        cpu::stripe_fused(problem, view(call.data<float>(0)), kernels, call.data<float>(3), {places, places, x[3]}, view(y),
                          threads);
    }

    int64_t anchor = 0, exact = 0;
};

// The same, with channels [R]: the numbers of those that are convolved; the others are copied.
struct StripeConvOfChannels {
    static constexpr const char* name = "StripeConvOfChannels";
    static constexpr size_t inputs = 5;
    static int type(size_t index) { return index < 4 ? type_float : type_int64; }

    StripeConvOfChannels(const Api& api, const KernelInfo* info) : conv(api, info) {}

    void compute(const Call& call) const {
        const Shape x = call.shape(0), kernels = call.shape(1);
        call.want_shape(4, "channels", {kernels.empty() ? 0 : kernels[0]});
        float* const y = call.output(x);
        std::copy_n(call.data<float>(0), count(x), y);
        conv.run(call, y, call.data<int64_t>(4));
    }

    StripeConv conv;
};

// x [batch, height, width, channels], processed [batch, height, width, P], and what sw_ops.pointwise_mlp takes after them.
struct PointwiseMlp {
    static constexpr const char* name = "PointwiseMlp";
    static constexpr size_t inputs = 13;
    static int type(size_t) { return type_float; }

    PointwiseMlp(const Api& api, const KernelInfo* info) { check(api.attribute_float(info, "eps", &epsilon)); }

    void compute(const Call& call) const {
        const Shape x = call.shape(0), processed = call.shape(1), squeeze = call.shape(4), expand = call.shape(8);
        if (x.size() != 4 || processed.size() != 4 || squeeze.size() != 2 || expand.size() != 2) {
            throw std::invalid_argument("PointwiseMlp: got x " + text(x) + " and processed " + text(processed) +
                                        ", want 4 dimensions each");
        }
        const int64_t channels = x[3], count = processed[3], squeezed = squeeze[0], hidden = expand[0];
        call.want_shape(1, "processed", {x[0], x[1], x[2], std::min(count, channels)});
        const struct {
            const char* name;
            Shape shape;
        } wanted[] = {{"ghost_scale", {channels - count}}, {"ghost_shift", {channels - count}}, {"squeeze", {squeezed, channels}},
                      {"squeeze_bias", {squeezed}},        {"excite", {channels, squeezed}},    {"excite_bias", {channels}},
                      {"expand", {hidden, channels}},      {"expand_bias", {hidden}},           {"response", {hidden}},
                      {"project", {channels, hidden}},     {"project_bias", {channels}}};
        size_t index = 2;
        for (const auto& [name, shape] : wanted) call.want_shape(index++, name, shape);

        float* const y = call.output(x);
        const MlpProblem problem{x[0], x[1] * x[2], channels, count, squeezed, hidden, static_cast<double>(epsilon)};
        if (x[0] * problem.pixels == 0) return;
        const auto in = [&call](size_t k) { return call.data<float>(k); };
        // Kept, because a fresh one would cost its page faults in every call.
        thread_local std::vector<float> workspace;
        workspace.resize(std::max(workspace.size(), static_cast<size_t>(cpu::mlp_workspace(problem, threads))));
        cpu::mlp(problem,
                 {in(0), in(1), in(2), in(3), in(4), in(5), in(6), in(7), in(8), in(9), in(10), in(11), in(12),
                  workspace.data(), y},
                 threads);
    }

    float epsilon = 0;
};

// points [rows, columns, depth], memory [W, R, depth, count], squares [W, R, count], rows [strips, J], columns [columns, I]:
// what sw_ops.nearest_distances computes, [rows, columns].
struct NearestDistances {
    static constexpr const char* name = "NearestDistances";
    static constexpr size_t inputs = 5;
    static int type(size_t index) { return index == 1 ? type_float16 : index < 3 ? type_float : type_int64; }

    NearestDistances(const Api&, const KernelInfo*) {}

    void compute(const Call& call) const {
        const Shape points = call.shape(0), memory = call.shape(1), rows = call.shape(3), columns = call.shape(4);
        if (points.size() != 3 || memory.size() != 4 || rows.size() != 2 || columns.size() != 2) {
            throw std::invalid_argument("NearestDistances: got points " + text(points) + ", memory " + text(memory) + ", rows " +
                                        text(rows) + " and columns " + text(columns) + ", want 3, 4, 2 and 2 dimensions");
        }
        const int64_t count = memory[3];
        call.want_shape(1, "memory", {memory[0], memory[1], points[2], count});
        call.want_shape(2, "squares", {memory[0], memory[1], count});
        call.want_shape(4, "columns", {points[1], columns[1]});
        if (count % 16) throw std::invalid_argument("memory: got " + text(memory) + ", want a multiple of 16 in the last dimension");
        if (points[0] > 0 && rows[0] == 0) throw std::invalid_argument("rows: got " + text(rows) + ", want a strip or more");
        float* const squared = call.output({points[0], points[1]});
        cpu::nearest({points[0], points[1], points[2], memory[0], memory[1], count, rows[0], rows[1], columns[1]},
                     {call.data<float>(0), call.data<void>(1), call.data<float>(2), call.data<int64_t>(3),
                      call.data<int64_t>(4), squared},
                     threads);
    }
};

template <class Operator>
struct Kernel {
    Api api;
    Operator of;
};

template <class Operator>
CustomOp describe() {
    CustomOp op{};
    op.version = version;
    op.name = [](const CustomOp*) { return Operator::name; };
    op.provider = [](const CustomOp*) -> const char* { return nullptr; };  // the CPU
    op.input_type_count = [](const CustomOp*) { return Operator::inputs; };
    op.input_type = [](const CustomOp*, size_t index) { return Operator::type(index); };
    op.output_type_count = [](const CustomOp*) -> size_t { return 1; };
    op.output_type = [](const CustomOp*, size_t) { return type_float; };
    const auto plain = [](const CustomOp*, size_t) { return 0; };  // required, and in the CPU's memory
    op.input_characteristic = op.output_characteristic = op.input_memory = plain;
    const auto zero = [](const CustomOp*) { return 0; };
    op.variadic_input_least = op.variadic_input_alike = op.variadic_output_least = op.variadic_output_alike = zero;
    op.first_version = [](const CustomOp*) { return 1; };
    op.last_version = [](const CustomOp*) { return INT32_MAX; };
    op.create_kernel = [](const CustomOp*, Table table, const KernelInfo* info, void** kernel) {
        const Api api{table};
        return guarded(api, [&] { *kernel = new Kernel<Operator>{api, Operator(api, info)}; });
    };
    op.compute = [](void* kernel, KernelContext* context) {
        const auto* const self = static_cast<const Kernel<Operator>*>(kernel);
        return guarded(self->api, [&] {
            const Call call(self->api, context);
            SessionPool pool(call);
            const cpu::UsePool use(pool);
            self->of.compute(call);
        });
    };
    op.destroy = [](void* kernel) { delete static_cast<Kernel<Operator>*>(kernel); };
    return op;
}

const CustomOp operators[] = {describe<StripeConv>(), describe<StripeConvOfChannels>(), describe<PointwiseMlp>(),
                              describe<NearestDistances>()};

}  // namespace
}  // namespace sw::ort

// What onnxruntime looks for in a library of operators. The domain is never released: it must outlive all sessions.
extern "C" __attribute__((visibility("default"))) sw::ort::Status* RegisterCustomOps(sw::ort::SessionOptions* options,
                                                                                     const sw::ort::ApiBase* base) {
    using namespace sw::ort;
    const Table table = base->api(version);
    if (!table) return nullptr;
    const Api api{table};
    return guarded(api, [&] {
        Domain* domain = nullptr;
        check(api.create_domain("sw_ops", &domain));
        for (const CustomOp& op : operators) check(api.add_operator(domain, &op));
        check(api.add_domain(options, domain));
    });
}
