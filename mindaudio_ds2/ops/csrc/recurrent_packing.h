// Recurrent weights as the products of recurrent.h read them, each thread its own share.
#pragma once

#include <algorithm>

#include "float32.h"

namespace ds2::ISA {

// The hidden units of one thread, in vectors, and their number in all.
struct Share {
    int64_t begin, end, all;

    Share(int64_t num_hidden, int thread, int num_threads) {
        all = (num_hidden + kLanes - 1) / kLanes;
        begin = all * thread / num_threads;
        end = all * (thread + 1) / num_threads;
    }
};

// Panels of kLanes hidden units with all their gates, [unit vector][element of k < H][gate][lane].
template <typename Product, int G>
void pack_forward(const float* weights, int64_t num_hidden, const Share& share, float* packed) {
    const int64_t panel_floats = count_elements<Product>(num_hidden) * G * kLanes;
    for (int64_t vector = share.begin; vector < share.end; ++vector) {
        for (int gate = 0; gate < G; ++gate) {
            const int64_t unit = vector * kLanes;
            Product::pack_lines(weights + (gate * num_hidden + unit) * num_hidden, num_hidden, num_hidden - unit,
                                num_hidden, packed + vector * panel_floats + gate * kLanes, G * kLanes);
        }
    }
}

template <typename Product, typename Cell>
void pack_all(const float* weights, int64_t num_hidden, float* packed) {
    pack_forward<Product, Cell::kGates>(weights, num_hidden, Share(num_hidden, 0, 1), packed);
}

// The panels of a thread's share: as few as hold it, of nearly the same number of vectors.
struct Panels {
    Share share;
    int64_t count;

    explicit Panels(const Share& of) : share(of), count((of.end - of.begin + kMaxVectors - 1) / kMaxVectors) {}

    int64_t begin(int64_t panel) const { return share.begin + (share.end - share.begin) * panel / count; }
    int num_vectors(int64_t panel) const { return static_cast<int>(begin(panel + 1) - begin(panel)); }
};

// The weights transposed: panels of hidden units that the gradient goes to, [element of k = gate, unit][column]; both
// kinds of unit are rounded up to vectors with zeros, and the elements to what the product takes at once.
template <typename Product, int G>
void pack_backward(const float* weights, int64_t num_hidden, const Panels& panels, float* packed) {
    const int64_t rounded = panels.share.all * kLanes, num_elements = count_elements<Product>(G * rounded);
    for (int64_t panel = 0; panel < panels.count; ++panel) {
        const int64_t first = panels.begin(panel) * kLanes, width = panels.num_vectors(panel) * kLanes;
        const int64_t num_real = std::min(width, num_hidden - first);
        float* out = packed + first * num_elements;
        for (int gate = 0; gate < G; ++gate) {
            for (int64_t unit = 0; unit < rounded; unit += Product::kDepth, out += width) {
                Product::pack_rows(weights + (gate * num_hidden + unit) * num_hidden + first, num_hidden,
                                   num_hidden - unit, num_real, out, width);
            }
        }
        set_zero(out, (num_elements - G * rounded / Product::kDepth) * width);
    }
}

}  // namespace ds2::ISA
