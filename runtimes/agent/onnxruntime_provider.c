// Who, other than the CPU, is to run a model's nodes in ONNX Runtime.
#include "onnxruntime_provider.h"

#include <stdio.h>
#include <string.h>

#include "failure.h"

enum { LONGEST_LIST = 1024, LONGEST_NAME = 64 };

static const char SUFFIX[] = "ExecutionProvider";

static void check(const struct OrtFunctions *ort, Status *status, enum Reason reason, const char *where) {
    if (status)
        fail_with_words(reason, where, ort->GetErrorMessage(status));
}

static void require_provider(const struct OrtFunctions *ort, const char *wanted) {
    char **names, list[LONGEST_LIST] = "";
    int count;
    bool found = false;
    check(ort, ort->GetAvailableProviders(&names, &count), RUNTIME_FAILED, "GetAvailableProviders");
    for (int i = 0; i < count; i++) {
        size_t length = strlen(list);
        snprintf(list + length, sizeof list - length, "%s%s", i ? ", " : "", names[i]);
        found = found || !strcmp(names[i], wanted);
    }
    check(ort, ort->ReleaseAvailableProviders(names, count), RUNTIME_FAILED, "ReleaseAvailableProviders");
    if (!found)
        fail(MISSING_RUNTIME, "this build of ONNX Runtime has no %s; it has %s", wanted, list);
}

static void append_cuda(const struct OrtFunctions *ort, SessionOptions *options, const char *name) {
    Cuda *settings;
    check(ort, ort->CreateCUDAProviderOptions(&settings), MISSING_RUNTIME, name);
    check(ort, ort->SessionOptionsAppendExecutionProvider_CUDA_V2(options, settings), MISSING_RUNTIME, name);
    ort->ReleaseCUDAProviderOptions(settings);
}

static void append_tensorrt(const struct OrtFunctions *ort, SessionOptions *options, const char *name) {
    TensorRt *settings;
    check(ort, ort->CreateTensorRTProviderOptions(&settings), MISSING_RUNTIME, name);
    check(ort, ort->SessionOptionsAppendExecutionProvider_TensorRT_V2(options, settings), MISSING_RUNTIME, name);
    ort->ReleaseTensorRTProviderOptions(settings);
}

// The C interface knows providers by shorter names: most by what stands before the suffix.
static void append_by_name(const struct OrtFunctions *ort, SessionOptions *options, const char *name) {
    static const char *const OTHERS[][2] = {
        {"AzureExecutionProvider", "AZURE"},
        {"WebGpuExecutionProvider", "WebGPU"},
        {"WebNNExecutionProvider", "WEBNN"},
        {"XnnpackExecutionProvider", "XNNPACK"},
    };
    char shorter[LONGEST_NAME];
    size_t length = strlen(name), suffix = sizeof SUFFIX - 1;
    bool ends_so = length > suffix && !strcmp(name + length - suffix, SUFFIX);
    snprintf(shorter, sizeof shorter, "%.*s", (int)(ends_so ? length - suffix : length), name);
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++)
        if (!strcmp(name, OTHERS[i][0]))
            snprintf(shorter, sizeof shorter, "%s", OTHERS[i][1]);
    check(ort, ort->SessionOptionsAppendExecutionProvider(options, shorter, NULL, NULL, 0), MISSING_RUNTIME, name);
}

void append_provider(const struct OrtFunctions *ort, SessionOptions *options, const struct Options *wanted) {
    const char *name = wanted->provider;
    if (!strcmp(name, CPU_PROVIDER))
        return;
    if (!ort->SessionOptionsAppendExecutionProvider)
        fail(OLD_RUNTIME, "ONNX Runtime is too old to be asked for %s; 1.%d or newer was expected", name,
             PROVIDER_TABLE);
    require_provider(ort, name);
    if (!strcmp(name, "CUDAExecutionProvider"))
        append_cuda(ort, options, name);
    else if (!strcmp(name, "TensorrtExecutionProvider"))
        append_tensorrt(ort, options, name);
    else
        append_by_name(ort, options, name);
    if (wanted->no_fallback)
        check(ort, ort->AddSessionConfigEntry(options, "session.disable_cpu_ep_fallback", "1"), RUNTIME_FAILED,
              "AddSessionConfigEntry");
}
