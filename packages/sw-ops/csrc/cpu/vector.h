// One channel per lane: vectors, their storage formats, and how they are loaded, stored and transposed.
// GCC's vector extensions, so that one source serves every instruction set.
//
// This and all that includes it is compiled once per instruction set, with SW_INSTRUCTION_SET (a namespace) and
// SW_VECTOR_BYTES defined. No function of the standard library may be used in it that the compiler might not inline: the
// linker keeps one copy of each, and it could be the one compiled for instructions that the machine at hand lacks.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#ifdef __F16C__
#include <immintrin.h>
#endif

#define SW_INLINE_LAMBDA __attribute__((always_inline))
#define SW_INLINE inline SW_INLINE_LAMBDA

namespace sw::cpu::SW_INSTRUCTION_SET {

template <class T, int Count>
struct VectorOf {
    typedef T type __attribute__((vector_size(sizeof(T) * Count)));
};

template <class T>
constexpr int lanes = SW_VECTOR_BYTES / static_cast<int>(sizeof(T));

template <class T>
using Vector = typename VectorOf<T, lanes<T>>::type;

template <int I>
struct Index {
    constexpr operator int() const { return I; }
};

template <class F, int... I>
SW_INLINE void unroll([[maybe_unused]] F f, std::integer_sequence<int, I...>) {
    (f(Index<I>{}), ...);
}

// f(Index<0>{}), f(Index<1>{}), ... written out by the compiler, so that arrays indexed by them live in registers.
template <int Count, class F>
SW_INLINE void unroll(F f) {
    unroll(f, std::make_integer_sequence<int, Count>{});
}

#if defined(__AVX512F__)
#define SW_REGISTER "+v"
#elif defined(__SSE2__)
#define SW_REGISTER "+x"
#elif defined(__aarch64__)
#define SW_REGISTER "+w"
#endif

// Keeps a vector in a register. The compiler would rather load it anew at each use, and a load waits for the stores
// before it whose addresses have the same lowest bits.
template <class V>
SW_INLINE void keep([[maybe_unused]] V& vector) {
#ifdef SW_REGISTER
    asm("" : SW_REGISTER(vector));
#endif
}

// The same, and never before what was kept in order before it: the compiler would rather load many vectors at once than
// leave their registers to others.
template <class V>
SW_INLINE void keep_in_order([[maybe_unused]] V& vector) {
#ifdef SW_REGISTER
    asm volatile("" : SW_REGISTER(vector));
#endif
}

struct BFloat16 {
    uint16_t bits;
};
struct Float16 {
    uint16_t bits;
};

template <class Storage>
using SumOf = std::conditional_t<std::is_same_v<Storage, double>, double, float>;

using Words = VectorOf<uint32_t, lanes<float>>::type;
using Halves = VectorOf<uint16_t, lanes<float>>::type;

template <class To, class From>
SW_INLINE To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

template <class Condition>
SW_INLINE Words select(Condition condition, Words yes, Words no) {
    const Words mask = bit_cast<Words>(condition);
    return (yes & mask) | (no & ~mask);
}

SW_INLINE Words splat(uint32_t word) { return Words{} + word; }

SW_INLINE Vector<float> widen(Halves halves, BFloat16) {
    return bit_cast<Vector<float>>(__builtin_convertvector(halves, Words) << 16);
}

SW_INLINE Vector<float> widen(Halves halves, Float16) {
#if defined(__F16C__) && SW_VECTOR_BYTES == 64
    return bit_cast<Vector<float>>(_mm512_cvtph_ps(bit_cast<__m256i>(halves)));
#elif defined(__F16C__) && SW_VECTOR_BYTES == 32
    return bit_cast<Vector<float>>(_mm256_cvtph_ps(bit_cast<__m128i>(halves)));
#else
    constexpr uint32_t exponent_shift = (127 - 15) << 23;
    const Words half = __builtin_convertvector(halves, Words);
    const Words magnitude = (half & 0x7fff) << 13;
    const Words normal = magnitude + exponent_shift;
    // A subnormal half is a fixed point number; adding and removing a float of the right exponent normalises it.
    const Words one = splat(exponent_shift + (1 << 23));
    const Words subnormal = bit_cast<Words>(bit_cast<Vector<float>>(magnitude + one) - bit_cast<Vector<float>>(one));
    const Words finite = select(magnitude < (1u << 23), subnormal, normal);
    return bit_cast<Vector<float>>(((half & 0x8000) << 16) |
                                   select(magnitude >= (31u << 23), normal + exponent_shift, finite));
#endif
}

// Both round to nearest, ties to even.
SW_INLINE Halves narrow(Vector<float> value, BFloat16) {
    const Words word = bit_cast<Words>(value);
    const Words rounded = (word + 0x7fff + ((word >> 16) & 1)) >> 16;
    return __builtin_convertvector(select(value != value, splat(0x7fc0), rounded), Halves);
}

SW_INLINE Halves narrow(Vector<float> value, Float16) {
    const Words word = bit_cast<Words>(value);
    const Words magnitude = word & 0x7fffffff;
    const Words normal = (magnitude - ((127u - 15) << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
    const Words half = splat(126 << 23);  // 0.5f: its last place is that of a subnormal half
    const Words subnormal = bit_cast<Words>(bit_cast<Vector<float>>(magnitude) + bit_cast<Vector<float>>(half)) - half;
    const Words finite = select(magnitude < (113u << 23), subnormal, normal);
    const Words infinite = select(value != value, splat(0x7e00), splat(0x7c00));
    return __builtin_convertvector(((word >> 16) & 0x8000) | select(magnitude >= (143u << 23), infinite, finite),
                                   Halves);
}

template <class Storage>
SW_INLINE Vector<SumOf<Storage>> load(const Storage* from) {
    if constexpr (sizeof(Storage) == 2) {
        Halves halves;
        std::memcpy(&halves, from, sizeof halves);
        return widen(halves, Storage{});
    } else {
        Vector<Storage> vector;
        std::memcpy(&vector, from, sizeof vector);
        return vector;
    }
}

template <class Storage>
SW_INLINE void store(Storage* to, Vector<SumOf<Storage>> vector) {
    if constexpr (sizeof(Storage) == 2) {
        const Halves halves = narrow(vector, Storage{});
        std::memcpy(to, &halves, sizeof halves);
    } else {
        std::memcpy(to, &vector, sizeof vector);
    }
}

// count < 2 * Piece elements, in pieces of fixed sizes: cheaper than a call of memcpy for so few.
template <int Piece, class Storage>
SW_INLINE void copy_few(Storage* to, const Storage* from, int count) {
    if constexpr (Piece > 0) {
        if (count & Piece) std::memcpy(to, from, Piece * sizeof(Storage));
        copy_few<Piece / 2>(to + (count & Piece), from + (count & Piece), count);
    }
}

template <class Storage>
SW_INLINE Vector<SumOf<Storage>> load(const Storage* from, int count) {
    constexpr int all = lanes<SumOf<Storage>>;
    if (count == all) return load(from);
    Storage few[all] = {};
    copy_few<all / 2>(few, from, count);
    return load(few);
}

// The elements that have the numbers I in (a, b): as many as there are in `a`, or fewer and all of them from `a`.
template <class Element, int... I, class V>
SW_INLINE auto shuffle(V a, [[maybe_unused]] V b) {
#if defined(__clang__) || __GNUC__ >= 12
    return __builtin_shufflevector(a, b, I...);
#else
    using Number = std::conditional_t<sizeof(Element) == 8, int64_t, int32_t>;
    using Few = typename VectorOf<Element, sizeof...(I)>::type;
    if constexpr (sizeof(Few) < sizeof(V)) {
        return Few{a[I]...};
    } else {
        return __builtin_shuffle(a, b, typename VectorOf<Number, sizeof...(I)>::type{I...});
    }
#endif
}

template <int First, class Element, int Count, int... K>
SW_INLINE auto part_of(typename VectorOf<Element, Count>::type vector, std::integer_sequence<int, K...>) {
    return shuffle<Element, (First + K)...>(vector, vector);
}

// The first `count` < Count elements, from registers: through memory they would be read before they are there.
template <class Element, int Count>
SW_INLINE void store_few(Element* to, typename VectorOf<Element, Count>::type vector, int count) {
    if constexpr (Count == 2) {
        if (count) *to = vector[0];
    } else {
        constexpr int half = Count / 2;
        using Half = typename VectorOf<Element, half>::type;
        Half low = part_of<0, Element, Count>(vector, std::make_integer_sequence<int, half>{});
        if (count & half) {
            std::memcpy(to, &low, sizeof low);
            to += half;
            low = part_of<half, Element, Count>(vector, std::make_integer_sequence<int, half>{});
        }
        store_few<Element, half>(to, low, count & (half - 1));
    }
}

template <class Storage>
SW_INLINE void store(Storage* to, Vector<SumOf<Storage>> vector, int count) {
    constexpr int all = lanes<SumOf<Storage>>;
    if (count == all) return store(to, vector);
    if constexpr (sizeof(Storage) == 2) {
        store_few<uint16_t, all>(&to->bits, narrow(vector, Storage{}), count);
    } else {
        store_few<Storage, all>(to, vector, count);
    }
}

// The numbers at these distances, each in its lane.
template <class Storage>
SW_INLINE Vector<SumOf<Storage>> load_from(const Storage* from, const int64_t* offsets) {
    if constexpr (sizeof(Storage) == 2) {
        Halves halves;
        unroll<lanes<float>>([&](auto i) SW_INLINE_LAMBDA { halves[int{i}] = from[offsets[i]].bits; });
        return widen(halves, Storage{});
    } else {
        Vector<Storage> vector;
        unroll<lanes<Storage>>([&](auto i) SW_INLINE_LAMBDA { vector[int{i}] = from[offsets[i]]; });
        return vector;
    }
}

// Nothing is stored of the lanes from `count` on.
template <class Storage>
SW_INLINE void store_to(Storage* to, const int64_t* offsets, Vector<SumOf<Storage>> vector, int count) {
    constexpr int all = lanes<SumOf<Storage>>;
    Storage few[all];
    store(few, vector);
    if (count == all) {
        unroll<all>([&](auto i) SW_INLINE_LAMBDA { to[offsets[i]] = few[i]; });
    } else {
        for (int c = 0; c < count; ++c) to[offsets[c]] = few[c];
    }
}

template <int Step, class T, int... K>
SW_INLINE Vector<T> low_halves(Vector<T> a, Vector<T> b, std::integer_sequence<int, K...>) {
    return shuffle<T, (K & Step ? lanes<T> + K - Step : K)...>(a, b);
}

template <int Step, class T, int... K>
SW_INLINE Vector<T> high_halves(Vector<T> a, Vector<T> b, std::integer_sequence<int, K...>) {
    return shuffle<T, (K & Step ? lanes<T> + K : K + Step)...>(a, b);
}

// Swaps the off-diagonal blocks of Step x Step elements, then those within the blocks.
template <class T, int Step = lanes<T> / 2>
SW_INLINE void transpose(Vector<T>* matrix) {
    if constexpr (Step > 0) {
        unroll<lanes<T>>([&](auto i) SW_INLINE_LAMBDA {
            constexpr int k = i;
            if constexpr ((k & Step) == 0) {
                const Vector<T> a = matrix[k], b = matrix[k + Step];
                constexpr auto all = std::make_integer_sequence<int, lanes<T>>{};
                matrix[k] = low_halves<Step, T>(a, b, all);
                matrix[k + Step] = high_halves<Step, T>(a, b, all);
            }
        });
        transpose<T, Step / 2>(matrix);
    }
}

// The first `count` numbers of `rows` rows in memory, one vector per row; zeros elsewhere.
template <class Storage>
SW_INLINE void load_matrix(const Storage* from, const int64_t* offsets, int rows, int count,
                           Vector<SumOf<Storage>>* matrix) {
    constexpr int all = lanes<SumOf<Storage>>;
    if (rows == all && count == all) {
        unroll<all>([&](auto i) SW_INLINE_LAMBDA {
            matrix[i] = load(from + offsets[i]);
        });
    } else {
        for (int r = 0; r < all; ++r) {
            matrix[r] = r < rows ? load(from + offsets[r], count) : Vector<SumOf<Storage>>{};
        }
    }
}

template <class Storage>
SW_INLINE void store_matrix(const Vector<SumOf<Storage>>* matrix, Storage* to, const int64_t* offsets, int rows,
                            int count) {
    constexpr int all = lanes<SumOf<Storage>>;
    if (rows == all && count == all) {
        unroll<all>([&](auto i) SW_INLINE_LAMBDA {
            store(to + offsets[i], matrix[i]);
        });
    } else {
        for (int r = 0; r < rows; ++r) store(to + offsets[r], matrix[r], count);
    }
}

}  // namespace sw::cpu::SW_INSTRUCTION_SET
