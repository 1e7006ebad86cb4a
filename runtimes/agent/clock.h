// Time as the protocol counts it: seconds on CLOCK_MONOTONIC, or since 1970.
#ifndef CLOCK_H
#define CLOCK_H

#include <time.h>

static inline double seconds_of(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static inline double now_s(void) {
    return seconds_of(CLOCK_MONOTONIC);
}

static inline double unix_s(void) {
    return seconds_of(CLOCK_REALTIME);
}

static inline struct timespec timespec_of(double seconds) {
    time_t whole = (time_t)seconds;
    return (struct timespec){.tv_sec = whole, .tv_nsec = (long)((seconds - (double)whole) * 1e9)};
}

#endif
