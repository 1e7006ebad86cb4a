// One session: load a model, run it, time it, save its outputs, say what happened.
#ifndef SESSION_H
#define SESSION_H

#include "options.h"

void run_session(const struct Options *options);

// Sends `hello`; NULL for what is not known.
void say_hello(const char *runtime, const char *library, const char *version);

#endif
