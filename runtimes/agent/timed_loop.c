// The timed loop: warm-up, raw times, several streams side by side.
#define _GNU_SOURCE
#include "timed_loop.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "failure.h"
#include "messages.h"
#include "region.h"

enum { TIMES_AT_ONCE = 4096 };
static const double WARM_UP_LIMIT_S = 2.0, STEADY = 0.95, REPORT_EVERY_S = 0.5;

struct Loop {
    const struct Runtime *runtime;
    const struct Options *options;
    const struct Samples *samples;
    atomic_llong begun;  // inferences of all streams
    double began_s, began_unix_s;
    pthread_barrier_t start;
};

struct Stream {
    struct Loop *loop;
    struct Model *model;
    pthread_t thread;
    size_t next;  // the sample
    double ended_s, told_s;
    size_t count;
    double times_s[TIMES_AT_ONCE];
};

double timed_run(const struct Runtime *runtime, struct Model *model) {
    mark_region(REGION_BEGIN);
    double began_s = now_s();
    runtime->run(model);
    double ended_s = now_s();
    mark_region(REGION_END);
    return ended_s - began_s;
}

static double next_time_s(struct Stream *stream) {
    put_sample(stream->loop->samples, stream->next, stream->model);
    stream->next = (stream->next + 1) % sample_count(stream->loop->samples);
    return timed_run(stream->loop->runtime, stream->model);
}

static double median_of_three(double a, double b, double c) {
    return fmax(fmin(a, b), fmin(fmax(a, b), c));
}

// As many inferences as asked for, or groups of three until one is less than 5 % faster than the last.
static void warm_up(struct Stream *stream) {
    double until_s = now_s() + WARM_UP_LIMIT_S, before_s = INFINITY;
    int64_t asked = stream->loop->options->warmup;
    for (int64_t i = 0; i < asked; i++)
        next_time_s(stream);
    while (asked < 0) {
        double group_s[3];
        for (int i = 0; i < 3; i++) {
            group_s[i] = next_time_s(stream);
            if (now_s() >= until_s)
                return;
        }
        double median_s = median_of_three(group_s[0], group_s[1], group_s[2]);
        if (median_s > STEADY * before_s)
            return;
        before_s = median_s;
    }
}

static void tell_times(struct Stream *stream) {
    struct Line line;
    begin_line(&line, "time");
    open_list(&line, "seconds");
    for (size_t i = 0; i < stream->count; i++)
        add_seconds(&line, NULL, stream->times_s[i]);
    close_list(&line);
    send_line(&line);
    stream->count = 0;
    stream->told_s = now_s();
}

static bool goes_on(struct Loop *loop) {
    const struct Options *options = loop->options;
    double passed_s = now_s() - loop->began_s;
    long long before = atomic_fetch_add(&loop->begun, 1);
    bool enough = before >= options->iterations && passed_s >= options->min_duration_s;
    bool late = options->max_duration_s > 0 && passed_s >= options->max_duration_s;
    if (before && (enough || late)) {
        atomic_fetch_sub(&loop->begun, 1);
        return false;
    }
    return true;
}

static void *run_stream(void *argument) {
    struct Stream *stream = argument;
    struct Loop *loop = stream->loop;
    warm_up(stream);
    // All begin together: one of them notes when, the others wait for that too.
    if (pthread_barrier_wait(&loop->start) == PTHREAD_BARRIER_SERIAL_THREAD) {
        loop->began_unix_s = unix_s();
        loop->began_s = now_s();
    }
    pthread_barrier_wait(&loop->start);
    stream->ended_s = stream->told_s = loop->began_s;
    while (goes_on(loop)) {
        stream->times_s[stream->count++] = next_time_s(stream);
        stream->ended_s = now_s();
        if (stream->count == TIMES_AT_ONCE || stream->ended_s - stream->told_s > REPORT_EVERY_S)
            tell_times(stream);
    }
    if (stream->count)
        tell_times(stream);
    return NULL;
}

static void tell_window(struct Loop *loop, const struct Stream *streams) {
    double ended_s = loop->began_s;
    for (int i = 0; i < loop->options->streams; i++)
        ended_s = fmax(ended_s, streams[i].ended_s);
    struct Line line;
    begin_line(&line, "window");
    add_seconds(&line, "began_s", loop->began_s);
    add_seconds(&line, "ended_s", ended_s);
    add_seconds(&line, "began_unix_s", loop->began_unix_s);
    add_integer(&line, "inferences", atomic_load(&loop->begun));
    send_line(&line);
}

void timed_loop(const struct Runtime *runtime, const struct Options *options, const struct Samples *samples,
                struct Model **models) {
    struct Loop loop = {.runtime = runtime, .options = options, .samples = samples};
    int count = options->streams;
    struct Stream *streams = allocate((size_t)count, sizeof *streams);
    pthread_barrier_init(&loop.start, NULL, (unsigned)count);
    for (int i = 0; i < count; i++) {
        streams[i].loop = &loop;
        streams[i].model = models[i];
    }
    for (int i = 1; i < count; i++) {
        int error = pthread_create(&streams[i].thread, NULL, run_stream, &streams[i]);
        if (error)
            fail(OUT_OF_MEMORY, "a thread cannot be started: %s", strerror(error));
    }
    run_stream(&streams[0]);
    for (int i = 1; i < count; i++)
        pthread_join(streams[i].thread, NULL);
    tell_window(&loop, streams);
    pthread_barrier_destroy(&loop.start);
    free(streams);
}
