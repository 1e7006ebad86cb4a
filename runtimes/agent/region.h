// Marks an inference for a program that watches this one, such as QEMU with emulator/count_plugin.c: a call of prctl that
// no kernel knows and that does nothing.
#ifndef REGION_H
#define REGION_H

#include <sys/prctl.h>

enum { REGION_MARK = 0x45444745, REGION_BEGIN = 1, REGION_END = 2 };

static inline void mark_region(int edge) {
    prctl(REGION_MARK, edge, 0, 0, 0);
}

#endif
