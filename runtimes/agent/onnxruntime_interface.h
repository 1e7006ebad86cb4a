// The functions of ONNX Runtime that the agent uses, by their places in its table, which is only ever appended to.
#ifndef ONNXRUNTIME_INTERFACE_H
#define ONNXRUNTIME_INTERFACE_H

#include <stddef.h>
#include <stdint.h>

typedef struct Status Status;
typedef struct Env Env;
typedef struct SessionOptions SessionOptions;
typedef struct Session Session;
typedef struct Value Value;
typedef struct TypeInfo TypeInfo;
typedef struct TensorInfo TensorInfo;
typedef struct MemoryInfo MemoryInfo;
typedef struct Allocator Allocator;
typedef struct Pairs Pairs;
typedef struct TensorRt TensorRt;
typedef struct Cuda Cuda;

// The functions used: X(place in the table, type, name, arguments).
#define FUNCTIONS(X) \
    X(2, const char *, GetErrorMessage, (const Status *)) \
    X(3, Status *, CreateEnv, (int severity, const char *name, Env **)) \
    X(7, Status *, CreateSession, (const Env *, const char *path, const SessionOptions *, Session **)) \
    X(9, Status *, Run, \
      (Session *, const void *options, const char *const *inputs, const Value *const *, size_t, \
       const char *const *outputs, size_t, Value **)) \
    X(10, Status *, CreateSessionOptions, (SessionOptions **)) \
    X(13, Status *, SetSessionExecutionMode, (SessionOptions *, int mode)) \
    X(14, Status *, EnableProfiling, (SessionOptions *, const char *prefix)) \
    X(24, Status *, SetIntraOpNumThreads, (SessionOptions *, int)) \
    X(25, Status *, SetInterOpNumThreads, (SessionOptions *, int)) \
    X(30, Status *, SessionGetInputCount, (const Session *, size_t *)) \
    X(31, Status *, SessionGetOutputCount, (const Session *, size_t *)) \
    X(33, Status *, SessionGetInputTypeInfo, (const Session *, size_t, TypeInfo **)) \
    X(36, Status *, SessionGetInputName, (const Session *, size_t, Allocator *, char **)) \
    X(37, Status *, SessionGetOutputName, (const Session *, size_t, Allocator *, char **)) \
    X(49, Status *, CreateTensorWithDataAsOrtValue, \
      (const MemoryInfo *, void *, size_t bytes, const int64_t *shape, size_t rank, int type, Value **)) \
    X(50, Status *, IsTensor, (const Value *, int *)) \
    X(51, Status *, GetTensorMutableData, (Value *, void **)) \
    X(55, Status *, CastTypeInfoToTensorInfo, (const TypeInfo *, const TensorInfo **)) \
    X(60, Status *, GetTensorElementType, (const TensorInfo *, int *)) \
    X(61, Status *, GetDimensionsCount, (const TensorInfo *, size_t *)) \
    X(62, Status *, GetDimensions, (const TensorInfo *, int64_t *, size_t)) \
    X(65, Status *, GetTensorTypeAndShape, (const Value *, TensorInfo **)) \
    X(69, Status *, CreateCpuMemoryInfo, (int allocator, int memory, MemoryInfo **)) \
    X(76, Status *, AllocatorFree, (Allocator *, void *)) \
    X(78, Status *, GetAllocatorWithDefaultOptions, (Allocator **)) \
    X(92, void, ReleaseEnv, (Env *)) \
    X(93, void, ReleaseStatus, (Status *)) \
    X(94, void, ReleaseMemoryInfo, (MemoryInfo *)) \
    X(95, void, ReleaseSession, (Session *)) \
    X(96, void, ReleaseValue, (Value *)) \
    X(98, void, ReleaseTypeInfo, (TypeInfo *)) \
    X(99, void, ReleaseTensorTypeAndShapeInfo, (TensorInfo *)) \
    X(100, void, ReleaseSessionOptions, (SessionOptions *)) \
    X(110, Status *, SessionEndProfiling, (Session *, Allocator *, char **path)) \
    X(130, Status *, AddSessionConfigEntry, (SessionOptions *, const char *key, const char *value)) \
    X(131, Status *, CreateAllocator, (const Session *, const MemoryInfo *, Allocator **)) \
    X(132, void, ReleaseAllocator, (Allocator *))
// The table has these since the version of ONNX Runtime that knows how to refuse a fallback to the CPU.
#define PROVIDER_FUNCTIONS(X) \
    X(125, Status *, GetAvailableProviders, (char ***names, int *)) \
    X(126, Status *, ReleaseAvailableProviders, (char **names, int)) \
    X(170, Status *, SessionOptionsAppendExecutionProvider_TensorRT_V2, (SessionOptions *, const TensorRt *)) \
    X(171, Status *, CreateTensorRTProviderOptions, (TensorRt **)) \
    X(174, void, ReleaseTensorRTProviderOptions, (TensorRt *)) \
    X(204, Status *, SessionOptionsAppendExecutionProvider_CUDA_V2, (SessionOptions *, const Cuda *)) \
    X(205, Status *, CreateCUDAProviderOptions, (Cuda **)) \
    X(208, void, ReleaseCUDAProviderOptions, (Cuda *)) \
    X(216, Status *, SessionOptionsAppendExecutionProvider, \
      (SessionOptions *, const char *name, const char *const *keys, const char *const *values, size_t))
// These came with version 23 of the table.
#define STATISTICS_FUNCTIONS(X) \
    X(297, const char *, GetKeyValue, (const Pairs *, const char *key)) \
    X(300, void, ReleaseKeyValuePairs, (Pairs *)) \
    X(319, Status *, AllocatorGetStats, (const Allocator *, Pairs **))

enum { OLDEST_TABLE = 11, PROVIDER_TABLE = 16, STATISTICS_TABLE = 23 };
enum { WARNINGS = 2, SEQUENTIAL = 0, ARENA = 1, DEFAULT_MEMORY = 0 };

struct Base {
    const void *const *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
};

// Those of a later table than the library has are NULL.
struct OrtFunctions {
#define DECLARE(place, type, name, arguments) type(*name) arguments;
    FUNCTIONS(DECLARE)
    PROVIDER_FUNCTIONS(DECLARE)
    STATISTICS_FUNCTIONS(DECLARE)
#undef DECLARE
};

#endif
