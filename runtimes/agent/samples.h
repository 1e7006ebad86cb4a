// The samples a model is fed with: from arrays in files, or one that a seed gives.
#ifndef SAMPLES_H
#define SAMPLES_H

#include "options.h"
#include "runtime.h"

struct Samples;

// Opens the arrays; fails as MISSING_FILE or BAD_INPUT.
struct Samples *open_samples(const struct Options *options);

// Compares the samples with the model's inputs, fills in the sizes the model leaves open, and gives every input memory;
// fails as BAD_INPUT. The model's runtime must `bind` it afterwards.
void fit_samples(struct Samples *samples, struct Model *model);

size_t sample_count(const struct Samples *samples);

// Puts one sample into the inputs of a model that the samples fit.
void put_sample(const struct Samples *samples, size_t index, struct Model *model);
void free_samples(struct Samples *samples);

#endif
