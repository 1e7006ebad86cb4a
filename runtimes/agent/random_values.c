// Random values that are the same bytes from every agent.
#include "random_values.h"

#include <string.h>

static uint64_t draw(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

// The nearest half-precision number, ties to even, to one in [-1, 1) that is 0 or at least 2^-23 away from it.
static uint16_t half_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    int exponent = (int)(bits >> 23 & 0xFF) - 127;
    if (exponent < -25)
        return sign;
    uint32_t significand = (bits & 0x7FFFFF) | 0x800000;
    int dropped = exponent < -14 ? 13 - 14 - exponent : 13;  // a subnormal half has fewer bits
    uint32_t kept = significand >> dropped, rest = significand & ((1u << dropped) - 1), tie = 1u << (dropped - 1);
    kept += rest > tie || (rest == tie && (kept & 1));
    // The leading bit of a normal number adds 1 to the exponent field, and so does one that rounding carries into it.
    uint32_t biased = exponent < -14 ? 0 : (uint32_t)(exponent + 14);
    return (uint16_t)(sign | ((biased << 10) + kept));
}

void fill_with_random_values(struct Tensor *tensor, uint64_t *state) {
    size_t bytes = DTYPE[tensor->dtype].bytes;
    for (size_t at = 0; at < tensor->bytes; at += bytes) {
        uint64_t z = draw(state);
        double real = (double)(z >> 40) * 0x1p-23 - 1;
        float single = (float)real;  // exact: 24 bits
        uint16_t half = half_of(single);
        uint8_t truth = z & 1;
        const void *value = tensor->dtype == FLOAT64   ? (const void *)&real
                            : tensor->dtype == FLOAT32 ? (const void *)&single
                            : tensor->dtype == FLOAT16 ? (const void *)&half
                            : tensor->dtype == BOOL    ? (const void *)&truth
                                                       : (const void *)&z;  // least byte first: its lowest bits
        memcpy((char *)tensor->data + at, value, bytes);
    }
}
