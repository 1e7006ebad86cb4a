// What the kernel says about this process's memory.
#include "memory.h"

#include <stdio.h>
#include <string.h>

#include "failure.h"

int64_t resident_bytes(const char *field) {
    // getrusage would do for VmHWM, were its figure not inherited from the process that started this one.
    FILE *status = fopen("/proc/self/status", "re");
    if (!status)
        fail(RUNTIME_FAILED, "/proc/self/status cannot be read");
    char line[256];
    long long kibibytes = -1;
    while (fgets(line, sizeof line, status))
        if (!strncmp(line, field, strlen(field)) && sscanf(line + strlen(field), ": %lld", &kibibytes) == 1)
            break;
    fclose(status);
    if (kibibytes < 0)
        fail(RUNTIME_FAILED, "/proc/self/status holds no %s", field);
    return kibibytes * 1024;
}

void volunteer_for_the_oom_killer(void) {
    FILE *score = fopen("/proc/self/oom_score_adj", "we");
    if (!score)
        return;  // a kernel without it decides by size alone
    fputs("1000", score);
    fclose(score);
}
