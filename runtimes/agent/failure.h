// The failures that the protocol has names for; whoever meets one says it and the process ends there.
#ifndef FAILURE_H
#define FAILURE_H

#include <stddef.h>

enum Reason {
    USAGE,
    MISSING_RUNTIME,
    MISSING_FILE,
    UNREADABLE_MODEL,
    BAD_INPUT,
    OUT_OF_MEMORY,
    RUNTIME_FAILED,
    WRITE_FAILED,
    OLD_RUNTIME,
    WRONG_LIBRARY,
    FALLBACK,
};

// Who says a failure to whoever listens: the reason's name and the message; stderr where nobody was named.
void tell_failures_with(void (*tell)(const char *reason, const char *message));

// Says the failure and ends the process with the reason's exit code; safe in every thread.
_Noreturn void fail(enum Reason reason, const char *format, ...) __attribute__((format(printf, 2, 3)));

// As `fail`, with a runtime's own words, which may tell a better reason: memory ran out, or, while a model is loaded
// (`reason` is UNREADABLE_MODEL), the runtime is too old for it.
_Noreturn void fail_with_words(enum Reason reason, const char *where, const char *words);

// Has `clean` called once before a failure is said, until it is replaced; NULL for nothing.
void if_failing(void (*clean)(void));

// Zeroed memory; fails as OUT_OF_MEMORY instead of returning NULL.
void *allocate(size_t count, size_t bytes);

// `memory` with room for `count` items of `bytes`, contents kept; fails as OUT_OF_MEMORY.
void *reallocate(void *memory, size_t count, size_t bytes);

// A copy of `text` to be freed.
char *copy_text(const char *text);

// Fails as MISSING_FILE where `path` is no file: not there, a folder, or a pipe that would be waited for.
void require_file(const char *path);

#endif
