// Shared libraries that are found while the agent runs.
#define _GNU_SOURCE
#include "library.h"

#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "failure.h"

// How a program or library begins, and the size of its file.
static bool read_header(const char *path, ElfW(Ehdr) * header, long *bytes) {
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool read = fread(header, sizeof *header, 1, file) == 1 && !memcmp(header->e_ident, ELFMAG, SELFMAG) &&
                !fseek(file, 0, SEEK_END) && (*bytes = ftell(file)) >= 0;
    fclose(file);
    return read;
}

// Refuses what the loader misjudges: it calls a library of another architecture missing, and dies of half a library.
static void check_file(const char *path) {
    ElfW(Ehdr) mine, other;
    long bytes;
    if (!read_header("/proc/self/exe", &mine, &bytes) || !read_header(path, &other, &bytes))
        return;
    if (other.e_ident[EI_CLASS] != mine.e_ident[EI_CLASS] || other.e_ident[EI_DATA] != mine.e_ident[EI_DATA] ||
        other.e_machine != mine.e_machine)
        fail(WRONG_LIBRARY, "%s was built for another architecture than this machine's", path);
    if (other.e_shoff > (ElfW(Off))bytes)  // the table of sections lies at the end
        fail(WRONG_LIBRARY, "%s is cut short", path);
}

void *open_library(const char *path) {
    static const char *const NOT_A_LIBRARY[] = {"invalid ELF header", "file too short", "cannot read file data",
                                                "cannot dynamically load"};
    check_file(path);
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
