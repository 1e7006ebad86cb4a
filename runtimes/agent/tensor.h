// Tensors as the agent handles them: dtypes that both numpy and the runtimes know, shapes, host memory.
#ifndef TENSOR_H
#define TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LARGEST_RANK = 32, OPEN = -1 };

enum Dtype {
    NO_DTYPE,
    BOOL,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    DTYPES
};

// A dtype's name in numpy and as a precision in `graph`, its code in a .npy file, and its size.
struct DtypeFacts {
    const char *name, *precision, *npy;
    size_t bytes;
};
extern const struct DtypeFacts DTYPE[DTYPES];

struct Shape {
    size_t rank;
    int64_t sizes[LARGEST_RANK];  // OPEN where the model leaves it to the input
};

// `bytes` and `data` of an input are there once its shape is bound.
struct Tensor {
    char *name;
    enum Dtype dtype;
    struct Shape shape;
    size_t bytes;
    void *data;
};

// Counts the values of a known shape; false where they are more than any memory can hold.
bool count_values(const struct Shape *shape, size_t *values);

// The number of values; fails as OUT_OF_MEMORY where no memory can hold them.
size_t values_of(const struct Shape *shape);

// "[1, 3, 16, ?]" into `text`, which is returned.
enum { SHAPE_TEXT_BYTES = 24 * LARGEST_RANK };
char *shape_text(char text[SHAPE_TEXT_BYTES], const struct Shape *shape);

#endif
