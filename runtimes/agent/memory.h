// What the kernel says about this process's memory.
#ifndef MEMORY_H
#define MEMORY_H

#include <stdint.h>

// VmHWM (the highest resident size so far) or VmRSS (the present one) of this process, in bytes.
int64_t resident_bytes(const char *field);

// Makes this process the first to go when memory runs out, rather than the server it was started through.
void volunteer_for_the_oom_killer(void);

#endif
