// Arrays in numpy's .npy files: read piece by piece, written whole or not at all.
#define _GNU_SOURCE
#include "npy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "failure.h"
#include "messages.h"

// A header of this size holds any shape of ours; numpy allows the spaces that fill it.
enum { MAGIC_BYTES = 8, WRITTEN_HEADER_BYTES = 1024, LARGEST_HEADER_BYTES = 64 * 1024 };
static const char MAGIC[] = "\x93NUMPY";

struct ArrayWriter {
    const char *path;
    char *part;
    FILE *file;
    enum Dtype dtype;
    struct Shape shape;  // axis 0 counts what was appended
    bool stacked;        // the values have no axes of their own
    struct ArrayWriter *next;
};
static struct ArrayWriter *unfinished;

static void read_at(const struct ArrayFile *array, off_t at, void *data, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        ssize_t got = pread(array->file, (char *)data + done, bytes - done, at + (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            fail(BAD_INPUT, "%s is no readable .npy array: %s", array->path, got ? strerror(errno) : "it is cut short");
        done += (size_t)got;
    }
}

// What follows `'key':` in the header's dictionary; fails where it is not there.
static const char *value_of(const struct ArrayFile *array, const char *header, const char *key) {
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s':", key);
    const char *at = strstr(header, quoted);
    if (!at)
        fail(BAD_INPUT, "%s is no readable .npy array: its header has no %s", array->path, key);
    at += strlen(quoted);
    return at + strspn(at, " ");
}

static enum Dtype dtype_of(const struct ArrayFile *array, const char *descr) {
    for (int dtype = NO_DTYPE + 1; dtype < DTYPES; dtype++) {
        const char *code = DTYPE[dtype].npy;
        size_t length = strlen(code);
        if (descr[0] == '\'' && !strncmp(descr + 1, code, length) && descr[1 + length] == '\'')
            return (enum Dtype)dtype;
    }
    fail(BAD_INPUT, "%s holds %.*s; numbers of a known dtype were expected, least byte first", array->path,
         (int)strcspn(descr, ",}"), descr);
}

static struct Shape shape_of(const struct ArrayFile *array, const char *tuple) {
    struct Shape shape = {0};
    const char *at = tuple + 1;
    size_t values;
    bool good = *tuple == '(';
    while (good && *(at += strspn(at, " ")) != ')') {
        char *end;
        errno = 0;
        long long size = strtoll(at, &end, 10);
        good = end != at && size >= 0 && !errno && shape.rank < LARGEST_RANK && (*end == ',' || *end == ')');
        if (good)
            shape.sizes[shape.rank++] = size;
        at = end + (*end == ',');
    }
    if (!good || !count_values(&shape, &values))
        fail(BAD_INPUT, "%s is no readable .npy array: its header's shape cannot be read", array->path);
    return shape;
}

static size_t header_length(struct ArrayFile *array) {
    unsigned char start[MAGIC_BYTES + 4];
    read_at(array, 0, start, sizeof start);
    bool long_form = start[6] > 1;
    if (memcmp(start, MAGIC, 6) || start[6] < 1 || start[6] > 3)
        fail(BAD_INPUT, "%s is no .npy array", array->path);
    const unsigned char *length = start + MAGIC_BYTES;
    array->data_at = MAGIC_BYTES + (long_form ? 4 : 2);
    return length[0] | (size_t)length[1] << 8 | (long_form ? (size_t)length[2] << 16 | (size_t)length[3] << 24 : 0);
}

struct ArrayFile open_array(const char *path) {
    require_file(path);
    struct ArrayFile array = {.path = path, .file = open(path, O_RDONLY | O_CLOEXEC)};
    if (array.file < 0)
        fail(BAD_INPUT, "%s: %s", path, strerror(errno));
    size_t length = header_length(&array);
    if (length > LARGEST_HEADER_BYTES)
        fail(BAD_INPUT, "%s is no readable .npy array: its header is too long", path);
    char *header = allocate(length + 1, 1);
    read_at(&array, array.data_at, header, length);
    array.data_at += (off_t)length;
    array.dtype = dtype_of(&array, value_of(&array, header, "descr"));
    array.shape = shape_of(&array, value_of(&array, header, "shape"));
    bool fortran = *value_of(&array, header, "fortran_order") == 'T';
    free(header);
    if (fortran && array.shape.rank > 1)
        fail(BAD_INPUT, "%s is stored column by column; save numpy.ascontiguousarray of it", path);
    struct stat facts;
    size_t bytes = values_of(&array.shape) * DTYPE[array.dtype].bytes;
    if (fstat(array.file, &facts) || facts.st_size < array.data_at || (size_t)(facts.st_size - array.data_at) < bytes)
        fail(BAD_INPUT, "%s is no readable .npy array: it is cut short", path);
    return array;
}

void read_array(const struct ArrayFile *array, size_t offset, void *data, size_t bytes) {
    read_at(array, array->data_at + (off_t)offset, data, bytes);
}

void close_array(struct ArrayFile *array) {
    close(array->file);
}

static void remove_parts(void) {
    for (struct ArrayWriter *writer = unfinished; writer; writer = writer->next)
        unlink(writer->part);
}

static _Noreturn void fail_writing(const struct ArrayWriter *writer) {
    fail(WRITE_FAILED, "%s: %s", writer->path, strerror(errno));
}

struct ArrayWriter *create_array(const char *path) {
    struct stat facts;
    if (!stat(path, &facts) && !S_ISREG(facts.st_mode))  // a rename would put the file in the place of a device
        fail(WRITE_FAILED, "%s is there already and no file", path);
    struct ArrayWriter *writer = allocate(1, sizeof *writer);
    writer->path = path;
    writer->part = allocate(strlen(path) + sizeof ".part", 1);
    sprintf(writer->part, "%s.part", path);
    writer->file = fopen(writer->part, "wbe");
    if (!writer->file)
        fail_writing(writer);
    writer->next = unfinished;
    unfinished = writer;
    if_failing(remove_parts);
    if (fseek(writer->file, WRITTEN_HEADER_BYTES, SEEK_SET))
        fail_writing(writer);
    return writer;
}

static bool continues(const struct ArrayWriter *writer, const struct Tensor *values) {
    const struct Shape *shape = &values->shape;
    if (writer->dtype != values->dtype || writer->stacked != !shape->rank ||
        writer->shape.rank != shape->rank + !shape->rank)
        return false;
    for (size_t axis = 1; axis < shape->rank; axis++)
        if (writer->shape.sizes[axis] != shape->sizes[axis])
            return false;
    return true;
}

void append_array(struct ArrayWriter *writer, const struct Tensor *values) {
    if (!writer->shape.rank) {  // the first ones say what the array is
        writer->dtype = values->dtype;
        writer->shape = values->shape;
        writer->stacked = !values->shape.rank;
        writer->shape.rank += writer->stacked;
        writer->shape.sizes[0] = 0;
    }
    if (!continues(writer, values)) {
        char text[SHAPE_TEXT_BYTES];
        fail(RUNTIME_FAILED, "%s: an output is %s %s, unlike those before it", writer->path, DTYPE[values->dtype].name,
             shape_text(text, &values->shape));
    }
    writer->shape.sizes[0] += writer->stacked ? 1 : values->shape.sizes[0];
    if (values->bytes && fwrite(values->data, values->bytes, 1, writer->file) != 1)
        fail_writing(writer);
}

// The dictionary that numpy reads, with a comma after every size as tuples of one need it.
static void write_header(struct ArrayWriter *writer) {
    char header[WRITTEN_HEADER_BYTES];
    memset(header, ' ', sizeof header);
    size_t dictionary = sizeof header - MAGIC_BYTES - 2;
    memcpy(header, MAGIC, 6);
    header[6] = 1;
    header[7] = 0;
    header[8] = (char)(dictionary & 0xFF);
    header[9] = (char)(dictionary >> 8);
    char *at = header + MAGIC_BYTES + 2;
    at += sprintf(at, "{'descr': '%s', 'fortran_order': False, 'shape': (", DTYPE[writer->dtype].npy);
    for (size_t axis = 0; axis < writer->shape.rank; axis++)
        at += sprintf(at, "%lld, ", (long long)writer->shape.sizes[axis]);
    at += sprintf(at, "), }");
    *at = ' ';
    header[sizeof header - 1] = '\n';
    if (fseek(writer->file, 0, SEEK_SET) || fwrite(header, 1, sizeof header, writer->file) != sizeof header)
        fail_writing(writer);
}

static void tell(const struct ArrayWriter *writer) {
    struct Line line;
    begin_line(&line, "outputs");
    add_text(&line, "path", writer->path);
    open_list(&line, "shape");
    for (size_t axis = 0; axis < writer->shape.rank; axis++)
        add_integer(&line, NULL, writer->shape.sizes[axis]);
    close_list(&line);
    add_text(&line, "dtype", DTYPE[writer->dtype].name);
    send_line(&line);
}

void finish_array(struct ArrayWriter *writer) {
    write_header(writer);
    if (fflush(writer->file) || fsync(fileno(writer->file)))
        fail_writing(writer);
    fclose(writer->file);
    if (rename(writer->part, writer->path))
        fail_writing(writer);
    struct ArrayWriter **link = &unfinished;
    while (*link != writer)
        link = &(*link)->next;
    *link = writer->next;
    if (!unfinished)
        if_failing(NULL);
    tell(writer);
    free(writer->part);
    free(writer);
}
