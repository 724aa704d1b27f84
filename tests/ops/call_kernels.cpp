// Calls every operator of the native kernels once, on small arrays, for scripts/count_instructions.sh.
//
//   call_kernels LIBRARY LEVEL      level: 0 generic, 1 AVX2, 2 AVX-512
//
// Prints the names of the operators; exit status 2 where the processor lacks the instruction set.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

using Shape = std::vector<int64_t>;
using Operator = int (*)(int, void**, int*, int64_t**, const char**, void*, void*);

// Float32 or int32, which take the same room.
struct Array {
    Shape shape;
    std::vector<float> values;

    void* data() { return values.data(); }
};

int64_t count(const Shape& shape) {
    int64_t size = 1;
    for (int64_t length : shape) size *= length;
    return size;
}

// The same numbers everywhere, between -scale and scale.
Array draw(const Shape& shape, float scale = 1.0f) {
    static uint32_t state = 1;
    Array array{shape, std::vector<float>(count(shape))};
    for (float& value : array.values) {
        state = state * 1664525u + 1013904223u;
        value = scale * (static_cast<float>(state >> 8) / 8388608.0f - 1.0f);
    }
    return array;
}

Array integers(const Shape& shape, const std::vector<int32_t>& values) {
    Array array{shape, std::vector<float>(count(shape))};
    for (size_t i = 0; i < array.values.size(); ++i) {
        static_cast<int32_t*>(array.data())[i] = values[i % values.size()];
    }
    return array;
}

std::vector<Array> draw_each(int number, const Shape& shape, float scale = 1.0f) {
    std::vector<Array> arrays;
    for (int i = 0; i < number; ++i) arrays.push_back(draw(shape, scale));
    return arrays;
}

void* library;

// Inputs, then outputs, which stay for the next operator.
void call(const char* name, const std::vector<std::vector<Array>*>& groups) {
    std::vector<void*> data;
    std::vector<int> ranks;
    std::vector<int64_t*> shapes;
    for (std::vector<Array>* group : groups) {
        for (Array& array : *group) {
            data.push_back(array.data());
            ranks.push_back(static_cast<int>(array.shape.size()));
            shapes.push_back(array.shape.data());
        }
    }
    const auto run = reinterpret_cast<Operator>(dlsym(library, name));
    const int num = static_cast<int>(data.size());
    const int status = run ? run(num, data.data(), ranks.data(), shapes.data(), nullptr, nullptr, nullptr) : -1;
    if (status != 0) {
        std::fprintf(stderr, "%s returned %d\n", name, status);
        std::exit(1);
    }
    std::puts(name);
}

void call_convolution() {
    std::vector<Array> x{draw({2, 20, 20, 32})}, weights{draw({32, 32, 11, 11}, 0.1f)}, stride{draw({2, 1})};
    std::vector<Array> y{draw({2, 10, 20, 32})}, dx = x, dw = weights;
    call("ConvForward", {&x, &weights, &stride, &y});
    call("ConvInputGradient", {&y, &weights, &x, &stride, &dx});
    call("ConvWeightGradient", {&y, &x, &weights, &stride, &dw});
}

void call_matmul() {
    std::vector<Array> x{draw({40, 4, 128})}, weights{draw({512, 128}, 0.1f)}, y{draw({40, 4, 512})};
    std::vector<Array> dx = x, dw = weights;
    call("MatMulNT", {&x, &weights, &y});
    call("MatMulNN", {&y, &weights, &dx});
    call("MatMulTN", {&y, &x, &dw});
}

void call_norm() {
    std::vector<Array> x{draw({4, 20, 50, 32})}, y = x, dx = x, lengths{integers({4}, {50, 43, 50, 20})};
    std::vector<Array> gamma{draw({32})}, beta{draw({32})}, settings{draw({3})};
    std::vector<Array> moments = draw_each(2, {32}), gradients = moments;
    settings[0].values = {1e-5f, 0.0f, 20.0f};
    call("NormForward", {&x, &lengths, &gamma, &beta, &settings, &y, &moments});
    call("NormBackward", {&x, &x, &y, &lengths, &gamma, &moments, &settings, &dx, &gradients});
    call("NormScale", {&x, &lengths, &gamma, &beta, &settings, &moments, &y});
}

void call_lookahead() {
    std::vector<Array> x{draw({50, 4, 128})}, weight{draw({128, 1, 1, 20})}, lengths{integers({4}, {50, 43, 50, 20})};
    std::vector<Array> y = x, dx = x, dweight = weight;
    call("LookaheadForward", {&x, &weight, &lengths, &y});
    call("LookaheadBackward", {&y, &x, &weight, &lengths, &dx, &dweight});
}

void call_ctc() {
    std::vector<Array> logits{draw({100, 4, 29}, 3.0f)}, lengths{integers({4}, {100, 90, 100, 60})};
    std::vector<Array> labels{integers({4, 20}, {1, 5, 7, 7, 28, 3, 2})}, num_labels{integers({4}, {20, 15, 20, 5})};
    std::vector<Array> blank{integers({1}, {0})}, losses{draw({4})}, gradient = logits;
    call("CtcLoss", {&logits, &lengths, &labels, &num_labels, &blank, &losses, &gradient});
}

void call_recurrent(const std::string& prefix, int64_t num_gates) {
    const int64_t S = 40, B = 4, H = 128;
    const bool is_lstm = num_gates == 4;
    std::vector<Array> projected = draw_each(2, {S, B, num_gates * H}), weights = draw_each(2, {num_gates * H, H}, 0.1f);
    std::vector<Array> biases = draw_each(4, {num_gates * H}), lengths{integers({B}, {40, 31, 40, 12})};
    std::vector<Array> y{draw({S, B, H})}, gates = draw_each(2, {S, B, 4 * H}), previous = draw_each(2, {S, B, H});
    std::vector<Array> cells = draw_each(is_lstm ? 2 : 0, {S, B, H}), gradients = projected;
    if (!is_lstm) gradients.insert(gradients.end(), projected.begin(), projected.end());
    call((prefix + "Inference").c_str(), {&projected, &weights, &biases, &lengths, &y});
    call((prefix + "Forward").c_str(), {&projected, &weights, &biases, &lengths, &y, &gates, &cells, &previous});
    std::vector<Array>& memory = is_lstm ? cells : previous;
    call((prefix + "Backward").c_str(), {&y, &weights, &gates, &memory, &lengths, &gradients});
}

void call_int8(const std::string& kind, int64_t num_gates) {
    const int64_t S = 40, B = 4, H = 128;
    const auto count_packed = reinterpret_cast<int64_t (*)(int64_t, int64_t, int64_t)>(dlsym(library, "ds2_count_int8"));
    std::vector<Array> x{draw({S, B, H})}, weights{draw({num_gates * H, H}, 0.1f)}, scales{draw({num_gates * H})};
    std::vector<Array> packed{draw({count_packed(H, H, num_gates)})}, projected{draw({S, B, num_gates * H})};
    std::vector<Array> biases = draw_each(num_gates == 4 ? 1 : 2, {num_gates * H});
    std::vector<Array> y{draw({S, B, H})}, lengths{integers({B}, {40, 31, 40, 12})};
    call(("Int8" + kind + "Pack").c_str(), {&weights, &packed, &scales});
    call(("Int8" + kind + "Projection").c_str(), {&x, &packed, &scales, &projected});
    call(("Int8" + kind + "1Inference").c_str(), {&projected, &packed, &scales, &biases, &lengths, &y});
}

}  // namespace

int main(int argc, char** argv) {
    library = argc == 3 ? dlopen(argv[1], RTLD_NOW) : nullptr;
    if (library == nullptr) {
        std::fprintf(stderr, "usage: call_kernels LIBRARY LEVEL (%s)\n", argc == 3 ? dlerror() : "two arguments");
        return 1;
    }
    const auto set_isa = reinterpret_cast<int (*)(int)>(dlsym(library, "ds2_set_isa"));
    if (set_isa(std::atoi(argv[2])) != 0) return 2;
    call_convolution();
    call_matmul();
    call_norm();
    call_lookahead();
    call_ctc();
    call_recurrent("Lstm2", 4);
    call_recurrent("Gru2", 3);
    call_int8("Lstm", 4);
    call_int8("Gru", 3);
    return 0;
}
