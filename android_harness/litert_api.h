// LiteRT's CompiledModel C API in declarations of our own, as it is since 2.3.0.
#ifndef MOBENCH_LITERT_API_H
#define MOBENCH_LITERT_API_H

#include "harness.h"

typedef void *handle;
typedef int status;  // 0 is fine

enum { CPU = 1, GPU = 2 };                                    // hardware, bits
enum { OPTION_RUNTIME_FOLDER = 22, OPTION_REGISTER = 24 };    // of an environment
enum { ANY_INTEGER = 2, ANY_STRING = 8 };                     // how an option's value is held
enum { TO_READ = 0, TO_WRITE = 1 };
enum { QUANTIZED_PER_TENSOR = 1 };
enum { STATUS_COMPILATION = 504 };

struct option {
    int tag;
    struct {
        int type;
        union {
            int64_t integer;
            const char *string;
        };
    } value;
};

struct layout {
    uint32_t rank : 7, has_strides : 1;
    int32_t axes[MAX_RANK];  // less than 0 where open
    uint32_t strides[MAX_RANK];
};

struct tensor_type {
    int element;
    struct layout layout;
};

struct quantization {
    float scale;
    int64_t zero_point;
};

_Static_assert(sizeof(struct tensor_type) == 72 && sizeof(struct option) == 24, "LiteRT's own layout");

// Every function that is used, as it is since 2.3.0: its name without LiteRt, its result, and what it takes.
#define FUNCTIONS(F)                                                                                       \
    F(CreateEnvironment, status, (int count, const struct option *options, handle *environment))           \
    F(GetNumAccelerators, status, (handle environment, size_t *count))                                     \
    F(GetAccelerator, status, (handle environment, size_t index, handle *accelerator))                     \
    F(GetAcceleratorName, status, (handle accelerator, const char **name))                                 \
    F(GetAcceleratorHardwareSupport, status, (handle accelerator, int *hardware))                          \
    F(CreateModelFromFile, status, (handle environment, const char *path, handle *model))                  \
    F(GetModelSignature, status, (handle model, size_t index, handle *signature))                          \
    F(GetSignatureSubgraph, status, (handle signature, handle *subgraph))                                  \
    F(GetNumSubgraphOps, status, (handle subgraph, size_t *count))                                         \
    F(GetNumSignatureInputs, status, (handle signature, size_t *count))                                    \
    F(GetNumSignatureOutputs, status, (handle signature, size_t *count))                                   \
    F(GetSignatureInputTensorByIndex, status, (handle signature, size_t index, handle *tensor))            \
    F(GetSignatureOutputTensorByIndex, status, (handle signature, size_t index, handle *tensor))           \
    F(GetTensorName, status, (handle tensor, const char **name))                                           \
    F(GetRankedTensorType, status, (handle tensor, struct tensor_type *type))                              \
    F(GetQuantizationTypeId, status, (handle tensor, int *kind))                                           \
    F(GetPerTensorQuantization, status, (handle tensor, struct quantization *quantization))                \
    F(CreateOptions, status, (handle *options))                                                            \
    F(SetOptionsHardwareAccelerators, status, (handle options, int hardware))                              \
    F(CreateOpaqueOptions, status, (const char *name, void *text, void (*release)(void *), handle *opaque)) \
    F(AddOpaqueOptions, status, (handle options, handle opaque))                                           \
    F(CreateCompiledModel, status, (handle environment, handle model, handle options, handle *compiled))   \
    F(CompiledModelIsFullyAccelerated, status, (handle compiled, bool *full))                              \
    F(CompiledModelIsNonCpuFullyAccelerated, status, (handle compiled, bool *full))                        \
    F(CompiledModelResizeInputTensorNonStrict, status,                                                     \
      (handle compiled, size_t signature, size_t index, const int *axes, size_t rank))                     \
    F(GetCompiledModelInputBufferRequirements, status,                                                     \
      (handle compiled, size_t signature, size_t index, handle *requirements))                             \
    F(GetCompiledModelOutputBufferRequirements, status,                                                    \
      (handle compiled, size_t signature, size_t index, handle *requirements))                             \
    F(GetCompiledModelOutputTensorLayouts, status,                                                         \
      (handle compiled, size_t signature, size_t count, struct layout *layouts, bool update))              \
    F(CreateManagedTensorBufferFromRequirements, status,                                                   \
      (handle environment, const struct tensor_type *type, handle requirements, handle *buffer))           \
    F(LockTensorBuffer, status, (handle buffer, void **bytes, int mode))                                   \
    F(UnlockTensorBuffer, status, (handle buffer))                                                         \
    F(DestroyCompiledModel, void, (handle compiled))                                                       \
    F(CompiledModelGetProfiler, status, (handle compiled, handle *profiler))                               \
    F(StartProfiler, status, (handle profiler))                                                            \
    F(StopProfiler, status, (handle profiler))                                                             \
    F(GetProfileSummary, status, (handle profiler, handle compiled, char **text))                          \
    F(RunCompiledModel, status,                                                                            \
      (handle compiled, size_t signature, size_t n_in, handle *in, size_t n_out, handle *out))

#endif
