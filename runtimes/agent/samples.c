// The samples a model is fed with: from arrays in files, or one that a seed gives.
#define _GNU_SOURCE
#include "samples.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "npy.h"
#include "random_values.h"

enum { ALIGNMENT = 64 };  // what the widest vector instructions and every runtime are content with

struct Samples {
    bool seeded;
    uint64_t seed;
    struct ArrayFile *arrays;
    size_t array_count, count;
};

struct Samples *open_samples(const struct Options *options) {
    struct Samples *samples = allocate(1, sizeof *samples);
    samples->seeded = options->seeded;
    samples->seed = options->seed;
    samples->count = 1;
    samples->arrays = allocate(options->inputs.count, sizeof *samples->arrays);
    for (; samples->array_count < options->inputs.count; samples->array_count++)
        samples->arrays[samples->array_count] = open_array(options->inputs.items[samples->array_count]);
    return samples;
}

static _Noreturn void misfit(const struct ArrayFile *array, const struct Tensor *input) {
    char has[SHAPE_TEXT_BYTES], takes[SHAPE_TEXT_BYTES];
    fail(BAD_INPUT, "%s has shape %s; the model's input %s takes %s, with samples along axis 0 or an axis before it",
         array->path, shape_text(has, &array->shape), input->name, shape_text(takes, &input->shape));
}

// Closes an input's open sizes with those of the array and returns how many samples of it the array holds.
static size_t fit_array(const struct ArrayFile *array, struct Tensor *input) {
    struct Shape *shape = &input->shape;
    size_t in_front = array->shape.rank - shape->rank;
    if (array->dtype != input->dtype)
        fail(BAD_INPUT, "%s is %s; the model's input %s takes %s", array->path, DTYPE[array->dtype].name, input->name,
             DTYPE[input->dtype].name);
    if (!array->shape.rank || in_front > 1)
        misfit(array, input);
    struct Shape wanted = *shape;
    if (!in_front && wanted.sizes[0] == OPEN)
        wanted.sizes[0] = 1;
    for (size_t axis = in_front ? 0 : 1; axis < wanted.rank; axis++) {
        if (wanted.sizes[axis] == OPEN)
            wanted.sizes[axis] = array->shape.sizes[axis + in_front];
        if (wanted.sizes[axis] != array->shape.sizes[axis + in_front])
            misfit(array, input);
    }
    int64_t rows = in_front ? 1 : wanted.sizes[0];
    if (rows < 1 || array->shape.sizes[0] < rows || array->shape.sizes[0] % rows)
        misfit(array, input);
    *shape = wanted;
    return (size_t)(array->shape.sizes[0] / rows);
}

static void close_for_seed(struct Tensor *input) {
    char text[SHAPE_TEXT_BYTES];
    if (input->shape.rank && input->shape.sizes[0] == OPEN)
        input->shape.sizes[0] = 1;
    for (size_t axis = 0; axis < input->shape.rank; axis++)
        if (input->shape.sizes[axis] == OPEN)
            fail(BAD_INPUT, "the model's input %s is open: %s; give its size with --inputs", input->name,
                 shape_text(text, &input->shape));
}

void fit_samples(struct Samples *samples, struct Model *model) {
    if (!samples->seeded && samples->array_count != model->input_count)
        fail(BAD_INPUT, "--inputs was given %zu times; inputs of the model: %zu", samples->array_count,
             model->input_count);
    for (size_t i = 0; i < model->input_count; i++) {
        struct Tensor *input = &model->inputs[i];
        size_t count = samples->count;
        if (samples->seeded)
            close_for_seed(input);
        else
            count = fit_array(&samples->arrays[i], input);
        if (i && count != samples->count)
            fail(BAD_INPUT, "%s holds %zu samples, %s %zu", samples->arrays[0].path, samples->count,
                 samples->arrays[i].path, count);
        samples->count = count;
        input->bytes = values_of(&input->shape) * DTYPE[input->dtype].bytes;
        size_t rounded = (input->bytes / ALIGNMENT + 1) * ALIGNMENT;
        input->data = aligned_alloc(ALIGNMENT, rounded);
        if (!input->data)
            fail(OUT_OF_MEMORY, "%zu bytes cannot be allocated for the input %s", rounded, input->name);
    }
}

size_t sample_count(const struct Samples *samples) {
    return samples->count;
}

void put_sample(const struct Samples *samples, size_t index, struct Model *model) {
    uint64_t state = samples->seed;
    for (size_t i = 0; i < model->input_count; i++) {
        struct Tensor *input = &model->inputs[i];
        if (samples->seeded)
            fill_with_random_values(input, &state);
        else
            read_array(&samples->arrays[i], index * input->bytes, input->data, input->bytes);
    }
}

void free_samples(struct Samples *samples) {
    for (size_t i = 0; i < samples->array_count; i++)
        close_array(&samples->arrays[i]);
    free(samples->arrays);
    free(samples);
}
