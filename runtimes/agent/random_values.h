// Random values that are the same bytes from every agent.
#ifndef RANDOM_VALUES_H
#define RANDOM_VALUES_H

#include "tensor.h"

// Fills a tensor, one draw of the splitmix64 generator (Steele, Lea, Flood 2014) a value, and moves its `state` on.
void fill_with_random_values(struct Tensor *tensor, uint64_t *state);

#endif
