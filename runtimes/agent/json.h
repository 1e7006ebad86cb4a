// JSON as the runtimes write it, read into a tree.
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>

// One value: `key` where it lies in an object, `text` for a text, `first` for what an object or list holds.
struct Json {
    char *key, *text;
    struct Json *first, *next;
};

// Reads `text`, which is changed and must outlive the tree; NULL where it is no JSON.
struct Json *parse_json(char *text);

// What an object holds under a key, or NULL; its text, or "".
const struct Json *json_item(const struct Json *object, const char *key);
const char *json_text(const struct Json *object, const char *key);
void free_json(struct Json *json);

#endif
