// What every operator called by MindSpore needs: the signature of its functions, and checks of shapes.
//
// An operator X exports X, which computes and returns 0 (anything else is an error), XInferShape and XInferType, in the
// forms that MindSpore's AOT interface reads. Open dimensions are -1 when shapes are inferred.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

#ifdef __clang__  // C names with C++ types are what MindSpore's interface asks for
#pragma clang diagnostic ignored "-Wreturn-type-c-linkage"
#endif

#define DS2_EXPORT extern "C" __attribute__((visibility("default")))

namespace mindspore {
enum TypeId : int {};
}

namespace ds2 {

using Shape = std::vector<int64_t>;

struct Call {
    int num_arrays;  // inputs, then outputs
    void** arrays;
    const int* ranks;
    int64_t* const* shapes;

    const float* input(int i) const { return static_cast<const float*>(arrays[i]); }
    const int32_t* integers(int i) const { return static_cast<const int32_t*>(arrays[i]); }
    float* output(int i) const { return static_cast<float*>(arrays[i]); }

    bool has_shape(int i, std::initializer_list<int64_t> shape) const {
        if (ranks[i] != static_cast<int>(shape.size())) return false;
        const int64_t* actual = shapes[i];
        for (int64_t expected : shape) {
            if (*actual++ != expected) return false;
        }
        return true;
    }
};

}  // namespace ds2
