// The timed loop: warm-up, raw times, several streams side by side.
#ifndef TIMED_LOOP_H
#define TIMED_LOOP_H

#include "options.h"
#include "runtime.h"
#include "samples.h"

// Seconds of one inference.
double timed_run(const struct Runtime *runtime, struct Model *model);

// Runs one stream a model as the options say, and sends `time` and `window`.
void timed_loop(const struct Runtime *runtime, const struct Options *options, const struct Samples *samples,
                struct Model **models);

#endif
