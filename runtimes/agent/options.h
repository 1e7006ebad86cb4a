// The command line, read strictly.
#ifndef OPTIONS_H
#define OPTIONS_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static const char CPU_PROVIDER[] = "CPUExecutionProvider";

struct Words {
    const char **items;
    size_t count;
};

// Durations are seconds, 0 where none was given; texts are NULL where none was given.
struct Options {
    const char *runtime, *model, *library, *precision, *log;
    struct Words inputs, outputs;
    bool seeded;
    uint64_t seed;
    int threads, streams;
    bool pinned;
    cpu_set_t cpus;
    int64_t iterations;
    double min_duration_s, max_duration_s;
    int64_t warmup;  // -1: until the times are steady
    bool graph;
    const char *provider;  // ONNX Runtime's own name for it
    bool no_fallback;
    struct Words samples;  // files to read, with `sample_command` the other way to use this program
    const char *sample_command;
    double period_s;
};

// Returns the options; fails as USAGE with the option and what was expected.
struct Options read_options(int count, char **words);
void free_options(struct Options *options);

#endif
