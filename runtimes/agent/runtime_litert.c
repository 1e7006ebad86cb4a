// LiteRT on the CPU with its XNNPACK delegate: libLiteRt.so through its CompiledModel interface.
#define _GNU_SOURCE
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "library.h"
#include "litert_interface.h"
#include "litert_operators.h"
#include "runtime.h"
#include "stderr_words.h"
#include "tflite_file.h"

static struct {
#define DECLARE(type, name, arguments) type(*name) arguments;
    FUNCTIONS(DECLARE)
#undef DECLARE
} lrt;

static Env *env;

// An input or output: LiteRT numbers those of a signature in another order than the model's.
struct Side {
    size_t place;
    struct TensorType type;
    Buffer *buffer;
    void *data;  // of an output, between a run and the next
    size_t bytes;
};

struct LrtModel {
    struct Model model;
    File *file;
    Compiled *compiled;
    Subgraph *subgraph;
    struct Side *inputs, *outputs;
    Buffer **input_buffers, **output_buffers;  // in LiteRT's order
    Profiler *profiler;
};

static const enum Dtype DTYPE_OF[] = {
    // of TensorFlow Lite's numbers for element types
    [1] = FLOAT32, [2] = INT32,    [3] = UINT8,    [4] = INT64,   [6] = BOOL,    [7] = INT16,
    [9] = INT8,    [10] = FLOAT16, [11] = FLOAT64, [13] = UINT64, [16] = UINT32, [17] = UINT16,
};

static void check(int status, enum Reason reason, const char *where) {
    if (status)
        fail(status == MEMORY_RAN_OUT ? OUT_OF_MEMORY : reason, "%s: LiteRT gives status %d", where, status);
}

#define CHECK(name, ...) check(lrt.name(__VA_ARGS__), RUNTIME_FAILED, #name)

// LiteRT has no function for its version: the wheel's own record tells it, where the library still lies beside it.
static void find_version(const char *path, char version[VERSION_BYTES]) {
    static const char BEFORE[] = "/../ai_edge_litert-", AFTER[] = ".dist-info";
    const char *slash = strrchr(path, '/'), *folder = slash ? path : ".";
    int length = slash ? (int)(slash - path) : 1;
    char *pattern = allocate(strlen(path) + sizeof BEFORE + sizeof AFTER + 2, 1);
    sprintf(pattern, "%.*s%s*%s", length, folder, BEFORE, AFTER);
    glob_t found;
    if (!glob(pattern, 0, NULL, &found)) {
        const char *number = found.gl_pathv[0] + length + strlen(BEFORE);
        snprintf(version, VERSION_BYTES, "%.*s", (int)(strlen(number) - strlen(AFTER)), number);
        globfree(&found);
    }
    free(pattern);
}

static void open_litert(const char *path, char version[VERSION_BYTES]) {
    void *library = open_library(path);
#define FETCH(type, name, arguments) lrt.name = (type(*) arguments)(uintptr_t)find_function(library, path, #name);
    FUNCTIONS(FETCH)
#undef FETCH
    // Only the CPU's accelerator: LiteRT would look for libraries of the others and load them. Only its errors.
    static const struct EnvOption ONLY_CPU[] = {
        {.tag = 24, .type = 2, .value = CPU},
        {.tag = 25, .type = 2, .value = 3},
    };
    check(lrt.LiteRtCreateEnvironment(2, ONLY_CPU, &env), WRONG_LIBRARY, path);
    find_version(path, version);
}

static enum Dtype dtype_of(int element) {
    return element >= 0 && (size_t)element < sizeof DTYPE_OF / sizeof *DTYPE_OF ? DTYPE_OF[element] : NO_DTYPE;
}

static size_t rank_of(const struct Layout *layout) {
    return layout->rank_and_flags & 0x7F;
}

static void describe(const struct TensorType *type, struct Tensor *tensor, const char *name) {
    tensor->dtype = dtype_of(type->element);
    if (tensor->dtype == NO_DTYPE)
        fail(BAD_INPUT, "%s has TensorFlow Lite's element type %d, which no .npy file can hold", name, type->element);
    tensor->shape.rank = rank_of(&type->layout);
    for (size_t axis = 0; axis < tensor->shape.rank; axis++)
        tensor->shape.sizes[axis] = type->layout.sizes[axis] < 0 ? OPEN : type->layout.sizes[axis];
}

static void add_option(Options *options, const char *name, const char *text) {
    Opaque *opaque;
    CHECK(LiteRtCreateOpaqueOptions, name, copy_text(text), free, &opaque);
    CHECK(LiteRtAddOpaqueOptions, options, opaque);
}

// Returns 0 or LiteRT's status; what was made before a failure is left to the end of the process.
static int compile(struct LrtModel *own, const char *path, int threads, bool profiled) {
    char text[32];
    Options *options;
    int status = lrt.LiteRtCreateModelFromFile(env, path, &own->file);
    if (status)
        return status;
    CHECK(LiteRtCreateOptions, &options);
    CHECK(LiteRtSetOptionsHardwareAccelerators, options, CPU);
    sprintf(text, "num_threads = %d\n", threads);
    add_option(options, "xnnpack", text);
    if (profiled)
        add_option(options, "runtime_options_string", "enable_profiling = true\n");
    status = lrt.LiteRtCreateCompiledModel(env, own->file, options, &own->compiled);
    lrt.LiteRtDestroyOptions(options);
    return status;
}

// Describes the last of `sides`; those before it keep their places where one tensor is given out several times.
static void describe_side(LrtTensor *tensor, struct Side *sides, size_t last, Signature *signature,
                          int (*by_index)(Signature *, size_t, LrtTensor **), size_t count) {
    LrtTensor *other = NULL;
    CHECK(LiteRtGetRankedTensorType, tensor, &sides[last].type);
    for (size_t place = 0; place < count; place++) {
        bool taken = false;
        for (size_t i = 0; i < last; i++)
            taken |= sides[i].place == place;
        check(by_index(signature, place, &other), RUNTIME_FAILED, "a signature's tensor");
        sides[last].place = place;
        if (other == tensor && !taken)
            return;
    }
    fail(BAD_INPUT, "the model's first signature leaves out an input or output");
}

static void describe_model(struct LrtModel *own) {
    struct Model *model = &own->model;
    Signature *signature;
    LrtTensor *tensor;
    const char *name;
    CHECK(LiteRtGetModelSignature, own->file, 0, &signature);
    CHECK(LiteRtGetSignatureSubgraph, signature, &own->subgraph);
    CHECK(LiteRtGetNumSubgraphInputs, own->subgraph, &model->input_count);
    CHECK(LiteRtGetNumSubgraphOutputs, own->subgraph, &model->output_count);
    model->inputs = allocate(model->input_count, sizeof *model->inputs);
    own->inputs = allocate(model->input_count, sizeof *own->inputs);
    own->outputs = allocate(model->output_count, sizeof *own->outputs);
    own->input_buffers = allocate(model->input_count, sizeof *own->input_buffers);
    own->output_buffers = allocate(model->output_count, sizeof *own->output_buffers);
    for (size_t i = 0; i < model->input_count; i++) {
        CHECK(LiteRtGetSubgraphInput, own->subgraph, i, &tensor);
        describe_side(tensor, own->inputs, i, signature, lrt.LiteRtGetSignatureInputTensorByIndex, model->input_count);
        CHECK(LiteRtGetTensorName, tensor, &name);
        model->inputs[i].name = copy_text(name);
        describe(&own->inputs[i].type, &model->inputs[i], name);
    }
    for (size_t i = 0; i < model->output_count; i++) {
        CHECK(LiteRtGetSubgraphOutput, own->subgraph, i, &tensor);
        describe_side(tensor, own->outputs, i, signature, lrt.LiteRtGetSignatureOutputTensorByIndex,
                      model->output_count);
    }
}

static struct Model *load(const struct Options *wanted, bool profiled) {
    const char *path = wanted->model;
    struct LrtModel *own = allocate(1, sizeof *own);
    check_tflite_file(path);
    int status = compile(own, path, wanted->threads, profiled);
    if (status) {
        char heard[1024], words[1200];
        begin_listening();
        compile(own, path, wanted->threads, profiled);  // once more, for the reason that it prints
        end_listening(heard, sizeof heard);
        sprintf(words, "LiteRT gives status %d %s", status, heard);
        fail_with_words(status == MEMORY_RAN_OUT ? OUT_OF_MEMORY : UNREADABLE_MODEL, path, words);
    }
    if (profiled)
        CHECK(LiteRtCompiledModelGetProfiler, own->compiled, &own->profiler);
    describe_model(own);
    return &own->model;
}

// Gives the compiled model the sizes that the inputs closed. An open size is 1 there already, as in the file.
static bool resize(struct LrtModel *own) {
    bool resized = false;
    for (size_t i = 0; i < own->model.input_count; i++) {
        struct Layout *layout = &own->inputs[i].type.layout;
        bool changed = false;
        for (size_t axis = 0; axis < rank_of(layout); axis++) {
            changed |= layout->sizes[axis] < 0 && own->model.inputs[i].shape.sizes[axis] != 1;
            layout->sizes[axis] = (int32_t)own->model.inputs[i].shape.sizes[axis];
        }
        if (changed)
            CHECK(LiteRtCompiledModelResizeInputTensor, own->compiled, 0, own->inputs[i].place, layout->sizes,
                  rank_of(layout));
        resized |= changed;
    }
    return resized;
}

static void shape_outputs(struct LrtModel *own, bool resized) {
    size_t count = own->model.output_count;
    struct Layout *layouts = allocate(count, sizeof *layouts);
    if (resized)
        CHECK(LiteRtGetCompiledModelOutputTensorLayouts, own->compiled, 0, count, layouts, true);
    for (size_t i = 0; i < count; i++) {
        struct Side *side = &own->outputs[i];
        if (resized)
            side->type.layout = layouts[side->place];
        for (size_t axis = 0; axis < rank_of(&side->type.layout); axis++)
            if (side->type.layout.sizes[axis] < 0)
                side->type.layout.sizes[axis] = 1;
    }
    free(layouts);
}

static void bind(struct Model *model) {
    struct LrtModel *own = (struct LrtModel *)model;
    Needs *needs;
    shape_outputs(own, resize(own));
    for (size_t i = 0; i < model->input_count; i++) {
        struct Side *side = &own->inputs[i];
        CHECK(LiteRtGetCompiledModelInputBufferRequirements, own->compiled, 0, side->place, &needs);
        CHECK(LiteRtCreateManagedTensorBufferFromRequirements, env, &side->type, needs, &side->buffer);
        CHECK(LiteRtGetTensorBufferPackedSize, side->buffer, &side->bytes);
        if (side->bytes != model->inputs[i].bytes)
            fail(RUNTIME_FAILED, "LiteRT takes %zu bytes for the input %s, which has %zu", side->bytes,
                 model->inputs[i].name, model->inputs[i].bytes);
        own->input_buffers[side->place] = side->buffer;
    }
    for (size_t i = 0; i < model->output_count; i++) {
        struct Side *side = &own->outputs[i];
        CHECK(LiteRtGetCompiledModelOutputBufferRequirements, own->compiled, 0, side->place, &needs);
        CHECK(LiteRtCreateManagedTensorBufferFromRequirements, env, &side->type, needs, &side->buffer);
        CHECK(LiteRtGetTensorBufferPackedSize, side->buffer, &side->bytes);
        own->output_buffers[side->place] = side->buffer;
    }
    if (own->profiler)
        CHECK(LiteRtStartProfiler, own->profiler);
}

static void unlock_outputs(struct LrtModel *own) {
    for (size_t i = 0; i < own->model.output_count; i++) {
        if (own->outputs[i].data)
            CHECK(LiteRtUnlockTensorBuffer, own->outputs[i].buffer);
        own->outputs[i].data = NULL;
    }
}

static void run(struct Model *model) {
    struct LrtModel *own = (struct LrtModel *)model;
    unlock_outputs(own);
    for (size_t i = 0; i < model->input_count; i++) {
        void *data;
        CHECK(LiteRtLockTensorBuffer, own->inputs[i].buffer, &data, TO_WRITE);
        memcpy(data, model->inputs[i].data, model->inputs[i].bytes);
        CHECK(LiteRtUnlockTensorBuffer, own->inputs[i].buffer);
    }
    CHECK(LiteRtRunCompiledModel, own->compiled, 0, model->input_count, own->input_buffers, model->output_count,
          own->output_buffers);
    for (size_t i = 0; i < model->output_count; i++)
        CHECK(LiteRtLockTensorBuffer, own->outputs[i].buffer, &own->outputs[i].data, TO_READ);
}

static struct Tensor output(struct Model *model, size_t index) {
    struct Side *side = &((struct LrtModel *)model)->outputs[index];
    struct Tensor tensor = {.data = side->data, .bytes = side->bytes};
    describe(&side->type, &tensor, "an output");
    return tensor;
}

static int64_t arena_bytes(struct Model *model) {
    (void)model;
    return UNKNOWN_BYTES;
}

static const char *precision_of(LrtTensor *tensor) {
    struct TensorType type;
    if (!tensor || lrt.LiteRtGetRankedTensorType(tensor, &type))
        return "unknown";
    enum Dtype dtype = dtype_of(type.element);
    return dtype == NO_DTYPE ? "unknown" : DTYPE[dtype].precision;
}

static void add_op(struct Graph *graph, Op *op, const char *executor) {
    int code;
    size_t inputs;
    LrtTensor *tensor = NULL;
    const char *name = "", *kind = "unknown";
    CHECK(LiteRtGetOpCode, op, &code);
    if (code == CUSTOM_OPERATOR)
        CHECK(LiteRtGetCustomCode, op, &kind);
    else if (code >= 0 && (size_t)code < sizeof OPERATORS / sizeof *OPERATORS)
        kind = OPERATORS[code];
    CHECK(LiteRtGetNumOpInputs, op, &inputs);
    CHECK(LiteRtGetOpOutput, op, 0, &tensor);
    CHECK(LiteRtGetTensorName, tensor, &name);
    const char *result = precision_of(tensor);
    if (inputs)
        CHECK(LiteRtGetOpInput, op, 0, &tensor);
    struct Node *node = add_node(graph, name, kind, inputs ? precision_of(tensor) : result, executor);
    add_item(&node->origins, name);
    for (size_t i = 0; i < inputs; i++) {
        CHECK(LiteRtGetOpInput, op, i, &tensor);
        add_item(&node->inputs, precision_of(tensor));
    }
}

// LiteRT's profiler has an event for each operator that the interpreter ran itself, with its number in the model, and
// one for each delegated part. An operator without an event of its own can only have run inside such a part; no
// delegate is loaded here, so the default one is the only one there can be.
static void graph(struct Model *model, struct Graph *graph) {
    struct LrtModel *own = (struct LrtModel *)model;
    size_t ops;
    int count = 0;
    CHECK(LiteRtStopProfiler, own->profiler);
    CHECK(LiteRtGetNumSubgraphOps, own->subgraph, &ops);
    CHECK(LiteRtGetNumProfilerEvents, own->profiler, &count);
    if (count < 1)
        fail(RUNTIME_FAILED, "LiteRT's profiler saw no operator");
    struct Event *events = allocate((size_t)count, sizeof *events);
    bool *built_in = allocate(ops, sizeof *built_in);
    CHECK(LiteRtGetProfilerEvents, own->profiler, count, events);
    for (int i = 0; i < count; i++)
        if (events[i].type == OPERATOR_RAN && events[i].subgraph == 0 && events[i].node < ops)
            built_in[events[i].node] = true;
    for (size_t i = 0; i < ops; i++) {
        Op *op;
        CHECK(LiteRtGetSubgraphOp, own->subgraph, i, &op);
        add_op(graph, op, built_in[i] ? "built-in" : "XNNPACK");
    }
    free(built_in);
    free(events);
}

static void unload(struct Model *model) {
    struct LrtModel *own = (struct LrtModel *)model;
    unlock_outputs(own);
    for (size_t i = 0; i < model->input_count; i++)
        if (own->inputs[i].buffer)
            lrt.LiteRtDestroyTensorBuffer(own->inputs[i].buffer);
    for (size_t i = 0; i < model->output_count; i++)
        if (own->outputs[i].buffer)
            lrt.LiteRtDestroyTensorBuffer(own->outputs[i].buffer);
    lrt.LiteRtDestroyCompiledModel(own->compiled);
    lrt.LiteRtDestroyModel(own->file);
    free_inputs(model);
    free(own->inputs);
    free(own->outputs);
    free(own->input_buffers);
    free(own->output_buffers);
    free(own);
}

static void close_litert(void) {
    lrt.LiteRtDestroyEnvironment(env);
}

const struct Runtime LITERT = RUNTIME("litert", open_litert, close_litert);
