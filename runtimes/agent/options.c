// The command line, read strictly.
#define _GNU_SOURCE
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"

enum { MOST_THREADS = 1024 };
static const double SHORTEST_PERIOD_S = 0.001, LONGEST_S = 1e9;

enum Name {
    RUNTIME,
    MODEL,
    LIBRARY,
    PRECISION,
    INPUTS,
    SEED,
    THREADS,
    STREAMS,
    AFFINITY,
    ITERATIONS,
    MIN_DURATION,
    MAX_DURATION,
    WARMUP,
    OUTPUTS,
    GRAPH,
    PROVIDER,
    NO_FALLBACK,
    LOG,
    SAMPLE,
    SAMPLE_COMMAND,
    PERIOD,
    NAMES
};

static const struct option NAMED[] = {
    [RUNTIME] = {"runtime", required_argument, NULL, RUNTIME},
    [MODEL] = {"model", required_argument, NULL, MODEL},
    [LIBRARY] = {"library", required_argument, NULL, LIBRARY},
    [PRECISION] = {"precision", required_argument, NULL, PRECISION},
    [INPUTS] = {"inputs", required_argument, NULL, INPUTS},
    [SEED] = {"seed", required_argument, NULL, SEED},
    [THREADS] = {"threads", required_argument, NULL, THREADS},
    [STREAMS] = {"streams", required_argument, NULL, STREAMS},
    [AFFINITY] = {"affinity", required_argument, NULL, AFFINITY},
    [ITERATIONS] = {"iterations", required_argument, NULL, ITERATIONS},
    [MIN_DURATION] = {"min-duration-s", required_argument, NULL, MIN_DURATION},
    [MAX_DURATION] = {"max-duration-s", required_argument, NULL, MAX_DURATION},
    [WARMUP] = {"warmup", required_argument, NULL, WARMUP},
    [OUTPUTS] = {"outputs", required_argument, NULL, OUTPUTS},
    [GRAPH] = {"graph", no_argument, NULL, GRAPH},
    [PROVIDER] = {"provider", required_argument, NULL, PROVIDER},
    [NO_FALLBACK] = {"no-fallback", no_argument, NULL, NO_FALLBACK},
    [LOG] = {"log", required_argument, NULL, LOG},
    [SAMPLE] = {"sample", required_argument, NULL, SAMPLE},
    [SAMPLE_COMMAND] = {"sample-command", required_argument, NULL, SAMPLE_COMMAND},
    [PERIOD] = {"period-s", required_argument, NULL, PERIOD},
    [NAMES] = {0},
};

static int64_t whole_number(enum Name name, const char *text, int64_t least, int64_t most) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || errno || value < least || value > most)
        fail(USAGE, "--%s %s: a whole number from %lld to %lld was expected", NAMED[name].name, text, (long long)least,
             (long long)most);
    return value;
}

static uint64_t seed_of(const char *text) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || errno)
        fail(USAGE, "--seed %s: a whole number from 0 to 2^64 - 1 was expected", text);
    return value;
}

static double duration_s(enum Name name, const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (text[strspn(text, "0123456789.eE+-")] || end == text || *end || value < 0 || value > LONGEST_S)
        fail(USAGE, "--%s %s: a number of seconds up to %.0f was expected", NAMED[name].name, text, LONGEST_S);
    return value;
}

// "0,2-3" -> the set of processors 0, 2 and 3.
static cpu_set_t processors(const char *text) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    for (const char *at = text;;) {
        char *end;
        long first = strtol(at, &end, 10), last = first;
        bool good = isdigit((unsigned char)*at);
        if (good && *end == '-') {
            at = end + 1;
            last = strtol(at, &end, 10);
            good = isdigit((unsigned char)*at);
        }
        if (!good || last < first || last >= CPU_SETSIZE || (*end && *end != ','))
            fail(USAGE, "--affinity %s: processors such as `0,2-3` were expected", text);
        for (long cpu = first; cpu <= last; cpu++)
            CPU_SET((size_t)cpu, &cpus);
        if (!*end)
            return cpus;
        at = end + 1;
    }
}

static void append(struct Words *words, const char *word) {
    words->items = reallocate(words->items, words->count + 1, sizeof *words->items);
    words->items[words->count++] = word;
}

static const char *one_of(enum Name name, const char *text, const char *const *choices, const char *expected) {
    for (; *choices; choices++)
        if (!strcmp(text, *choices))
            return text;
    fail(USAGE, "--%s %s: %s was expected", NAMED[name].name, text, expected);
}

static void take(struct Options *options, enum Name name, const char *text) {
    static const char *const RUNTIMES[] = {"onnxruntime", "openvino", "litert", NULL};
    static const char *const PRECISIONS[] = {"fp32", "fp16", "int8", NULL};
    switch (name) {
    case RUNTIME: options->runtime = one_of(name, text, RUNTIMES, "onnxruntime, openvino or litert"); break;
    case MODEL: options->model = text; break;
    case LIBRARY: options->library = text; break;
    case PRECISION: options->precision = one_of(name, text, PRECISIONS, "fp32, fp16 or int8"); break;
    case INPUTS: append(&options->inputs, text); break;
    case SEED:
        options->seed = seed_of(text);
        options->seeded = true;
        break;
    case THREADS: options->threads = (int)whole_number(name, text, 1, MOST_THREADS); break;
    case STREAMS: options->streams = (int)whole_number(name, text, 1, MOST_THREADS); break;
    case AFFINITY:
        options->cpus = processors(text);
        options->pinned = true;
        break;
    case ITERATIONS: options->iterations = whole_number(name, text, 0, INT64_MAX); break;
    case MIN_DURATION: options->min_duration_s = duration_s(name, text); break;
    case MAX_DURATION: options->max_duration_s = duration_s(name, text); break;
    case WARMUP: options->warmup = whole_number(name, text, 0, INT64_MAX); break;
    case OUTPUTS: append(&options->outputs, text); break;
    case GRAPH: options->graph = true; break;
    case PROVIDER: options->provider = text; break;
    case NO_FALLBACK: options->no_fallback = true; break;
    case LOG: options->log = text; break;
    case SAMPLE: append(&options->samples, text); break;
    case SAMPLE_COMMAND: options->sample_command = text; break;
    case PERIOD: options->period_s = duration_s(name, text); break;
    case NAMES: break;
    }
}

static void check_sampling(const struct Options *options, const bool given[NAMES]) {
    for (int name = 0; name < NAMES; name++)
        if (given[name] && name != SAMPLE && name != SAMPLE_COMMAND && name != PERIOD && name != MAX_DURATION)
            fail(USAGE, "--%s has no meaning with --sample", NAMED[name].name);
    if (options->period_s < SHORTEST_PERIOD_S)
        fail(USAGE, "--period-s: %g seconds or more are needed with --sample", SHORTEST_PERIOD_S);
    if (given[MAX_DURATION] && options->max_duration_s <= 0)
        fail(USAGE, "--max-duration-s: more than 0 seconds were expected");
}

static void check_session(const struct Options *options, const bool given[NAMES]) {
    static const enum Name NEEDED[] = {RUNTIME, MODEL, LIBRARY};
    for (size_t i = 0; i < sizeof NEEDED / sizeof *NEEDED; i++)
        if (!given[NEEDED[i]])
            fail(USAGE, "--%s is needed", NAMED[NEEDED[i]].name);
    if (given[INPUTS] == given[SEED])
        fail(USAGE, "either --inputs or --seed is needed");
    for (enum Name name = PROVIDER; name <= NO_FALLBACK; name++)
        if (given[name] && strcmp(options->runtime, "onnxruntime"))
            fail(USAGE, "--%s has a meaning only with --runtime onnxruntime", NAMED[name].name);
    if (options->no_fallback && !strcmp(options->provider, CPU_PROVIDER))
        fail(USAGE, "--no-fallback needs a --provider other than %s: from that there is nothing to fall back",
             CPU_PROVIDER);
    if (given[PERIOD])
        fail(USAGE, "--period-s has a meaning only with --sample");
    if (given[MAX_DURATION] && options->max_duration_s <= 0)
        fail(USAGE, "--max-duration-s: more than 0 seconds were expected");
}

struct Options read_options(int count, char **words) {
    struct Options options = {.precision = "fp32", .threads = 1, .streams = 1, .warmup = -1, .provider = CPU_PROVIDER};
    bool given[NAMES] = {false};
    opterr = 0;
    for (int name; (name = getopt_long(count, words, "", NAMED, NULL)) != -1;) {
        if (name == '?')
            fail(USAGE, "%s: no such option, or its value is missing", words[optind - 1]);
        // getopt takes every beginning of a name that is no other's.
        const char *word = words[optind - (optarg == words[optind - 1] ? 2 : 1)];
        if (strncmp(word + 2, NAMED[name].name, strlen(NAMED[name].name)))
            fail(USAGE, "%s: no such option; did you mean --%s?", word, NAMED[name].name);
        given[name] = true;
        take(&options, (enum Name)name, optarg);
    }
    if (optind < count)
        fail(USAGE, "%s: an option was expected", words[optind]);
    if (given[SAMPLE] || given[SAMPLE_COMMAND])
        check_sampling(&options, given);
    else
        check_session(&options, given);
    return options;
}

void free_options(struct Options *options) {
    free(options->inputs.items);
    free(options->outputs.items);
    free(options->samples.items);
}
