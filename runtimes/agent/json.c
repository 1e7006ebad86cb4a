// JSON as the runtimes write it, read into a tree.
#include "json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"

enum { DEEPEST = 64 };

static struct Json *parse_value(char **at, int depth);

static void skip_spaces(char **at) {
    *at += strspn(*at, " \t\r\n");
}

static bool skip(char **at, char wanted) {
    skip_spaces(at);
    if (**at != wanted)
        return false;
    ++*at;
    return true;
}

static char *put_utf8(char *target, uint32_t point) {
    if (point < 0x80) {
        *target++ = (char)point;
    } else if (point < 0x800) {
        *target++ = (char)(0xC0 | point >> 6);
        *target++ = (char)(0x80 | (point & 0x3F));
    } else {
        *target++ = (char)(0xE0 | point >> 12);
        *target++ = (char)(0x80 | (point >> 6 & 0x3F));
        *target++ = (char)(0x80 | (point & 0x3F));
    }
    return target;
}

// A text in quotes, unescaped where it stands (it only becomes shorter), or NULL.
static char *parse_text(char **at) {
    if (!skip(at, '"'))
        return NULL;
    char *start = *at, *target = start, *from = start;
    for (; *from && *from != '"'; from++) {
        if (*from != '\\') {
            *target++ = *from;
            continue;
        }
        static const char NAMES[] = "bfnrt", VALUES[] = "\b\f\n\r\t";
        const char *name = *++from ? strchr(NAMES, *from) : NULL;
        char digits[5] = {0};
        if (*from == 'u' && strlen(from) > 4) {
            memcpy(digits, from + 1, 4);
            target = put_utf8(target, (uint32_t)strtoul(digits, NULL, 16));
            from += 4;
        } else if (*from) {
            *target++ = name ? VALUES[name - NAMES] : *from;
        } else {
            return NULL;
        }
    }
    if (!*from)
        return NULL;
    *at = from + 1;
    *target = 0;
    return start;
}

// What stands between brackets, up to `end`, into `json`.
static bool parse_items(char **at, struct Json *json, char end, int depth) {
    struct Json **link = &json->first;
    if (skip(at, end))
        return true;
    do {
        char *key = end == '}' ? parse_text(at) : NULL;
        if (end == '}' && (!key || !skip(at, ':')))
            return false;
        *link = parse_value(at, depth + 1);
        if (!*link)
            return false;
        (*link)->key = key;
        link = &(*link)->next;
    } while (skip(at, ','));
    return skip(at, end);
}

static struct Json *parse_value(char **at, int depth) {
    if (depth > DEEPEST)
        return NULL;
    struct Json *json = allocate(1, sizeof *json);
    bool good;
    skip_spaces(at);
    if (skip(at, '{')) {
        good = parse_items(at, json, '}', depth);
    } else if (skip(at, '[')) {
        good = parse_items(at, json, ']', depth);
    } else if (**at == '"') {
        good = (json->text = parse_text(at));
    } else {  // a number, true, false or null: nobody here asks for one, so it stays without a text
        size_t length = strcspn(*at, ",]} \t\r\n");
        *at += length;
        good = length > 0;
    }
    if (good)
        return json;
    free_json(json);
    return NULL;
}

struct Json *parse_json(char *text) {
    return parse_value(&text, 0);
}

const struct Json *json_item(const struct Json *object, const char *key) {
    for (const struct Json *item = object ? object->first : NULL; item; item = item->next)
        if (item->key && !strcmp(item->key, key))
            return item;
    return NULL;
}

const char *json_text(const struct Json *object, const char *key) {
    const struct Json *item = json_item(object, key);
    return item && item->text ? item->text : "";
}

void free_json(struct Json *json) {
    while (json) {
        struct Json *next = json->next;
        free_json(json->first);
        free(json);
        json = next;
    }
}
