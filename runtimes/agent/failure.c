// The failures that the protocol has names for; whoever meets one says it and the process ends there.
#define _GNU_SOURCE
#include "failure.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LONGEST_MESSAGE = 8 * 1024 };  // room for a path of any length and what is wrong with it

static const struct {
    const char *name;
    int exit_code;
} REASONS[] = {
    [USAGE] = {"usage", 2},
    [MISSING_RUNTIME] = {"missing-runtime", 10},
    [MISSING_FILE] = {"missing-file", 11},
    [UNREADABLE_MODEL] = {"unreadable-model", 12},
    [BAD_INPUT] = {"bad-input", 13},
    [OUT_OF_MEMORY] = {"out-of-memory", 14},
    [RUNTIME_FAILED] = {"runtime-failed", 15},
    [WRITE_FAILED] = {"write-failed", 16},
    [OLD_RUNTIME] = {"old-runtime", 17},
    [WRONG_LIBRARY] = {"wrong-library", 18},
    [FALLBACK] = {"fallback", 19},
};

static const char *const MEMORY_RAN_OUT[] = {
    "bad_alloc",       "bad alloc",          "bad allocation",     "out of memory",          "failed to allocate",
    "cannot allocate", "could not allocate", "unable to allocate", "failed to alloc memory", NULL,
};

// How the runtimes say that a model is newer than they are.
static const char *const TOO_OLD[] = {
    "unsupported model ir version",         // ONNX Runtime: ... 14, max supported IR version: 13
    "current official support for domain",  // ONNX Runtime: ... ai.onnx is till opset 25
    "is under development and support for this is limited",
    "unsupported opset",  // OpenVINO: Cannot create ... layer ... from unsupported opset: opset99
    "unsupported ir version",
    "using an old tflite binary",      // LiteRT: Didn't find op for builtin opcode 'CONV_2D' version '99'. ...
    "using old tflite binary",         // LiteRT: Op builtin_code out of range: 5000. ...
    "not equal to supported version",  // LiteRT: Model provided is schema version 4 not equal to supported version 3
    NULL,
};

static pthread_mutex_t failing = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local bool fails_here;  // this thread holds `failing`
static void (*clean_up)(void);
static void (*tell)(const char *reason, const char *message);

static bool says_one_of(const char *words, const char *const *phrases) {
    for (; *phrases; phrases++)
        if (strcasestr(words, *phrases))
            return true;
    return false;
}

_Noreturn void fail(enum Reason reason, const char *format, ...) {
    static char message[LONGEST_MESSAGE];
    if (!fails_here)                   // else cleaning up after the first failure failed too, and that is told
        pthread_mutex_lock(&failing);  // for good: of several threads the first to fail is the one that tells
    fails_here = true;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    void (*clean)(void) = clean_up;
    clean_up = NULL;
    if (clean)
        clean();
    if (tell)
        tell(REASONS[reason].name, message);
    else
        fprintf(stderr, "%s: %s\n", REASONS[reason].name, message);
    // Not exit: other threads may still be running in a runtime whose destructors would pull the ground from under
    // them.
    _exit(REASONS[reason].exit_code);
}

_Noreturn void fail_with_words(enum Reason reason, const char *where, const char *words) {
    if (says_one_of(words, MEMORY_RAN_OUT))
        reason = OUT_OF_MEMORY;
    else if (reason == UNREADABLE_MODEL && says_one_of(words, TOO_OLD))
        reason = OLD_RUNTIME;
    char one_line[LONGEST_MESSAGE];
    size_t length = 0;
    for (; *words && length < sizeof one_line - 1; words++) {
        bool space = isspace((unsigned char)*words);
        if (!space || (length && one_line[length - 1] != ' '))
            one_line[length++] = space ? ' ' : *words;
    }
    length -= length && one_line[length - 1] == ' ';
    fail(reason, "%s: %.*s", where, (int)length, one_line);
}

void tell_failures_with(void (*how)(const char *reason, const char *message)) {
    tell = how;
}

void if_failing(void (*clean)(void)) {
    clean_up = clean;
}

void *allocate(size_t count, size_t bytes) {
    void *memory = calloc(count ? count : 1, bytes);
    if (!memory)
        fail(OUT_OF_MEMORY, "%zu times %zu bytes cannot be allocated", count, bytes);
    return memory;
}

void *reallocate(void *memory, size_t count, size_t bytes) {
    void *larger = count <= SIZE_MAX / bytes ? realloc(memory, count * bytes) : NULL;
    if (!larger)
        fail(OUT_OF_MEMORY, "%zu times %zu bytes cannot be allocated", count, bytes);
    return larger;
}

char *copy_text(const char *text) {
    size_t bytes = strlen(text) + 1;
    return memcpy(allocate(bytes, 1), text, bytes);
}

void require_file(const char *path) {
    struct stat facts;
    if (stat(path, &facts))
        fail(MISSING_FILE, "%s: %s", path, strerror(errno));
    if (!S_ISREG(facts.st_mode))
        fail(MISSING_FILE, "%s is no file", path);
}
