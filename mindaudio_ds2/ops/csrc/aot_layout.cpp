// From features to convolutions and from those to recurrent layers, with the gradients, as MindSpore operators.
//   FeaturesToLines: features (B, T, F), lengths (B,) int32 -> (B, F, T, 1), zero beyond the lengths
//   LinesToFeatures: (B, F, T, 1), lengths -> (B, T, F), zero beyond the lengths
//   LinesToSequence: (B, F, S, C) -> (S, B, C * F)
//   SequenceToLines: (S, B, C * F), an array whose shape counts alone, (B, F, S, C) -> like that
#include <algorithm>

#include "aot.h"

namespace ds2 {
namespace {

constexpr int64_t kSquare = 16;  // rows and columns of a matrix whose cache lines are read and written together

// columns (num_columns, num_rows) = the first rows of a matrix with num_columns columns, and zero beyond them.
void transpose(const float* rows, int64_t num_real, int64_t num_rows, int64_t num_columns, float* columns) {
    for (int64_t row = 0; row < num_real; row += kSquare) {
        for (int64_t column = 0; column < num_columns; ++column) {
            for (int64_t i = row; i < std::min(row + kSquare, num_real); ++i) {
                columns[column * num_rows + i] = rows[i * num_columns + column];
            }
        }
    }
    for (int64_t column = 0; column < num_columns; ++column) {
        std::fill(columns + column * num_rows + num_real, columns + (column + 1) * num_rows, 0.0f);
    }
}

// (B, T, F) to (B, F, T, 1), or back where `features` is the result.
int change_features(const Call& call, int features, int lines) {
    if (call.num_arrays != 3 || call.ranks[features] != 3) return 1;
    const int64_t *shape = call.shapes[features], B = shape[0], T = shape[1], F = shape[2];
    if (!call.has_shape(1, {B}) || !call.has_shape(lines, {B, F, T, 1})) return 1;
    const int32_t* lengths = call.integers(1);
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < B; ++b) {
        const int64_t num_real = std::clamp<int64_t>(lengths[b], 0, T), first = b * T * F;
        if (features == 0) {
            transpose(call.input(0) + first, num_real, T, F, call.output(2) + first);
        } else {
            transpose(call.input(0) + first, F, F, T, call.output(2) + first);
            std::fill_n(call.output(2) + first + num_real * F, (T - num_real) * F, 0.0f);
        }
    }
    return 0;
}

// (B, F, S, C) to (S, B, C * F), or back where `lines` is the result.
int change_sequence(const Call& call, int sequence, int lines) {
    if (call.ranks[lines] != 4 || call.ranks[sequence] != 3) return 1;
    const int64_t *shape = call.shapes[lines], B = shape[0], F = shape[1], S = shape[2], C = shape[3];
    if (!call.has_shape(sequence, {S, B, C * F})) return 1;
    const float* in = call.input(0);
    float* out = call.output(call.num_arrays - 1);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < S * B; ++i) {
        const int64_t s = i / B, b = i % B;
        for (int64_t f = 0; f < F; ++f) {
            const int64_t line = ((b * F + f) * S + s) * C, frame = i * C * F + f;
            for (int64_t c = 0; c < C; ++c) {
                if (lines == 0) {
                    out[frame + c * F] = in[line + c];
                } else {
                    out[line + c] = in[frame + c * F];
                }
            }
        }
    }
    return 0;
}

int64_t multiply(int64_t a, int64_t b) { return a < 0 || b < 0 ? -1 : a * b; }

}  // namespace
}  // namespace ds2

#define DS2_LAYOUT(name, body, shape)                                                                              \
    DS2_EXPORT int name(int nparam, void** params, int* ndims, int64_t** shapes, const char**, void*, void*) {     \
        const ds2::Call call{nparam, params, ndims, shapes};                                                       \
        return body;                                                                                               \
    }                                                                                                              \
    DS2_EXPORT ds2::Shape name##InferShape(int*, int64_t** shapes, void*) { return ds2::Shape shape; }             \
    DS2_EXPORT mindspore::TypeId name##InferType(std::vector<mindspore::TypeId> types, void*) { return types[0]; }

DS2_LAYOUT(FeaturesToLines, ds2::change_features(call, 0, 2), ({shapes[0][0], shapes[0][2], shapes[0][1], 1}))
DS2_LAYOUT(LinesToFeatures, ds2::change_features(call, 2, 0), ({shapes[0][0], shapes[0][2], shapes[0][1]}))
DS2_LAYOUT(LinesToSequence, call.num_arrays == 2 ? ds2::change_sequence(call, 1, 0) : 1,
           ({shapes[0][2], shapes[0][0], ds2::multiply(shapes[0][1], shapes[0][3])}))
DS2_LAYOUT(SequenceToLines, call.num_arrays == 3 ? ds2::change_sequence(call, 0, 2) : 1,
           ({shapes[1][0], shapes[1][1], shapes[1][2], shapes[1][3]}))
