// ONNX Runtime: libonnxruntime.so through its table of functions, on the CPU or on another execution provider.
#define _GNU_SOURCE
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "failure.h"
#include "json.h"
#include "library.h"
#include "onnxruntime_interface.h"
#include "onnxruntime_provider.h"
#include "options.h"
#include "runtime.h"

static struct OrtFunctions ort;
static void *library;
static Env *env;
static Allocator *heap;
static MemoryInfo *host;

struct OrtModel {
    struct Model model;
    Session *session;
    const char **input_names, **output_names;
    Value **inputs, **outputs;
};

static char profile_folder[64];  // where a profile is being written, "" without one

static const enum Dtype DTYPE_OF[] = {
    // of ONNX's numbers for element types
    [1] = FLOAT32, [2] = UINT8, [3] = INT8,     [4] = UINT16,   [5] = INT16,   [6] = INT32,
    [7] = INT64,   [9] = BOOL,  [10] = FLOAT16, [11] = FLOAT64, [12] = UINT32, [13] = UINT64,
};

static void check(Status *status, enum Reason reason, const char *where) {
    if (status)
        fail_with_words(reason, where, ort.GetErrorMessage(status));
}

#define CHECK(name, ...) check(ort.name(__VA_ARGS__), RUNTIME_FAILED, #name)

static void open_onnxruntime(const char *path, char version[VERSION_BYTES]) {
    setenv("ORT_DISABLE_TELEMETRY", "1", 1);  // read when the library is loaded
    library = open_library(path);
    const struct Base *(*get_base)(void) =
        (const struct Base *(*)(void))(uintptr_t)find_function(library, path, "OrtGetApiBase");
    const struct Base *base = get_base();
    const void *const *statistics = base->GetApi(STATISTICS_TABLE);
    const void *const *table = statistics ? statistics : base->GetApi(OLDEST_TABLE);
    if (!table)
        fail(WRONG_LIBRARY, "%s is ONNX Runtime %s; 1.%d or newer was expected", path, base->GetVersionString(),
             OLDEST_TABLE);
#define FETCH(place, type, name, arguments) ort.name = (type(*) arguments)(uintptr_t)table[place];
    FUNCTIONS(FETCH)
    if (statistics || base->GetApi(PROVIDER_TABLE)) {
        PROVIDER_FUNCTIONS(FETCH)
    }
    if (statistics) {
        STATISTICS_FUNCTIONS(FETCH)
    }
#undef FETCH
    snprintf(version, VERSION_BYTES, "%s", base->GetVersionString());
    CHECK(CreateEnv, WARNINGS, "agent", &env);
    CHECK(GetAllocatorWithDefaultOptions, &heap);
    CHECK(CreateCpuMemoryInfo, ARENA, DEFAULT_MEMORY, &host);
}

static enum Dtype dtype_of(int type, const char *name) {
    enum Dtype dtype = type >= 0 && (size_t)type < sizeof DTYPE_OF / sizeof *DTYPE_OF ? DTYPE_OF[type] : NO_DTYPE;
    if (dtype == NO_DTYPE)
        fail(BAD_INPUT, "%s has ONNX's element type %d, which no .npy file can hold", name, type);
    return dtype;
}

static int onnx_type_of(enum Dtype dtype) {
    int type = 0;
    while (DTYPE_OF[type] != dtype)
        type++;
    return type;
}

static void describe(const TensorInfo *info, struct Tensor *tensor) {
    int type;
    CHECK(GetTensorElementType, info, &type);
    const char *name = tensor->name ? tensor->name : "an output";
    tensor->dtype = dtype_of(type, name);
    CHECK(GetDimensionsCount, info, &tensor->shape.rank);
    if (tensor->shape.rank > LARGEST_RANK)
        fail(BAD_INPUT, "%s has %zu axes; at most %d were expected", name, tensor->shape.rank, LARGEST_RANK);
    CHECK(GetDimensions, info, tensor->shape.sizes, tensor->shape.rank);
    for (size_t axis = 0; axis < tensor->shape.rank; axis++)
        if (tensor->shape.sizes[axis] < 0)
            tensor->shape.sizes[axis] = OPEN;
}

static void describe_input(struct OrtModel *own, size_t index) {
    struct Tensor *input = &own->model.inputs[index];
    char *name;
    TypeInfo *type;
    const TensorInfo *info;
    CHECK(SessionGetInputName, own->session, index, heap, &name);
    own->input_names[index] = name;
    input->name = copy_text(name);
    CHECK(SessionGetInputTypeInfo, own->session, index, &type);
    CHECK(CastTypeInfoToTensorInfo, type, &info);
    if (!info)
        fail(BAD_INPUT, "the model's input %s is no tensor", name);
    describe(info, input);
    ort.ReleaseTypeInfo(type);
}

static void remove_profile(void) {
    char pattern[sizeof profile_folder + 8];
    glob_t found;
    snprintf(pattern, sizeof pattern, "%s/*", profile_folder);
    if (!glob(pattern, 0, NULL, &found)) {
        for (size_t i = 0; i < found.gl_pathc; i++)
            unlink(found.gl_pathv[i]);
        globfree(&found);
    }
    rmdir(profile_folder);
}

static void profile_into_a_folder(SessionOptions *options) {
    const char *parent = getenv("TMPDIR");
    bool fits = parent && strlen(parent) + sizeof "/agent-XXXXXX" <= sizeof profile_folder;
    sprintf(profile_folder, "%s/agent-XXXXXX", fits ? parent : "/tmp");
    if (!mkdtemp(profile_folder))
        fail(WRITE_FAILED, "%s: no folder can be made for the profile", profile_folder);
    if_failing(remove_profile);
    char prefix[sizeof profile_folder + 16];
    sprintf(prefix, "%s/profile", profile_folder);
    CHECK(EnableProfiling, options, prefix);
}

// Tells whether sums of uint8 x int8 products saturate: on x86-64 without VNNI they do.
static bool sums_saturate(void) {
#if defined(__x86_64__)
    unsigned a, b, c, d;
    bool avx512_vnni = __get_cpuid_count(7, 0, &a, &b, &c, &d) && c & 1u << 11;
    bool avx_vnni = __get_cpuid_count(7, 1, &a, &b, &c, &d) && a & 1u << 4;
    return !avx512_vnni && !avx_vnni;
#else
    return false;
#endif
}

static SessionOptions *session_options(const struct Options *wanted, bool profiled) {
    SessionOptions *options;
    CHECK(CreateSessionOptions, &options);
    CHECK(SetSessionExecutionMode, options, SEQUENTIAL);
    CHECK(SetIntraOpNumThreads, options, wanted->threads);
    CHECK(SetInterOpNumThreads, options, 1);
    if (sums_saturate()) // elsewhere the wider sums would only take twice as long
        CHECK(AddSessionConfigEntry, options, "session.x64quantprecision", "1");
    append_provider(&ort, options, wanted);
    if (profiled)
        profile_into_a_folder(options);
    return options;
}

static Session *session_of(const struct Options *wanted, bool profiled) {
    Session *session;
    SessionOptions *options = session_options(wanted, profiled);
    Status *status = ort.CreateSession(env, wanted->model, options, &session);
    if (status && wanted->no_fallback && strstr(ort.GetErrorMessage(status), "fallback to CPU EP"))
        fail(FALLBACK, "%s: %s leaves nodes of it to the CPU; --graph without --no-fallback tells which",
             wanted->model, wanted->provider);
    check(status, UNREADABLE_MODEL, wanted->model);
    ort.ReleaseSessionOptions(options);
    return session;
}

static struct Model *load(const struct Options *wanted, bool profiled) {
    struct OrtModel *own = allocate(1, sizeof *own);
    struct Model *model = &own->model;
    own->session = session_of(wanted, profiled);
    CHECK(SessionGetInputCount, own->session, &model->input_count);
    CHECK(SessionGetOutputCount, own->session, &model->output_count);
    model->inputs = allocate(model->input_count, sizeof *model->inputs);
    own->input_names = allocate(model->input_count, sizeof *own->input_names);
    own->output_names = allocate(model->output_count, sizeof *own->output_names);
    own->inputs = allocate(model->input_count, sizeof *own->inputs);
    own->outputs = allocate(model->output_count, sizeof *own->outputs);
    for (size_t i = 0; i < model->input_count; i++)
        describe_input(own, i);
    for (size_t i = 0; i < model->output_count; i++)
        CHECK(SessionGetOutputName, own->session, i, heap, (char **)&own->output_names[i]);
    return model;
}

static void bind(struct Model *model) {
    struct OrtModel *own = (struct OrtModel *)model;
    for (size_t i = 0; i < model->input_count; i++) {
        const struct Tensor *input = &model->inputs[i];
        CHECK(CreateTensorWithDataAsOrtValue, host, input->data, input->bytes, input->shape.sizes, input->shape.rank,
              onnx_type_of(input->dtype), &own->inputs[i]);
    }
}

static void release_outputs(struct OrtModel *own) {
    for (size_t i = 0; i < own->model.output_count; i++) {
        ort.ReleaseValue(own->outputs[i]);
        own->outputs[i] = NULL;
    }
}

static void run(struct Model *model) {
    struct OrtModel *own = (struct OrtModel *)model;
    release_outputs(own);
    check(ort.Run(own->session, NULL, own->input_names, (const Value *const *)own->inputs, model->input_count,
                  own->output_names, model->output_count, own->outputs),
          RUNTIME_FAILED, "Run");
}

static struct Tensor output(struct Model *model, size_t index) {
    struct OrtModel *own = (struct OrtModel *)model;
    struct Tensor tensor = {0};
    TensorInfo *info;
    int is_tensor;
    CHECK(IsTensor, own->outputs[index], &is_tensor);
    if (!is_tensor)
        fail(BAD_INPUT, "the output %s is no tensor", own->output_names[index]);
    CHECK(GetTensorTypeAndShape, own->outputs[index], &info);
    describe(info, &tensor);
    ort.ReleaseTensorTypeAndShapeInfo(info);
    tensor.bytes = values_of(&tensor.shape) * DTYPE[tensor.dtype].bytes;
    CHECK(GetTensorMutableData, own->outputs[index], &tensor.data);
    return tensor;
}

static int64_t arena_bytes(struct Model *model) {
    struct OrtModel *own = (struct OrtModel *)model;
    if (!ort.AllocatorGetStats)
        return UNKNOWN_BYTES;
    Allocator *arena;
    Pairs *statistics;
    CHECK(CreateAllocator, own->session, host, &arena);
    CHECK(AllocatorGetStats, arena, &statistics);
    const char *total = ort.GetKeyValue(statistics, "TotalAllocated");
    int64_t bytes = total ? strtoll(total, NULL, 10) : UNKNOWN_BYTES;
    ort.ReleaseKeyValuePairs(statistics);
    ort.ReleaseAllocator(arena);
    return bytes;
}

static char *whole_file(const char *path) {
    FILE *file = fopen(path, "re");
    if (!file)
        fail(RUNTIME_FAILED, "ONNX Runtime wrote no profile to %s", path);
    char *text = NULL;
    size_t length = 0, got;
    do {
        text = reallocate(text, length + 65537, 1);
        got = fread(text + length, 1, 65536, file);
        length += got;
    } while (got);
    fclose(file);
    text[length] = 0;
    return text;
}

// ONNX Runtime's names of types ("float") as precisions.
static const char *precision_of(const char *type) {
    static const char *const NAMES[][2] = {
        {"float", "fp32"}, {"double", "fp64"}, {"float16", "fp16"}, {"bfloat16", "bf16"}};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (!strcmp(type, NAMES[i][0]))
            return NAMES[i][1];
    return type;
}

// From [{"float": [1, 3]}, ...]: the types, one a tensor.
static void add_types(struct TextList *list, const struct Json *type_shapes) {
    for (const struct Json *tensor = type_shapes ? type_shapes->first : NULL; tensor; tensor = tensor->next)
        for (const struct Json *type = tensor->first; type; type = type->next)
            add_item(list, precision_of(type->key));
}

static void add_event(struct Graph *graph, const struct Json *event) {
    static const char SUFFIX[] = "_kernel_time";
    const char *full_name = json_text(event, "name");
    const struct Json *facts = json_item(event, "args");
    size_t length = strlen(full_name), suffix = sizeof SUFFIX - 1;
    if (strcmp(json_text(event, "cat"), "Node") || length < suffix || strcmp(full_name + length - suffix, SUFFIX))
        return;
    struct TextList inputs = {0}, outputs = {0};
    add_types(&inputs, json_item(facts, "input_type_shape"));
    add_types(&outputs, json_item(facts, "output_type_shape"));
    const struct TextList *telling = inputs.count ? &inputs : &outputs;
    char *name = copy_text(full_name);
    name[length - suffix] = 0;
    struct Node *node = add_node(graph, name, json_text(facts, "op_name"),
                                 telling->count ? telling->items[0] : "unknown", json_text(facts, "provider"));
    node->inputs = inputs;
    free_list(&outputs);
    free(name);
}

static void graph(struct Model *model, struct Graph *graph) {
    struct OrtModel *own = (struct OrtModel *)model;
    char *path;
    CHECK(SessionEndProfiling, own->session, heap, &path);
    char *text = whole_file(path);
    remove_profile();
    if_failing(NULL);
    struct Json *profile = parse_json(text);
    if (!profile)
        fail(RUNTIME_FAILED, "the profile that ONNX Runtime wrote is no JSON");
    for (const struct Json *event = profile->first; event; event = event->next)
        add_event(graph, event);
    free_json(profile);
    free(text);
    CHECK(AllocatorFree, heap, path);
}

static void unload(struct Model *model) {
    struct OrtModel *own = (struct OrtModel *)model;
    release_outputs(own);
    for (size_t i = 0; i < model->input_count; i++) {
        ort.ReleaseValue(own->inputs[i]);
        CHECK(AllocatorFree, heap, (void *)own->input_names[i]);
    }
    for (size_t i = 0; i < model->output_count; i++)
        CHECK(AllocatorFree, heap, (void *)own->output_names[i]);
    ort.ReleaseSession(own->session);
    free_inputs(model);
    free(own->input_names);
    free(own->output_names);
    free(own->inputs);
    free(own->outputs);
    free(own);
}

static void close_onnxruntime(void) {
    ort.ReleaseMemoryInfo(host);
    ort.ReleaseEnv(env);
}

const struct Runtime ONNXRUNTIME = RUNTIME("onnxruntime", open_onnxruntime, close_onnxruntime);
