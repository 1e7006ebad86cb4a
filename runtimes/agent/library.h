// Shared libraries that are found while the agent runs.
#ifndef LIBRARY_H
#define LIBRARY_H

// Loads a library; fails as MISSING_RUNTIME if it or something it needs is not there, WRONG_LIBRARY if it is none.
void *open_library(const char *path);

// The address of a function; fails as WRONG_LIBRARY if the library has none of this name.
void *find_function(void *library, const char *path, const char *name);

#endif
