// One session: load a model, run it, time it, save its outputs, say what happened.
#define _GNU_SOURCE
#include "session.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "clock.h"
#include "failure.h"
#include "memory.h"
#include "messages.h"
#include "npy.h"
#include "runtime.h"
#include "samples.h"
#include "timed_loop.h"

enum { PROTOCOL = 2 };

static const struct Runtime *const RUNTIMES[] = {&ONNXRUNTIME, &OPENVINO, &LITERT};

static const struct Options *greeting;  // of the session whose runtime is being opened

void say_hello(const char *runtime, const char *library, const char *version) {
    struct utsname machine;
    uname(&machine);
    struct Line line;
    begin_line(&line, "hello");
    add_integer(&line, "protocol", PROTOCOL);
    add_text(&line, "agent", "c");
    add_text(&line, "runtime", runtime);
    add_null(&line, "package");
    add_text(&line, "library", library);
    add_text(&line, "runtime_version", version);
    add_null(&line, "python");
    add_text(&line, "machine", machine.machine);
    send_line(&line);
}

static void say_hello_without_version(void) {
    say_hello(greeting->runtime, greeting->library, NULL);
}

static const struct Runtime *open_runtime(const struct Options *options) {
    size_t i = 0;
    while (strcmp(RUNTIMES[i]->name, options->runtime))
        i++;
    char version[VERSION_BYTES] = "";
    greeting = options;
    if_failing(say_hello_without_version);
    RUNTIMES[i]->open(options->library, version);
    if_failing(NULL);
    say_hello(options->runtime, options->library, *version ? version : NULL);
    return RUNTIMES[i];
}

static void pin(const struct Options *options) {
    if (!options->pinned)
        return;
    cpu_set_t used;  // the kernel passes over those that do not exist
    CPU_ZERO(&used);
    if (sched_setaffinity(0, sizeof options->cpus, &options->cpus) == 0)
        sched_getaffinity(0, sizeof used, &used);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &options->cpus) && !CPU_ISSET(cpu, &used))
            fail(USAGE, "--affinity: CPU %zu cannot be used here", cpu);
}

static void tell_seconds(const char *type, double seconds) {
    struct Line line;
    begin_line(&line, type);
    add_seconds(&line, "seconds", seconds);
    send_line(&line);
}

static void tell_memory(int64_t before_load_bytes, int64_t arena_bytes) {
    struct Line line;
    begin_line(&line, "memory");
    add_integer(&line, "peak_rss_bytes", resident_bytes("VmHWM"));
    add_integer(&line, "rss_before_load_bytes", before_load_bytes);
    if (arena_bytes == UNKNOWN_BYTES)
        add_null(&line, "arena_bytes");
    else
        add_integer(&line, "arena_bytes", arena_bytes);
    send_line(&line);
}

static struct Model *ready_model(const struct Runtime *runtime, const struct Options *options, struct Samples *samples,
                                 bool profiled) {
    struct Model *model = runtime->load(options, profiled);
    fit_samples(samples, model);
    runtime->bind(model);
    put_sample(samples, 0, model);
    return model;
}

static struct Model *first_model(const struct Runtime *runtime, const struct Options *options,
                                 struct Samples *samples) {
    double began_s = now_s();
    struct Model *model = runtime->load(options, false);
    tell_seconds("init", now_s() - began_s);
    fit_samples(samples, model);
    if (options->outputs.count > model->output_count)
        fail(BAD_INPUT, "--outputs was given %zu times; outputs of the model: %zu", options->outputs.count,
             model->output_count);
    runtime->bind(model);
    put_sample(samples, 0, model);
    tell_seconds("first", timed_run(runtime, model));
    return model;
}

static void save_outputs(const struct Runtime *runtime, const struct Options *options, const struct Samples *samples,
                         struct Model *model) {
    size_t count = options->outputs.count;
    struct ArrayWriter **writers = allocate(count, sizeof *writers);
    for (size_t i = 0; i < count; i++)
        writers[i] = create_array(options->outputs.items[i]);
    for (size_t sample = 0; sample < sample_count(samples); sample++) {
        put_sample(samples, sample, model);
        runtime->run(model);
        for (size_t i = 0; i < count; i++) {
            struct Tensor values = runtime->output(model, i);
            append_array(writers[i], &values);
        }
    }
    for (size_t i = 0; i < count; i++)
        finish_array(writers[i]);
    free(writers);
}

static int64_t arenas_bytes(const struct Runtime *runtime, struct Model **models, int count) {
    int64_t sum = 0;
    for (int i = 0; i < count; i++) {
        int64_t bytes = models[i] ? runtime->arena_bytes(models[i]) : 0;
        if (bytes == UNKNOWN_BYTES)
            return UNKNOWN_BYTES;
        sum += bytes;
    }
    return sum;
}

static void report_graph(const struct Runtime *runtime, const struct Options *options, struct Samples *samples) {
    struct Graph graph = {0};
    struct Model *model = ready_model(runtime, options, samples, true);
    timed_run(runtime, model);
    runtime->graph(model, &graph);
    tell_graph(&graph, options->precision);
    free_graph(&graph);
    runtime->unload(model);
}

void run_session(const struct Options *options) {
    pin(options);
    const struct Runtime *runtime = open_runtime(options);
    start_heartbeat();
    require_file(options->model);
    struct Samples *samples = open_samples(options);
    int64_t before_load_bytes = resident_bytes("VmRSS");
    struct Model **models = allocate((size_t)options->streams, sizeof *models);

    models[0] = first_model(runtime, options, samples);
    if (options->iterations > 0 || options->min_duration_s > 0) {
        for (int i = 1; i < options->streams; i++)
            models[i] = ready_model(runtime, options, samples, false);
        timed_loop(runtime, options, samples, models);
    }
    if (options->outputs.count)
        save_outputs(runtime, options, samples, models[0]);
    tell_memory(before_load_bytes, arenas_bytes(runtime, models, options->streams));

    for (int i = 0; i < options->streams; i++)
        if (models[i])
            runtime->unload(models[i]);
    if (options->graph)
        report_graph(runtime, options, samples);
    free(models);
    free_samples(samples);
    runtime->close();
    stop_heartbeat();
    struct Line line;
    begin_line(&line, "done");
    send_line(&line);
}

void free_inputs(struct Model *model) {
    for (size_t i = 0; i < model->input_count; i++) {
        free(model->inputs[i].name);
        free(model->inputs[i].data);
    }
    free(model->inputs);
}
