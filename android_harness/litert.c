// LiteRT through its CompiledModel C API. libLiteRt.so comes without headers, its ABI was not stable before 2.3.0
// (creating a model took other arguments), and it tells no version: the symbols that it has decide.
#include "litert_events.h"
#include "system.h"

#define MEMBER(name, result, arguments) result(*name) arguments;
static struct {
    FUNCTIONS(MEMBER)
} lite;

#define SLOT(name, result, arguments) {"LiteRt" #name, (void **)(void *)&lite.name},
static const struct {
    const char *name;
    void **slot;
} SYMBOLS[] = {FUNCTIONS(SLOT)};

static const char *model_name, *failed_step;
static int failed_code;
static bool on_gpu;
static void *library;
static handle environment, file, compiled, copy, profiler;  // the copy has the profiler on
static size_t n_inputs, n_outputs;
static handle inputs[MAX_TENSORS], outputs[MAX_TENSORS];
static bool resized[MAX_TENSORS];

static bool open_library(const struct config *config, char *version, size_t size, struct fault *fault) {
    (void)size;
    version[0] = '\0';
    library = dlopen(config->library, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return fail(fault, "session", "LiteRT cannot be loaded", "run: mobench android setup", "%s", dlerror());
    for (size_t i = 0; i < sizeof SYMBOLS / sizeof *SYMBOLS; i++) {
        *SYMBOLS[i].slot = dlsym(library, SYMBOLS[i].name);
        if (*SYMBOLS[i].slot == NULL)
            return fail(fault, "session", "this is no LiteRT that the harness knows", "take LiteRT 2.3.0 or newer",
                        "%s has no %s", config->library, SYMBOLS[i].name);
    }
    return true;
}

static enum dtype to_dtype(int element) {
    switch (element) {
        case 1: return FLOAT32;
        case 2: return INT32;
        case 3: return UINT8;
        case 4: return INT64;
        case 6: return BOOL;
        case 7: return INT16;
        case 8: return COMPLEX64;
        case 9: return INT8;
        case 10: return FLOAT16;
        case 11: return FLOAT64;
        case 13: return UINT64;
        case 16: return UINT32;
        case 17: return UINT16;
        case 19: return BFLOAT16;
        default: return OTHER_DTYPE;
    }
}

// Append a piece of what the runtime printed, to the end where `to` is NULL; its lines joined by "; ".
static void add_lines(const char *from, const char *to, char *text, size_t size) {
    size_t length = strlen(text);
    for (to = to == NULL ? from + strlen(from) : to; from < to && length + 3 < size; from++) {
        if (*from == '\n' && (from + 1 == to || from[1] == '\n')) continue;
        if (*from == '\n') text[length++] = ';';
        text[length++] = *from == '\n' ? ' ' : *from;
    }
    text[length] = '\0';
}

// The lines that begin with ERROR, or as Abseil's errors do: E, month and day.
static void find_errors(const char *log, char *text, size_t size) {
    for (const char *line = log, *end; line != NULL; line = end == NULL ? NULL : end + 1) {
        end = strchr(line, '\n');
        if (strncmp(line, "ERROR", 5) != 0 && !(line[0] == 'E' && line[1] >= '0' && line[1] <= '9')) continue;
        if (text[0] != '\0') add_lines("; ", NULL, text, size);
        add_lines(line, end, text, size);
    }
}

// Note which step failed; load() tells why, once what the runtime printed is known.
static bool fail_to_load(const char *step, int code) {
    failed_step = step;
    failed_code = code;
    return false;
}

static bool explain_load(const char *log, struct fault *fault) {
    static const char LIST[] = "not supported by GPU delegate:\n";
    char what[NAME_BYTES + 64], why[600] = "";
    const char *list = strstr(log, LIST);
    if (on_gpu && (list != NULL || failed_code == STATUS_COMPILATION)) {
        if (list != NULL) {  // the operators, a line each, and how many of them run where
            list += strlen(LIST);
            const char *last = strstr(list, " operations will run on the GPU");
            add_lines(list, last == NULL ? NULL : strchr(last, '\n'), why, sizeof why);
        } else {
            add_lines("the runtime does not print which operators it leaves", NULL, why, sizeof why);
        }
        snprintf(what, sizeof what, "the GPU does not take all of %s", model_name);
        return fail(fault, "session", what, "export it without them, or run it on the CPU", "partial: %s", why);
    }
    find_errors(log, why, sizeof why);
    if (strstr(log, "unresolved custom op") != NULL) {
        snprintf(what, sizeof what, "%s needs an operator litert does not have", model_name);
        return fail(fault, "session", what, "export it without this operator", "%s", why);
    }
    snprintf(what, sizeof what, on_gpu ? "the GPU cannot load or run %s" : "litert cannot load or run %s", model_name);
    return fail(fault, "session", what, on_gpu ? "run it on the CPU" : "check the file, or export it again",
                "%s, status %d%s%s", failed_step, failed_code, why[0] ? "; " : "", why);
}

static bool make_environment(const struct config *config) {
    struct option options[2] = {
        {OPTION_REGISTER, {ANY_INTEGER, {.integer = on_gpu ? CPU | GPU : CPU}}},
        {OPTION_RUNTIME_FOLDER, {ANY_STRING, {.string = config->accelerators}}},
    };
    status code = lite.CreateEnvironment(on_gpu ? 2 : 1, options, &environment);
    return code == 0 || fail_to_load("no environment", code);
}

// Without an accelerator, asking for GPU and CPU would run on the CPU and say that all is accelerated.
static bool find_gpu(const struct config *config, struct model *model, struct fault *fault) {
    size_t count = 0;
    lite.GetNumAccelerators(environment, &count);
    for (size_t i = 0; i < count; i++) {
        handle accelerator;
        int hardware = 0;
        const char *name = NULL;
        if (lite.GetAccelerator(environment, i, &accelerator) != 0) continue;
        if (lite.GetAcceleratorHardwareSupport(accelerator, &hardware) != 0 || !(hardware & GPU)) continue;
        if (lite.GetAcceleratorName(accelerator, &name) != 0 || name == NULL) name = "GPU";
        snprintf(model->got, sizeof model->got, "%s %s", name, config->provider + strlen("gpu-"));
        return true;
    }
    return fail(fault, "session", "LiteRT finds no GPU here", "run: mobench android setup, with the GPU accelerator",
                "no accelerator library in %s that can be loaded", config->accelerators);
}

// WebGPU's log names the adapter it took, and says where that is a processor: then it proves a path, never a speed.
static void name_adapter(const char *log, struct model *model) {
    static const char FOUND[] = "Selected adapter: ";
    const char *name = strstr(log, FOUND);
    if (name == NULL) return;
    name += strlen(FOUND);
    size_t length = strlen(model->got), bytes = 0;
    while (name[bytes] != '\0' && name[bytes] != ',' && name[bytes] != '\n') bytes++;
    const char *type = strstr(name, "adapterType="), *end = strchr(name, '\n');
    bool software = type != NULL && (end == NULL || type < end) && strncmp(type, "adapterType=CPU", 15) == 0;
    snprintf(model->got + length, sizeof model->got - length, " on %.*s%s", (int)bytes, name,
             software ? ", in software" : "");
}

static bool add_options(handle options, const char *name, const char *text) {
    handle opaque;
    char *copy = strdup(text);  // LiteRT frees it
    status code = copy == NULL ? 2 : lite.CreateOpaqueOptions(name, copy, free, &opaque);
    if (code == 0) code = lite.AddOpaqueOptions(options, opaque);
    return code == 0 || fail_to_load("no options", code);
}

static bool compile(const struct config *config, bool profiled, handle *to) {
    handle options;
    char threads[32];
    status code = lite.CreateOptions(&options);
    if (code == 0) code = lite.SetOptionsHardwareAccelerators(options, on_gpu ? GPU : CPU);
    if (code != 0) return fail_to_load("no options", code);
    snprintf(threads, sizeof threads, "num_threads = %d\n", config->threads);
    if (!add_options(options, "xnnpack", threads)) return false;
    const char *precision = strcmp(config->provider, "gpu-fp16") == 0 ? "precision = 1\n" : "precision = 2\n";
    if (on_gpu && !add_options(options, "gpu_options", precision)) return false;
    if (profiled && !add_options(options, "runtime_options_string", "enable_profiling = true\n")) return false;
    code = lite.CreateCompiledModel(environment, file, options, to);
    return code == 0 || fail_to_load("not compiled", code);
}

static bool resize(handle model, const struct tensor *tensors) {
    for (size_t i = 0; i < n_inputs; i++) {
        if (!resized[i]) continue;
        int axes[MAX_RANK];
        for (int axis = 0; axis < tensors[i].rank; axis++) axes[axis] = (int)tensors[i].shape[axis];
        status code = lite.CompiledModelResizeInputTensorNonStrict(model, 0, i, axes, (size_t)tensors[i].rank);
        if (code != 0) return fail_to_load("an input cannot be resized", code);
    }
    return true;
}

static bool describe(handle tensor, struct tensor *to, struct tensor_type *type) {
    const char *name = "";
    int kind = 0;
    struct quantization quantization;
    if (lite.GetTensorName(tensor, &name) == 0 && name != NULL) snprintf(to->name, sizeof to->name, "%s", name);
    status code = lite.GetRankedTensorType(tensor, type);
    if (code != 0 || type->layout.rank > MAX_RANK) return fail_to_load("a tensor without a shape", code);
    to->dtype = to_dtype(type->element);
    to->rank = (int)type->layout.rank;
    for (int axis = 0; axis < to->rank; axis++) to->shape[axis] = type->layout.axes[axis];
    if (lite.GetQuantizationTypeId(tensor, &kind) == 0 && kind == QUANTIZED_PER_TENSOR &&
        lite.GetPerTensorQuantization(tensor, &quantization) == 0 && quantization.scale != 0) {
        to->quantized = true;
        to->scale = (double)quantization.scale;
        to->zero_point = quantization.zero_point;
    }
    return true;
}

static bool make_buffer(bool input, size_t index, struct tensor_type *type, const struct tensor *tensor,
                        struct fault *fault) {
    handle requirements;
    for (int axis = 0; axis < tensor->rank; axis++) type->layout.axes[axis] = (int32_t)tensor->shape[axis];
    if (count_elements(tensor) < 0 || element_bytes(tensor->dtype) == 0) {
        char what[NAME_BYTES + 32];
        snprintf(what, sizeof what, "%s '%s'", input ? "input" : "output", tensor->name);
        return fail(fault, "session", what, "export it with fixed shapes",
                    element_bytes(tensor->dtype) ? "its shape is only known when the model runs"
                                                 : "its dtype is none that NumPy has");
    }
    status code = input ? lite.GetCompiledModelInputBufferRequirements(compiled, 0, index, &requirements)
                        : lite.GetCompiledModelOutputBufferRequirements(compiled, 0, index, &requirements);
    if (code == 0)
        code = lite.CreateManagedTensorBufferFromRequirements(environment, type, requirements,
                                                              input ? &inputs[index] : &outputs[index]);
    return code == 0 || fail_to_load(input ? "no input buffer" : "no output buffer", code);
}

static bool make_inputs(const struct config *config, handle signature, struct model *model, struct fault *fault) {
    struct tensor_type types[MAX_TENSORS];
    for (size_t i = 0; i < n_inputs; i++) {
        handle tensor;
        status code = lite.GetSignatureInputTensorByIndex(signature, i, &tensor);
        if (code != 0) return fail_to_load("no input", code);
        struct tensor *input = &model->inputs[i];
        if (!describe(tensor, input, &types[i])) return false;
        struct tensor before = *input;
        if (!settle_shape(config, i == 0, true, input, fault)) return false;
        resized[i] = memcmp(before.shape, input->shape, sizeof before.shape) != 0;
    }
    if (!resize(compiled, model->inputs)) return false;
    for (size_t i = 0; i < n_inputs; i++)
        if (!make_buffer(true, i, &types[i], &model->inputs[i], fault)) return false;
    return true;
}

static bool make_outputs(handle signature, struct model *model, struct fault *fault) {
    static struct layout layouts[MAX_TENSORS];
    struct tensor_type type;
    status code = lite.GetCompiledModelOutputTensorLayouts(compiled, 0, n_outputs, layouts, true);
    for (size_t i = 0; i < n_outputs && code == 0; i++) {
        handle tensor;
        struct tensor *output = &model->outputs[i];
        code = lite.GetSignatureOutputTensorByIndex(signature, i, &tensor);
        if (code != 0) break;
        if (!describe(tensor, output, &type)) return false;
        type.layout = layouts[i];
        output->rank = layouts[i].rank > MAX_RANK ? 0 : (int)layouts[i].rank;
        for (int axis = 0; axis < output->rank; axis++) output->shape[axis] = layouts[i].axes[axis];
        if (!make_buffer(false, i, &type, output, fault)) return false;
    }
    return code == 0 || fail_to_load("no outputs", code);
}

static bool load_kept(const struct config *config, struct model *model, struct fault *fault) {
    handle signature, subgraph;
    size_t total = 0;
    bool full = false;
    if (!make_environment(config)) return false;
    if (on_gpu && !find_gpu(config, model, fault)) return false;
    status code = lite.CreateModelFromFile(environment, config->model, &file);
    if (code != 0) return fail_to_load("not a TFLite file that it reads", code);
    if (!compile(config, false, &compiled)) return false;
    code = lite.GetModelSignature(file, 0, &signature);
    if (code == 0) code = lite.GetSignatureSubgraph(signature, &subgraph);
    if (code == 0) code = lite.GetNumSubgraphOps(subgraph, &total);
    if (code == 0) code = lite.GetNumSignatureInputs(signature, &n_inputs);
    if (code == 0) code = lite.GetNumSignatureOutputs(signature, &n_outputs);
    if (code == 0 && on_gpu) code = lite.CompiledModelIsNonCpuFullyAccelerated(compiled, &full);
    else if (code == 0) code = lite.CompiledModelIsFullyAccelerated(compiled, &full);
    if (code != 0 || n_inputs > MAX_TENSORS || n_outputs > MAX_TENSORS || n_outputs == 0)
        return fail_to_load("no signature", code);
    if (on_gpu && !full)
        return fail(fault, "session", config->name, "export it without them", "partial: the GPU left nodes on the CPU");
    model->n_inputs = n_inputs;
    model->n_outputs = n_outputs;
    model->nodes_total = (int64_t)total;
    model->nodes_delegated = full ? (int64_t)total : -1;
    return make_inputs(config, signature, model, fault) && make_outputs(signature, model, fault);
}

static bool load(const struct config *config, struct model *model, struct fault *fault) {
    model_name = config->name;
    on_gpu = strcmp(config->provider, "gpu-fp16") == 0 || strcmp(config->provider, "gpu-fp32") == 0;
    if (!on_gpu && config->provider[0] != '\0' && strcmp(config->provider, "xnnpack") != 0)
        return fail(fault, "bad_input", config->provider, "take xnnpack, gpu-fp16 or gpu-fp32",
                    "LiteRT has no such delegate");
    snprintf(model->asked, sizeof model->asked, on_gpu ? "GPU %s" : "XNNPACK", config->provider + strlen("gpu-"));
    keep_log();
    bool loaded = load_kept(config, model, fault);
    const char *log = release_log();
    if (loaded && on_gpu) name_adapter(log, model);
    return loaded || explain_load(log, fault);
}

// Count the nodes that the delegate left in a table that the profiler prints: "NAME ... [Builtin]:30", where 30 is the
// node's number. A delegate's own node has a number behind all others.
static void count_left(const char *summary, struct model *model) {
    const char *end = strstr(summary, "= Top by Computation Time =");
    int64_t left = 0;
    for (const char *at = summary; (at = strstr(at, "[Builtin]:")) != NULL && at < end; at++)
        left += strtoll(at + strlen("[Builtin]:"), NULL, 10) < model->nodes_total;
    if (end != NULL) model->nodes_delegated = model->nodes_total - left;
}

// LiteRT says only whether all nodes are delegated. How many are is seen in one inference of a second copy with a
// profiler, which would slow the first one down.
static void count_nodes(const struct config *config, struct model *model) {
    char *summary = NULL;
    if (!compile(config, true, &copy)) return;
    if (resize(copy, model->inputs) && lite.CompiledModelGetProfiler(copy, &profiler) == 0 &&
        lite.StartProfiler(profiler) == 0 &&
        lite.RunCompiledModel(copy, 0, n_inputs, inputs, n_outputs, outputs) == 0 && lite.StopProfiler(profiler) == 0 &&
        lite.GetProfileSummary(profiler, copy, &summary) == 0 && summary != NULL)
        count_left(summary, model);
    free(summary);
    lite.DestroyCompiledModel(copy);
    copy = NULL;
}

static bool describe_run(const struct config *config, struct model *model, struct fault *fault) {
    (void)fault;
    if (model->nodes_delegated < 0) {
        keep_log();
        count_nodes(config, model);
        release_log();
    }
    if (!on_gpu) snprintf(model->got, sizeof model->got, "%s", model->nodes_delegated ? "XNNPACK" : "built-in kernels");
    return true;
}

static bool set_input(size_t index, const void *bytes, size_t size, struct fault *fault) {
    void *to;
    status code = lite.LockTensorBuffer(inputs[index], &to, TO_WRITE);
    if (code == 0) {
        memcpy(to, bytes, size);
        code = lite.UnlockTensorBuffer(inputs[index]);
    }
    return code == 0 || fail(fault, "session", model_name, "", "its input cannot be written: status %d", code);
}

static status run(handle model) {
    status code = lite.RunCompiledModel(model, 0, n_inputs, inputs, n_outputs, outputs);
    if (!on_gpu || code != 0) return code;
    // A GPU's queue may still be at work: an inference ends when its outputs can be read.
    for (size_t i = 0; i < n_outputs && code == 0; i++) {
        void *bytes;
        code = lite.LockTensorBuffer(outputs[i], &bytes, TO_READ);
        if (code == 0) code = lite.UnlockTensorBuffer(outputs[i]);
    }
    return code;
}

static int invoke(void) { return run(compiled); }

static bool explain(int code, struct fault *fault) {
    char what[NAME_BYTES + 32], why[600] = "";
    snprintf(what, sizeof what, "%s fails when invoked", model_name);
    keep_log();  // once more, for what it prints: it said no more than a number
    invoke();
    const char *log = release_log();
    if (strstr(log, "set custom allocation for output") != NULL)
        return fail(fault, "session", what, "export it with fixed shapes",
                    "the shape of an output is only known when the model runs");
    find_errors(log, why, sizeof why);
    return fail(fault, "session", what, "see the runtime's message", "status %d%s%s", code, why[0] ? "; " : "", why);
}

static bool read_output(void *bytes, size_t size, struct fault *fault) {
    void *from;
    status code = lite.LockTensorBuffer(outputs[0], &from, TO_READ);
    if (code == 0) {
        memcpy(bytes, from, size);
        code = lite.UnlockTensorBuffer(outputs[0]);
    }
    return code == 0 || fail(fault, "session", model_name, "", "its output cannot be read: status %d", code);
}

// The copy computes from the same input buffers into the same output buffers.
static bool open_profiler(const struct config *config, const struct model *model, const char *folder,
                          struct fault *fault) {
    (void)folder;
    if (!find_events(library, config->library, fault)) return false;
    keep_log();
    bool made = compile(config, true, &copy) && resize(copy, model->inputs);
    status code = made ? lite.CompiledModelGetProfiler(copy, &profiler) : 0;
    const char *log = release_log();
    if (!made) return explain_load(log, fault);
    return (code == 0 && profiler != NULL) ||
           fail(fault, "session", "per-operator times", "take another", "this build of LiteRT has no profiler");
}

static bool explain_profiled(int code, struct fault *fault) {
    char what[NAME_BYTES + 32], why[600] = "";
    snprintf(what, sizeof what, "%s fails when profiled", model_name);
    keep_log();  // once more, for what it prints
    run(copy);
    find_errors(release_log(), why, sizeof why);
    return fail(fault, "session", what, on_gpu ? "profile it on the CPU" : "see the runtime's message", "status %d%s%s",
                code, why[0] ? "; " : "", why);
}

static bool invoke_profiled(bool keep, int64_t *took_ns, struct fault *fault) {
    status code = lite.StartProfiler(profiler);
    int64_t start = clock_ns(CLOCK_MONOTONIC);
    if (code == 0) code = run(copy);
    *took_ns = clock_ns(CLOCK_MONOTONIC) - start;
    if (code == 0) code = lite.StopProfiler(profiler);
    return code == 0 ? take_events(profiler, keep, fault) : explain_profiled(code, fault);
}

static bool close_profiler(struct text *text, struct fault *fault) {
    (void)fault;
    if (text != NULL) add_events(text);
    drop_events();
    if (copy != NULL) lite.DestroyCompiledModel(copy);
    copy = profiler = NULL;
    return true;
}

const struct runtime litert_runtime = {
    .name = "litert", .open = open_library, .load = load, .set_input = set_input, .invoke = invoke,
    .explain = explain, .describe_run = describe_run, .read_output = read_output, .open_profiler = open_profiler,
    .invoke_profiled = invoke_profiled, .close_profiler = close_profiler,
};
