// Shared libraries that are found while the agent runs.
#include "library.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include "failure.h"

void *open_library(const char *path) {
    static const char *const NOT_A_LIBRARY[] = {"invalid ELF header", "file too short", "wrong ELF class"};
    // Lazily: only the functions that are called get bound, which saves the memory of all the others.
    void *library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (library)
        return library;
    const char *why = dlerror();
    for (size_t i = 0; i < sizeof NOT_A_LIBRARY / sizeof *NOT_A_LIBRARY; i++)
        if (strstr(why, NOT_A_LIBRARY[i]))
            fail(WRONG_LIBRARY, "%s", why);
    fail(MISSING_RUNTIME, "%s", why);
}

void *find_function(void *library, const char *path, const char *name) {
    void *function = dlsym(library, name);
    if (!function)
        fail(WRONG_LIBRARY, "%s has no %s: it is another library, or another version than this agent knows", path,
             name);
    return function;
}
