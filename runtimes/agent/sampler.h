// Reads small files, and what a command prints, at a steady pace, and says what they held.
#ifndef SAMPLER_H
#define SAMPLER_H

#include "options.h"

// Ends when --max-duration-s is over or nobody reads stdout any more.
void run_sampler(const struct Options *options);

#endif
