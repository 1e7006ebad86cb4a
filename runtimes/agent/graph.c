// The nodes a runtime executed, and the precision that counts among them.
#define _GNU_SOURCE
#include "graph.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "messages.h"

struct Node *add_node(struct Graph *graph, const char *name, const char *op, const char *precision,
                      const char *executor) {
    graph->nodes = reallocate(graph->nodes, graph->count + 1, sizeof *graph->nodes);
    struct Node *node = &graph->nodes[graph->count++];
    *node = (struct Node){.name = copy_text(name),
                          .op = copy_text(op),
                          .precision = copy_text(precision),
                          .executor = copy_text(executor)};
    return node;
}

void add_item(struct TextList *list, const char *text) {
    list->items = reallocate(list->items, list->count + 1, sizeof *list->items);
    list->items[list->count++] = copy_text(text);
}

// True for convolutions and matrix products, however a runtime spells them; a conversion is none.
static bool multiplies(const char *op) {
    static const char *const WORDS[] = {"matmul", "mat_mul", "gemm", "fullyconnected", "fully_connected"};
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++)
        if (strcasestr(op, WORDS[i]))
            return true;
    for (const char *at = op; (at = strcasestr(at, "conv")); at += 4)
        if (strncasecmp(at + 4, "ert", 3))
            return true;
    return false;
}

static int compare(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// The precisions in which convolutions and matrix products ran (all nodes, if there are none of these), to be freed.
static char *actual_precision(const struct Graph *graph) {
    bool any = false;
    for (size_t i = 0; i < graph->count; i++)
        any |= multiplies(graph->nodes[i].op);
    const char **found = allocate(graph->count, sizeof *found);
    size_t count = 0, bytes = 1;
    for (size_t i = 0; i < graph->count; i++) {
        if (any && !multiplies(graph->nodes[i].op))
            continue;
        found[count++] = graph->nodes[i].precision;
        bytes += strlen(graph->nodes[i].precision) + 1;
    }
    qsort(found, count, sizeof *found, compare);
    char *joined = allocate(bytes, 1);
    for (size_t i = 0; i < count; i++) {
        if (i && !strcmp(found[i], found[i - 1]))
            continue;
        strcat(i ? strcat(joined, "+") : joined, found[i]);
    }
    free(found);
    return joined;
}

static void add_list(struct Line *line, const char *key, const struct TextList *list) {
    open_list(line, key);
    for (size_t i = 0; i < list->count; i++)
        add_text(line, NULL, list->items[i]);
    close_list(line);
}

void tell_graph(const struct Graph *graph, const char *requested) {
    struct Line line;
    begin_line(&line, "graph");
    open_list(&line, "nodes");
    for (size_t i = 0; i < graph->count; i++) {
        const struct Node *node = &graph->nodes[i];
        open_object(&line);
        add_text(&line, "name", node->name);
        add_text(&line, "op", node->op);
        add_text(&line, "precision", node->precision);
        add_list(&line, "inputs", &node->inputs);
        add_list(&line, "origins", &node->origins);
        add_text(&line, "executor", node->executor);
        close_object(&line);
    }
    close_list(&line);
    send_line(&line);
    char *actual = actual_precision(graph);
    begin_line(&line, "precision");
    add_text(&line, "requested", requested);
    add_text(&line, "actual", actual);
    send_line(&line);
    free(actual);
}

void free_list(struct TextList *list) {
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
}

void free_graph(struct Graph *graph) {
    for (size_t i = 0; i < graph->count; i++) {
        struct Node *node = &graph->nodes[i];
        free(node->name);
        free(node->op);
        free(node->precision);
        free(node->executor);
        free_list(&node->inputs);
        free_list(&node->origins);
    }
    free(graph->nodes);
    *graph = (struct Graph){0};
}
