// OpenVINO on the CPU: libopenvino_c.so, beside the libraries it needs.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "library.h"
#include "runtime.h"

typedef struct Core Core;
typedef struct Compiled Compiled;
typedef struct Request Request;
typedef struct Port Port;
typedef struct OvTensor OvTensor;

struct Dimension {
    int64_t least, most;
};
struct PartialShape {
    struct Dimension rank;
    struct Dimension *sizes;
};
struct OvShape {
    int64_t rank;
    int64_t *sizes;
};
struct Version {
    const char *build, *description;
};
struct VersionList {
    void *versions;
    size_t count;
};
struct Profile {
    int status;
    int64_t real_us, cpu_us;
    const char *name, *kernel, *type;
};
struct ProfileList {
    struct Profile *items;
    size_t count;
};

// The functions used: X(type, name, arguments); those that return int return 0 or what went wrong.
#define FUNCTIONS(X) \
    X(int, ov_get_openvino_version, (struct Version *)) \
    X(void, ov_version_free, (struct Version *)) \
    X(const char *, ov_get_last_err_msg, (void)) \
    X(int, ov_core_create, (Core **)) \
    X(int, ov_core_get_versions_by_device_name, (const Core *, const char *device, struct VersionList *)) \
    X(void, ov_core_versions_free, (struct VersionList *)) \
    X(int, ov_core_compile_model_from_file, \
      (const Core *, const char *path, const char *device, size_t property_words, Compiled **, ...)) \
    X(int, ov_compiled_model_inputs_size, (const Compiled *, size_t *)) \
    X(int, ov_compiled_model_outputs_size, (const Compiled *, size_t *)) \
    X(int, ov_compiled_model_input_by_index, (const Compiled *, size_t, Port **)) \
    X(int, ov_compiled_model_create_infer_request, (const Compiled *, Request **)) \
    X(int, ov_port_get_any_name, (const Port *, char **)) \
    X(int, ov_port_get_partial_shape, (const Port *, struct PartialShape *)) \
    X(int, ov_port_get_element_type, (const Port *, int *)) \
    X(int, ov_tensor_create, (int type, struct OvShape, OvTensor **)) \
    X(int, ov_tensor_create_from_host_ptr, (int type, struct OvShape, void *, OvTensor **)) \
    X(int, ov_tensor_get_shape, (const OvTensor *, struct OvShape *)) \
    X(int, ov_tensor_get_element_type, (const OvTensor *, int *)) \
    X(int, ov_tensor_get_byte_size, (const OvTensor *, size_t *)) \
    X(int, ov_tensor_data, (const OvTensor *, void **)) \
    X(int, ov_infer_request_set_input_tensor_by_index, (Request *, size_t, const OvTensor *)) \
    X(int, ov_infer_request_get_output_tensor_by_index, (const Request *, size_t, OvTensor **)) \
    X(int, ov_infer_request_infer, (Request *)) \
    X(int, ov_infer_request_get_profiling_info, (const Request *, struct ProfileList *)) \
    X(void, ov_profiling_info_list_free, (struct ProfileList *)) \
    X(int, ov_shape_free, (struct OvShape *)) \
    X(void, ov_partial_shape_free, (struct PartialShape *)) \
    X(void, ov_free, (const char *)) \
    X(void, ov_output_const_port_free, (Port *)) \
    X(void, ov_tensor_free, (OvTensor *)) \
    X(void, ov_infer_request_free, (Request *)) \
    X(void, ov_compiled_model_free, (Compiled *)) \
    X(void, ov_core_free, (Core *))

static struct {
#define DECLARE(type, name, arguments) type(*name) arguments;
    FUNCTIONS(DECLARE)
#undef DECLARE
} ov;

static Core *core;

struct OvModel {
    struct Model model;
    Compiled *compiled;
    Request *request;
    OvTensor **inputs, **outputs;  // an output's is there while somebody looks at it
};

// OpenVINO's numbers for element types, as they are since 2025.
static const int TYPE_OF[DTYPES] = {
    [BOOL] = 1,  [FLOAT16] = 3, [FLOAT32] = 4, [FLOAT64] = 5, [INT8] = 7,    [INT16] = 8,
    [INT32] = 9, [INT64] = 10,  [UINT8] = 16,  [UINT16] = 17, [UINT32] = 18, [UINT64] = 19,
};

// NEWEST_IR is the latest version of the format since OpenVINO 2022.1; a release that takes a later one does not fail.
enum { EXECUTED = 2, NEWEST_IR = 11, IR_BEGINNING_BYTES = 4096 };

static void check(int status, enum Reason reason, const char *where) {
    if (!status)
        return;
    const char *words = ov.ov_get_last_err_msg();
    fail_with_words(reason, where, words && *words ? words : "OpenVINO gives no reason");
}

#define CHECK(name, ...) check(ov.name(__VA_ARGS__), RUNTIME_FAILED, #name)

// Other versions number the element types differently; a wrong number would show in the size of a tensor.
static void check_numbers(const char *path, const char *version) {
    for (int dtype = NO_DTYPE + 1; dtype < DTYPES; dtype++) {
        int64_t values = 8;
        struct OvShape shape = {1, &values};
        OvTensor *tensor;
        size_t bytes = 0;
        CHECK(ov_tensor_create, TYPE_OF[dtype], shape, &tensor);
        CHECK(ov_tensor_get_byte_size, tensor, &bytes);
        ov.ov_tensor_free(tensor);
        if (bytes != (size_t)values * DTYPE[dtype].bytes)
            fail(WRONG_LIBRARY, "%s is OpenVINO %s, whose numbers for element types this agent does not know", path,
                 version);
    }
}

static void open_openvino(const char *path, char version[VERSION_BYTES]) {
    void *library = open_library(path);
#define FETCH(type, name, arguments) ov.name = (type(*) arguments)(uintptr_t)find_function(library, path, #name);
    FUNCTIONS(FETCH)
#undef FETCH
    struct Version built;
    CHECK(ov_get_openvino_version, &built);
    snprintf(version, VERSION_BYTES, "%.*s", (int)strcspn(built.build, "-"), built.build);
    ov.ov_version_free(&built);
    check_numbers(path, version);
    // The part for the CPU is a library of its own, which is loaded only when it is needed: here, for its version.
    struct VersionList parts;
    check(ov.ov_core_create(&core), MISSING_RUNTIME, path);
    check(ov.ov_core_get_versions_by_device_name(core, "CPU", &parts), MISSING_RUNTIME, path);
    ov.ov_core_versions_free(&parts);
}

static enum Dtype dtype_of(int type, const char *name) {
    for (int dtype = NO_DTYPE + 1; dtype < DTYPES; dtype++)
        if (TYPE_OF[dtype] == type)
            return (enum Dtype)dtype;
    fail(BAD_INPUT, "%s has OpenVINO's element type %d, which no .npy file can hold", name, type);
}

static void check_rank(int64_t rank, const char *name) {
    if (rank < 0 || rank > LARGEST_RANK)
        fail(BAD_INPUT, "%s: a known number of axes was expected, %d at most", name, LARGEST_RANK);
}

static void describe_input(struct OvModel *own, size_t index) {
    struct Tensor *input = &own->model.inputs[index];
    struct PartialShape shape;
    Port *port;
    char *name = NULL;
    int type;
    CHECK(ov_compiled_model_input_by_index, own->compiled, index, &port);
    if (ov.ov_port_get_any_name(port, &name) == 0) {
        input->name = copy_text(name);
        ov.ov_free(name);
    } else {
        input->name = copy_text("without a name");
    }
    CHECK(ov_port_get_element_type, port, &type);
    input->dtype = dtype_of(type, input->name);
    CHECK(ov_port_get_partial_shape, port, &shape);
    check_rank(shape.rank.least == shape.rank.most ? shape.rank.least : -1, input->name);
    input->shape.rank = (size_t)shape.rank.least;
    for (size_t axis = 0; axis < input->shape.rank; axis++)
        input->shape.sizes[axis] = shape.sizes[axis].least == shape.sizes[axis].most ? shape.sizes[axis].least : OPEN;
    ov.ov_partial_shape_free(&shape);
    ov.ov_output_const_port_free(port);
}

// What a model's file says of the version of its format, 0 where it says none.
static int ir_version(const char *path) {
    static const char KEY[] = " version=\"";
    char text[IR_BEGINNING_BYTES + 1] = "";
    FILE *file = fopen(path, "re");
    if (file) {
        text[fread(text, 1, IR_BEGINNING_BYTES, file)] = 0;
        fclose(file);
    }
    const char *net = strstr(text, "<net "), *key = net ? strstr(net, KEY) : NULL;
    return key && key < net + strcspn(net, ">") ? atoi(key + strlen(KEY)) : 0;
}

static struct Model *load(const struct Options *wanted, bool profiled) {
    const char *path = wanted->model;
    struct OvModel *own = allocate(1, sizeof *own);
    struct Model *model = &own->model;
    char count[16];
    snprintf(count, sizeof count, "%d", wanted->threads);
    // Pairs of name and value. Left to itself, OpenVINO computes fp32 models in bf16 or fp16.
    int status = ov.ov_core_compile_model_from_file(core, path, "CPU", 8, &own->compiled, "INFERENCE_PRECISION_HINT",
                                                    "f32", "INFERENCE_NUM_THREADS", count, "NUM_STREAMS", "1",
                                                    "PERF_COUNT", profiled ? "YES" : "NO");
    if (status && ir_version(path) > NEWEST_IR)  // OpenVINO's own words do not name the version
        fail(OLD_RUNTIME, "%s: OpenVINO is too old: it takes the IR up to version %d; the model has %d", path,
             NEWEST_IR, ir_version(path));
    check(status, UNREADABLE_MODEL, path);
    check(ov.ov_compiled_model_create_infer_request(own->compiled, &own->request), UNREADABLE_MODEL, path);
    CHECK(ov_compiled_model_inputs_size, own->compiled, &model->input_count);
    CHECK(ov_compiled_model_outputs_size, own->compiled, &model->output_count);
    model->inputs = allocate(model->input_count, sizeof *model->inputs);
    own->inputs = allocate(model->input_count, sizeof *own->inputs);
    own->outputs = allocate(model->output_count, sizeof *own->outputs);
    for (size_t i = 0; i < model->input_count; i++)
        describe_input(own, i);
    return model;
}

static void bind(struct Model *model) {
    struct OvModel *own = (struct OvModel *)model;
    for (size_t i = 0; i < model->input_count; i++) {
        struct Tensor *input = &model->inputs[i];
        struct OvShape shape = {(int64_t)input->shape.rank, input->shape.sizes};
        CHECK(ov_tensor_create_from_host_ptr, TYPE_OF[input->dtype], shape, input->data, &own->inputs[i]);
        CHECK(ov_infer_request_set_input_tensor_by_index, own->request, i, own->inputs[i]);
    }
}

static void release_outputs(struct OvModel *own) {
    for (size_t i = 0; i < own->model.output_count; i++) {
        if (own->outputs[i])
            ov.ov_tensor_free(own->outputs[i]);
        own->outputs[i] = NULL;
    }
}

static void run(struct Model *model) {
    struct OvModel *own = (struct OvModel *)model;
    release_outputs(own);
    CHECK(ov_infer_request_infer, own->request);
}

static struct Shape shape_of(const OvTensor *tensor, enum Dtype dtype) {
    struct Shape shape = {0};
    struct OvShape told;
    size_t bytes;
    int status = ov.ov_tensor_get_shape(tensor, &told);
    CHECK(ov_tensor_get_byte_size, tensor, &bytes);
    if (status && bytes == DTYPE[dtype].bytes)
        return shape;  // a value without axes: OpenVINO's C interface has no shape for it
    check(status, RUNTIME_FAILED, "ov_tensor_get_shape");
    check_rank(told.rank, "an output");
    shape.rank = (size_t)told.rank;
    for (size_t axis = 0; axis < shape.rank; axis++)
        shape.sizes[axis] = told.sizes[axis];
    CHECK(ov_shape_free, &told);
    return shape;
}

static struct Tensor output(struct Model *model, size_t index) {
    struct OvModel *own = (struct OvModel *)model;
    struct Tensor tensor = {0};
    int type;
    if (!own->outputs[index])
        CHECK(ov_infer_request_get_output_tensor_by_index, own->request, index, &own->outputs[index]);
    CHECK(ov_tensor_get_element_type, own->outputs[index], &type);
    tensor.dtype = dtype_of(type, "an output");
    tensor.shape = shape_of(own->outputs[index], tensor.dtype);
    tensor.bytes = values_of(&tensor.shape) * DTYPE[tensor.dtype].bytes;
    CHECK(ov_tensor_data, own->outputs[index], &tensor.data);
    return tensor;
}

static int64_t arena_bytes(struct Model *model) {
    (void)model;
    return UNKNOWN_BYTES;
}

// A kernel's own suffix ("brgconv_avx512_I8") as a precision; one of 8 bits does not tell whether it is signed.
static const char *precision_of(const char *kernel) {
    static const char *const NAMES[][2] = {{"f32", "fp32"},  {"fp32", "fp32"}, {"f16", "fp16"},
                                           {"fp16", "fp16"}, {"bf16", "bf16"}, {"i8", "int8"},
                                           {"u8", "uint8"},  {"i32", "int32"}, {"i64", "int64"}};
    const char *underscore = strrchr(kernel, '_');
    const char *suffix = underscore ? underscore + 1 : kernel;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (!strcasecmp(suffix, NAMES[i][0]))
            return NAMES[i][1];
    return suffix;
}

static void graph(struct Model *model, struct Graph *graph) {
    struct OvModel *own = (struct OvModel *)model;
    struct ProfileList profile;
    CHECK(ov_infer_request_get_profiling_info, own->request, &profile);
    for (size_t i = 0; i < profile.count; i++) {
        const struct Profile *item = &profile.items[i];
        if (item->status == EXECUTED)
            add_node(graph, item->name, item->type, precision_of(item->kernel), item->kernel);
    }
    ov.ov_profiling_info_list_free(&profile);
}

static void unload(struct Model *model) {
    struct OvModel *own = (struct OvModel *)model;
    release_outputs(own);
    for (size_t i = 0; i < model->input_count; i++)
        if (own->inputs[i])
            ov.ov_tensor_free(own->inputs[i]);
    ov.ov_infer_request_free(own->request);
    ov.ov_compiled_model_free(own->compiled);
    free_inputs(model);
    free(own->inputs);
    free(own->outputs);
    free(own);
}

static void close_openvino(void) {
    ov.ov_core_free(core);
}

const struct Runtime OPENVINO = RUNTIME("openvino", open_openvino, close_openvino);
