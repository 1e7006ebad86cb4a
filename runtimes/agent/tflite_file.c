// Whether a file is a whole TensorFlow Lite model: LiteRT does not look, and reads beyond the end of one cut short.
//
// The file is a flatbuffer: tables that point to each other by offsets. Every table, vector and text that the schema
// (tflite/schema/schema.fbs, version 3) puts into a model must lie inside the file. Options of operators are checked as
// far as they are numbers.
#define _GNU_SOURCE
#include "tflite_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "failure.h"

enum { MOST_FIELDS = 10 };

enum Kind { TEXT, NUMBERS, TABLE, TABLES };

struct Type;

// What a field of a table holds. `bytes`: of a number, or of each of several. Fields that are not listed are numbers.
struct Field {
    uint8_t number;
    uint8_t kind;
    uint8_t bytes;
    const struct Type *type;
};

struct Type {
    struct Field fields[MOST_FIELDS];
    size_t count;
};

static const struct Type ANY = {.count = 0};
static const struct Type OPERATOR_CODE = {{{1, TEXT, 1, NULL}}, 1};
static const struct Type QUANTIZATION = {
    {{0, NUMBERS, 4, NULL}, {1, NUMBERS, 4, NULL}, {2, NUMBERS, 4, NULL}, {3, NUMBERS, 8, NULL}, {5, TABLE, 0, &ANY}},
    5};
static const struct Type TENSOR = {{{0, NUMBERS, 4, NULL},
                                    {3, TEXT, 1, NULL},
                                    {4, TABLE, 0, &QUANTIZATION},
                                    {6, TABLE, 0, &ANY},
                                    {7, NUMBERS, 4, NULL}},
                                   5};
static const struct Type OPERATOR = {{{1, NUMBERS, 4, NULL},
                                      {2, NUMBERS, 4, NULL},
                                      {4, TABLE, 0, &ANY},
                                      {5, NUMBERS, 1, NULL},
                                      {7, NUMBERS, 1, NULL},
                                      {8, NUMBERS, 4, NULL},
                                      {12, TABLE, 0, &ANY}},
                                     7};
static const struct Type SUBGRAPH = {{{0, TABLES, 0, &TENSOR},
                                      {1, NUMBERS, 4, NULL},
                                      {2, NUMBERS, 4, NULL},
                                      {3, TABLES, 0, &OPERATOR},
                                      {4, TEXT, 1, NULL}},
                                     5};
static const struct Type BUFFER = {{{0, NUMBERS, 1, NULL}}, 1};
static const struct Type METADATA = {{{0, TEXT, 1, NULL}}, 1};
static const struct Type TENSOR_NAME = {{{0, TEXT, 1, NULL}}, 1};
static const struct Type SIGNATURE = {{{0, TABLES, 0, &TENSOR_NAME}, {1, TABLES, 0, &TENSOR_NAME}, {2, TEXT, 1, NULL}},
                                      3};
static const struct Type MODEL = {{{1, TABLES, 0, &OPERATOR_CODE},
                                   {2, TABLES, 0, &SUBGRAPH},
                                   {3, TEXT, 1, NULL},
                                   {4, TABLES, 0, &BUFFER},
                                   {5, NUMBERS, 4, NULL},
                                   {6, TABLES, 0, &METADATA},
                                   {7, TABLES, 0, &SIGNATURE}},
                                  7};

struct Bytes {
    const unsigned char *start;
    size_t length;
};

static bool inside(const struct Bytes *file, size_t at, size_t bytes) {
    return at <= file->length && bytes <= file->length - at;
}

// Numbers in the file, least byte first; whoever asks has made sure that they are inside.
static uint32_t number_at(const struct Bytes *file, size_t at, size_t bytes) {
    uint32_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint32_t)file->start[at + i] << 8 * i;
    return value;
}

// Where the offset at `at` points to, 0 if that is outside.
static size_t target_of(const struct Bytes *file, size_t at) {
    if (!inside(file, at, 4))
        return 0;
    size_t target = at + number_at(file, at, 4);
    return inside(file, target, 4) ? target : 0;
}

static bool whole_vector(const struct Bytes *file, size_t at, size_t bytes) {
    return at && inside(file, at + 4, (size_t)number_at(file, at, 4) * bytes);
}

static bool whole_table(const struct Bytes *file, size_t at, const struct Type *type);

static bool whole_field(const struct Bytes *file, size_t at, const struct Field *field) {
    size_t target = target_of(file, at);
    if (field->kind == TABLE)
        return target && whole_table(file, target, field->type);
    if (field->kind != TABLES)
        return whole_vector(file, target, field->bytes);
    if (!whole_vector(file, target, 4))
        return false;
    uint32_t count = number_at(file, target, 4);
    for (uint32_t i = 0; i < count; i++) {
        size_t table = target_of(file, target + 4 + (size_t)i * 4);
        if (!table || !whole_table(file, table, field->type))
            return false;
    }
    return true;
}

// A table begins with the distance back to its list of fields: the list's length, the table's, and where each field is.
static bool whole_table(const struct Bytes *file, size_t at, const struct Type *type) {
    int64_t back = (int32_t)number_at(file, at, 4);
    if ((int64_t)at < back || !inside(file, (size_t)((int64_t)at - back), 4))
        return false;
    size_t list = (size_t)((int64_t)at - back);
    size_t list_bytes = number_at(file, list, 2), bytes = number_at(file, list + 2, 2);
    if (list_bytes < 4 || !inside(file, list, list_bytes) || bytes < 4 || !inside(file, at, bytes))
        return false;
    for (size_t i = 0; i < type->count; i++) {
        size_t entry = 4 + 2 * (size_t)type->fields[i].number;
        size_t offset = entry + 2 <= list_bytes ? number_at(file, list + entry, 2) : 0;
        if (offset && (offset + 4 > bytes || !whole_field(file, at + offset, &type->fields[i])))
            return false;
    }
    return true;
}

void check_tflite_file(const char *path) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    struct stat facts;
    if (descriptor < 0 || fstat(descriptor, &facts))
        fail(UNREADABLE_MODEL, "%s: %s", path, strerror(errno));
    struct Bytes file = {.length = (size_t)facts.st_size};
    void *mapped = file.length ? mmap(NULL, file.length, PROT_READ, MAP_PRIVATE, descriptor, 0) : MAP_FAILED;
    close(descriptor);
    file.start = mapped;
    bool named = mapped != MAP_FAILED && file.length >= 8 && !memcmp(file.start + 4, "TFL3", 4);
    size_t root = named ? target_of(&file, 0) : 0;
    bool whole = root && whole_table(&file, root, &MODEL);
    if (mapped != MAP_FAILED)
        munmap(mapped, file.length);
    if (!named)
        fail(UNREADABLE_MODEL, "%s is no TensorFlow Lite model: it does not say TFL3 at its beginning", path);
    if (!whole)
        fail(UNREADABLE_MODEL, "%s is damaged or cut short: a part of it would lie outside the file", path);
}
