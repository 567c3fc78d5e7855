// A kernel as lines of taps, and the maps it meets as lines in the same direction.
#pragma once
#include "plane.h"

namespace sw::cpu::SW_INSTRUCTION_SET {

// A depthwise kernel of `thickness` lines of `length` taps, on maps of `count` lines of `extent` positions.
struct StripeGeometry {
    bool vertical;                  // the direction of its lines on a map
    int64_t count, extent;
    int64_t length, anchor;         // along the lines
    int64_t thickness, centre;      // across them
    int64_t first, across, along;   // where the taps lie among each channel's

    // The stripe of the transposed convolution.
    StripeGeometry transposed() const {
        return {vertical, count, extent, length, length - 1 - anchor, thickness, thickness - 1 - centre,
                size() - 1, -across, -along};
    }

    int64_t size() const { return thickness * length; }

    template <class T>
    LinesView<T> taps(Vector<T>* packed) const {
        return {reinterpret_cast<T*>(packed + first), across * lanes<T>, along * lanes<T>, thickness, nullptr};
    }

    template <class T>
    LinesView<T> lines(const PlaneView<T>& plane, Vector<T>* outside) const {
        const int64_t r = plane.row_step, q = plane.column_step;
        return {plane.data, vertical ? q : r, vertical ? r : q, count, reinterpret_cast<T*>(outside)};
    }
};

inline StripeGeometry horizontal_geometry(const StripeProblem& p) {
    return {false, p.height, p.width, p.length, p.anchor, p.thickness, p.thickness / 2, 0, p.length, 1};
}

inline StripeGeometry vertical_geometry(const StripeProblem& p) {
    return {true, p.width, p.height, p.length, p.anchor, p.thickness, p.thickness / 2, 0, 1, p.thickness};
}

// The square kernel is a stripe as long as it is thick.
inline StripeGeometry square_geometry(const StripeProblem& p) {
    return {false, p.height, p.width, p.thickness, p.thickness / 2, p.thickness, p.thickness / 2, 0, p.thickness, 1};
}

}  // namespace sw::cpu::SW_INSTRUCTION_SET
