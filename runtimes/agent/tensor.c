// Tensors as the agent handles them: dtypes that both numpy and the runtimes know, shapes, host memory.
#include "tensor.h"

#include <stdio.h>

#include "failure.h"

const struct DtypeFacts DTYPE[DTYPES] = {
    [BOOL] = {"bool", "bool", "|b1", 1},       [INT8] = {"int8", "int8", "|i1", 1},
    [INT16] = {"int16", "int16", "<i2", 2},    [INT32] = {"int32", "int32", "<i4", 4},
    [INT64] = {"int64", "int64", "<i8", 8},    [UINT8] = {"uint8", "uint8", "|u1", 1},
    [UINT16] = {"uint16", "uint16", "<u2", 2}, [UINT32] = {"uint32", "uint32", "<u4", 4},
    [UINT64] = {"uint64", "uint64", "<u8", 8}, [FLOAT16] = {"float16", "fp16", "<f2", 2},
    [FLOAT32] = {"float32", "fp32", "<f4", 4}, [FLOAT64] = {"float64", "fp64", "<f8", 8},
};

bool count_values(const struct Shape *shape, size_t *values) {
    *values = 1;
    for (size_t axis = 0; axis < shape->rank; axis++)
        if (__builtin_mul_overflow(*values, (size_t)shape->sizes[axis], values) || *values > SIZE_MAX / 16)
            return false;
    return true;
}

size_t values_of(const struct Shape *shape) {
    char text[SHAPE_TEXT_BYTES];
    size_t values;
    if (!count_values(shape, &values))
        fail(OUT_OF_MEMORY, "a tensor of shape %s is larger than any memory", shape_text(text, shape));
    return values;
}

char *shape_text(char text[SHAPE_TEXT_BYTES], const struct Shape *shape) {
    size_t length = (size_t)sprintf(text, "[");
    for (size_t axis = 0; axis < shape->rank; axis++) {
        const char *comma = axis ? ", " : "";
        if (shape->sizes[axis] == OPEN)
            length += (size_t)sprintf(text + length, "%s?", comma);
        else
            length += (size_t)sprintf(text + length, "%s%lld", comma, (long long)shape->sizes[axis]);
    }
    sprintf(text + length, "]");
    return text;
}
