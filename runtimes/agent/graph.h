// The nodes a runtime executed, and the precision that counts among them.
#ifndef GRAPH_H
#define GRAPH_H

#include <stddef.h>

struct TextList {
    char **items;
    size_t count;
};

struct Node {
    char *name, *op, *precision, *executor;
    struct TextList inputs, origins;
};

struct Graph {
    struct Node *nodes;
    size_t count;
};

// Appends a node and returns it, to be given inputs and origins before the next is added; all texts are copied.
struct Node *add_node(struct Graph *graph, const char *name, const char *op, const char *precision,
                      const char *executor);
void add_item(struct TextList *list, const char *text);
void free_list(struct TextList *list);

// Sends `graph` and `precision`.
void tell_graph(const struct Graph *graph, const char *requested);
void free_graph(struct Graph *graph);

#endif
