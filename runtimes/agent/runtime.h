// What a runtime can do for the agent; one file a runtime fills in this struct.
#ifndef RUNTIME_H
#define RUNTIME_H

#include <stdbool.h>

#include "graph.h"
#include "options.h"
#include "tensor.h"

enum { VERSION_BYTES = 64, UNKNOWN_BYTES = -1 };

// A loaded model; each runtime's own model begins with one.
struct Model {
    struct Tensor *inputs;
    size_t input_count, output_count;
};

// Every function fails instead of returning an error.
struct Runtime {
    const char *name;

    // Loads the library and all of it that needs no model: MISSING_RUNTIME or WRONG_LIBRARY. Called once.
    void (*open)(const char *library, char version[VERSION_BYTES]);

    // Loads and compiles the model that is wanted; `profiled` for one that `graph` will be asked about.
    struct Model *(*load)(const struct Options *wanted, bool profiled);

    // Takes the inputs' shapes, now without open sizes, and the memory that every sample will be in.
    void (*bind)(struct Model *model);

    // One inference, from the inputs' memory to outputs that `output` finds in host memory.
    void (*run)(struct Model *model);

    // One output of the last run. Its name is not set, and its data lives until the next run.
    struct Tensor (*output)(struct Model *model, size_t index);

    // What the runtime says it allocated for the model's tensors, or UNKNOWN_BYTES.
    int64_t (*arena_bytes)(struct Model *model);

    // The nodes that were executed by a profiled model that has run once.
    void (*graph)(struct Model *model, struct Graph *graph);

    void (*unload)(struct Model *model);
    void (*close)(void);
};

// A runtime's struct, of the functions that its file calls as the fields.
#define RUNTIME(its_name, opens, closes)                                                                              \
    {                                                                                                                 \
        .name = its_name, .open = opens, .load = load, .bind = bind, .run = run, .output = output,                    \
        .arena_bytes = arena_bytes, .graph = graph, .unload = unload, .close = closes                                 \
    }

extern const struct Runtime ONNXRUNTIME, OPENVINO, LITERT;

// Frees what every model has: its inputs, their names and their memory.
void free_inputs(struct Model *model);

#endif
