// The CompiledModel interface of LiteRT (the same in 2.1.6, 2.2.0 and 2.3.0), as far as the agent uses it.
#ifndef LITERT_INTERFACE_H
#define LITERT_INTERFACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Env Env;
typedef struct File File;  // a model as it lies in its file
typedef struct Options Options;
typedef struct Opaque Opaque;
typedef struct Compiled Compiled;
typedef struct Signature Signature;
typedef struct Subgraph Subgraph;
typedef struct Op Op;
typedef struct LrtTensor LrtTensor;
typedef struct Buffer Buffer;
typedef struct Needs Needs;
typedef struct Profiler Profiler;

enum { LRT_LARGEST_RANK = 8, CPU = 1, TO_READ = 0, TO_WRITE = 1, MEMORY_RAN_OUT = 2, OPERATOR_RAN = 2 };

struct Layout {
    uint32_t rank_and_flags;  // the rank in the lowest 7 bits
    int32_t sizes[LRT_LARGEST_RANK];
    uint32_t strides[LRT_LARGEST_RANK];
};
struct TensorType {
    int32_t element;
    struct Layout layout;
};
struct EnvOption {
    int32_t tag;
    int32_t padding;
    int32_t type;
    int64_t value;
};
struct Event {
    const char *tag;
    int32_t type;
    uint64_t start_us, elapsed_us;
    size_t memory_before[3], memory_after[3];
    uint64_t node, subgraph;
    int32_t source;
};
_Static_assert(sizeof(struct TensorType) == 72, "LiteRT's tensor type has 72 bytes");
_Static_assert(sizeof(struct EnvOption) == 24, "LiteRT's environment option has 24 bytes");
_Static_assert(sizeof(struct Event) == 104, "LiteRT's profiler event has 104 bytes");

// The functions used: X(type, name, arguments); those that return int return 0 or what went wrong. The second is never
// called: it came together with the first argument of LiteRtCreateModelFromFile, so a library without it is too old.
#define FUNCTIONS(X) \
    X(int, LiteRtCreateEnvironment, (int, const struct EnvOption *, Env **)) \
    X(int, LiteRtCreateModelFromFd, (Env *, int, size_t, size_t, File **)) \
    X(int, LiteRtCreateModelFromFile, (Env *, const char *path, File **)) \
    X(void, LiteRtDestroyEnvironment, (Env *)) \
    X(void, LiteRtDestroyModel, (File *)) \
    X(int, LiteRtCreateOptions, (Options **)) \
    X(void, LiteRtDestroyOptions, (Options *)) \
    X(int, LiteRtSetOptionsHardwareAccelerators, (Options *, int)) \
    X(int, LiteRtCreateOpaqueOptions, (const char *name, void *text, void (*destroy)(void *), Opaque **)) \
    X(int, LiteRtAddOpaqueOptions, (Options *, Opaque *)) \
    X(int, LiteRtCreateCompiledModel, (Env *, File *, Options *, Compiled **)) \
    X(void, LiteRtDestroyCompiledModel, (Compiled *)) \
    X(int, LiteRtCompiledModelResizeInputTensor, (Compiled *, size_t, size_t, const int *, size_t)) \
    X(int, LiteRtCompiledModelGetProfiler, (Compiled *, Profiler **)) \
    X(int, LiteRtGetCompiledModelOutputTensorLayouts, (Compiled *, size_t, size_t, struct Layout *, bool)) \
    X(int, LiteRtGetCompiledModelInputBufferRequirements, (Compiled *, size_t, size_t, Needs **)) \
    X(int, LiteRtGetCompiledModelOutputBufferRequirements, (Compiled *, size_t, size_t, Needs **)) \
    X(int, LiteRtRunCompiledModel, (Compiled *, size_t, size_t, Buffer **, size_t, Buffer **)) \
    X(int, LiteRtGetModelSignature, (File *, size_t, Signature **)) \
    X(int, LiteRtGetSignatureSubgraph, (Signature *, Subgraph **)) \
    X(int, LiteRtGetSignatureInputTensorByIndex, (Signature *, size_t, LrtTensor **)) \
    X(int, LiteRtGetSignatureOutputTensorByIndex, (Signature *, size_t, LrtTensor **)) \
    X(int, LiteRtGetNumSubgraphInputs, (Subgraph *, size_t *)) \
    X(int, LiteRtGetNumSubgraphOutputs, (Subgraph *, size_t *)) \
    X(int, LiteRtGetNumSubgraphOps, (Subgraph *, size_t *)) \
    X(int, LiteRtGetSubgraphInput, (Subgraph *, size_t, LrtTensor **)) \
    X(int, LiteRtGetSubgraphOutput, (Subgraph *, size_t, LrtTensor **)) \
    X(int, LiteRtGetSubgraphOp, (Subgraph *, size_t, Op **)) \
    X(int, LiteRtGetOpCode, (Op *, int *)) \
    X(int, LiteRtGetCustomCode, (Op *, const char **)) \
    X(int, LiteRtGetNumOpInputs, (Op *, size_t *)) \
    X(int, LiteRtGetOpInput, (Op *, size_t, LrtTensor **)) \
    X(int, LiteRtGetOpOutput, (Op *, size_t, LrtTensor **)) \
    X(int, LiteRtGetTensorName, (LrtTensor *, const char **)) \
    X(int, LiteRtGetRankedTensorType, (LrtTensor *, struct TensorType *)) \
    X(int, LiteRtCreateManagedTensorBufferFromRequirements, (Env *, const struct TensorType *, Needs *, Buffer **)) \
    X(void, LiteRtDestroyTensorBuffer, (Buffer *)) \
    X(int, LiteRtGetTensorBufferPackedSize, (Buffer *, size_t *)) \
    X(int, LiteRtLockTensorBuffer, (Buffer *, void **, int mode)) \
    X(int, LiteRtUnlockTensorBuffer, (Buffer *)) \
    X(int, LiteRtStartProfiler, (Profiler *)) \
    X(int, LiteRtStopProfiler, (Profiler *)) \
    X(int, LiteRtGetNumProfilerEvents, (Profiler *, int *)) \
    X(int, LiteRtGetProfilerEvents, (Profiler *, int, struct Event *))

#endif
