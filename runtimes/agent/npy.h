// Arrays in numpy's .npy files: read piece by piece, written whole or not at all.
#ifndef NPY_H
#define NPY_H

#include <sys/types.h>

#include "tensor.h"

// An array that stays in its file: what was read of it is in no cache of ours, so it does not count as our memory.
struct ArrayFile {
    const char *path;
    int file;
    enum Dtype dtype;
    struct Shape shape;
    off_t data_at;
};

// Fails as MISSING_FILE or BAD_INPUT, the latter too when the file is shorter than its header says.
struct ArrayFile open_array(const char *path);

// Reads `bytes` bytes that begin `offset` bytes into the data.
void read_array(const struct ArrayFile *array, size_t offset, void *data, size_t bytes);
void close_array(struct ArrayFile *array);

// An array being written, `PATH.part` until it is finished.
struct ArrayWriter;

struct ArrayWriter *create_array(const char *path);

// Appends the values along axis 0; a value without axes becomes one item. Fails as RUNTIME_FAILED where dtype or other
// axes differ from those of the values before, WRITE_FAILED where the disk does.
void append_array(struct ArrayWriter *writer, const struct Tensor *values);

// Writes the header, gives the file its name, and tells what was saved in an `outputs` message.
void finish_array(struct ArrayWriter *writer);

#endif
