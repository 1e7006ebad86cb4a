// What a library prints on stderr, for those that give a number as their reason and the words only there.
#ifndef STDERR_WORDS_H
#define STDERR_WORDS_H

#include <stddef.h>

// Has stderr written to memory from here on.
void begin_listening(void);

// Gives stderr back, prints there what was kept from it, and returns the end of it as one line.
char *end_listening(char *words, size_t bytes);

#endif
