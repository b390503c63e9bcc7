// ONNX Runtime through OrtGetApiBase, on declarations of our own: the API is a table of functions that only grows, so
// that a function's place in it is its declaration. Everything used here is in version 12 (1.12.0, 2022) and later.
#include "json.h"
#include "system.h"

enum { API_VERSION = 12 };

// Places in the table, as csharp/src/Microsoft.ML.OnnxRuntime/NativeMethods.shared.cs lists them.
enum place {
    GET_ERROR_MESSAGE = 2, CREATE_ENV = 3, CREATE_SESSION = 7, CREATE_SESSION_OPTIONS = 10, SET_OPTIMISED_PATH = 11,
    ENABLE_PROFILING = 14, SET_LOG_SEVERITY = 22, SET_INTRA_THREADS = 24, SET_INTER_THREADS = 25,
    INPUT_COUNT = 30, OUTPUT_COUNT = 31, INPUT_TYPE = 33, INPUT_NAME = 36, OUTPUT_NAME = 37,
    CREATE_TENSOR = 49, IS_TENSOR = 50, TENSOR_DATA = 51, TYPE_TO_TENSOR = 55,
    ELEMENT_TYPE = 60, RANK = 61, AXES = 62, VALUE_SHAPE = 65, CPU_MEMORY = 69,
    ALLOCATOR_FREE = 76, DEFAULT_ALLOCATOR = 78, RELEASE_STATUS = 93, RELEASE_SESSION = 95, RELEASE_VALUE = 96,
    RELEASE_SHAPE = 99, RELEASE_OPTIONS = 100, END_PROFILING = 110,
    AVAILABLE_PROVIDERS = 125, ADD_CONFIG = 130, RUN_WITH_BINDING = 133, CREATE_BINDING = 134, RELEASE_BINDING = 135,
    BIND_INPUT = 136, BIND_OUTPUT_TO_DEVICE = 138, BOUND_OUTPUTS = 140, APPEND_PROVIDER = 216,
};

typedef void *handle;
typedef void *status;  // NULL is fine; else it holds a message

struct base {
    const void *const *(*api)(uint32_t version);
    const char *(*version)(void);
};

static const void *const *table;

// A function of the table, with its type: all but the releases and the message's return a status.
#define CALL(place, types) ((status(*) types)(uintptr_t)table[place])

static const char *model_name;
static const char *provider;  // by ONNX Runtime's own name
static handle environment;
static handle session, binding, traced, traced_binding, memory, allocator;
static size_t n_outputs;
static void *buffers[MAX_TENSORS];
static handle values[MAX_TENSORS];  // the inputs, over the buffers
static char optimised[PATH_BYTES];  // where the traced session leaves the graph that it runs
static status last_failure;

static void message_of(status failure, char *to, size_t size) {
    const char *(*get)(status) = (const char *(*)(status))(uintptr_t)table[GET_ERROR_MESSAGE];
    void (*release)(status) = (void (*)(status))(uintptr_t)table[RELEASE_STATUS];
    snprintf(to, size, "%s", get(failure));
    release(failure);
}

static bool fail_to_load(status failure, struct fault *fault) {
    char what[NAME_BYTES + 64], why[600];
    message_of(failure, why, sizeof why);
    snprintf(what, sizeof what, "ort cannot load or run %s", model_name);
    return fail(fault, "session", what, "check the file, or export it again", "%s", why);
}

static bool open_library(const struct config *config, char *version, size_t size, struct fault *fault) {
    void *library = dlopen(config->library, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return fail(fault, "session", "ONNX Runtime cannot be loaded", "run: mobench android setup", "%s", dlerror());
    const struct base *(*get)(void);
    *(void **)(void *)&get = dlsym(library, "OrtGetApiBase");
    if (get == NULL)
        return fail(fault, "session", "this is no ONNX Runtime", "run: mobench android setup", "%s has no OrtGetApiBase",
                    config->library);
    snprintf(version, size, "%s", get()->version());
    table = get()->api(API_VERSION);
    return table != NULL || fail(fault, "session", "this ONNX Runtime is too old", "take 1.12.0 or newer",
                                 "version %s", version);
}

static void release(enum place place, handle *object) {
    if (*object != NULL) ((void (*)(handle))(uintptr_t)table[place])(*object);
    *object = NULL;
}

static bool choose_provider(const struct config *config, handle options, struct fault *fault) {
    bool xnnpack = strcmp(config->provider, "xnnpack") == 0;
    if (!xnnpack && config->provider[0] != '\0' && strcmp(config->provider, "cpu") != 0)
        return fail(fault, "bad_input", config->provider, "take cpu or xnnpack",
                    "ONNX Runtime has no such execution provider here");
    provider = xnnpack ? "XnnpackExecutionProvider" : "CPUExecutionProvider";
    if (!xnnpack) return true;
    char **names;
    int count = 0;
    bool there = false;
    status failure = CALL(AVAILABLE_PROVIDERS, (char ***, int *))(&names, &count);
    for (int i = 0; failure == NULL && i < count; i++) there = there || strcmp(names[i], provider) == 0;
    if (failure == NULL && !there)
        return fail(fault, "session", model_name, "take a library that has it", "this ONNX Runtime has no %s",
                    provider);
    // What it does not take would otherwise run on the CPU provider, unsaid.
    typedef const char *const *strings;
    if (failure == NULL)
        failure = CALL(ADD_CONFIG, (handle, const char *, const char *))(options, "session.disable_cpu_ep_fallback", "1");
    if (failure == NULL)
        failure = CALL(APPEND_PROVIDER, (handle, const char *, strings, strings, size_t))(options, "XNNPACK", NULL, NULL, 0);
    return failure == NULL || fail_to_load(failure, fault);
}

// Have a session trace every run, and leave the graph that it runs, in a folder.
static status trace(handle options, const char *folder) {
    char prefix[PATH_BYTES];
    snprintf(prefix, sizeof prefix, "%s/trace", folder);
    snprintf(optimised, sizeof optimised, "%s/optimised.onnx", folder);
    status failure = CALL(ENABLE_PROFILING, (handle, const char *))(options, prefix);
    if (failure == NULL) failure = CALL(SET_OPTIMISED_PATH, (handle, const char *))(options, optimised);
    return failure;
}

// Load the model; with `folder`, traced into it.
static bool make_session(const struct config *config, const char *folder, handle *made, handle *bound,
                         struct fault *fault) {
    enum { LOG_ERRORS = 3 };
    handle options = NULL;
    status failure = NULL;
    if (environment == NULL)
        failure = CALL(CREATE_ENV, (int, const char *, handle *))(LOG_ERRORS, "mobench", &environment);
    if (failure == NULL) failure = CALL(CREATE_SESSION_OPTIONS, (handle *))(&options);
    if (failure == NULL) failure = CALL(SET_LOG_SEVERITY, (handle, int))(options, LOG_ERRORS);
    if (failure == NULL) failure = CALL(SET_INTRA_THREADS, (handle, int))(options, config->threads);
    if (failure == NULL) failure = CALL(SET_INTER_THREADS, (handle, int))(options, 1);
    // Threads may spin while they run, as in any application, but not on into the next cell's block.
    if (failure == NULL)
        failure = CALL(ADD_CONFIG, (handle, const char *, const char *))(options, "session.force_spinning_stop", "1");
    if (failure == NULL && folder != NULL) failure = trace(options, folder);
    if (failure != NULL) return fail_to_load(failure, fault);
    if (!choose_provider(config, options, fault)) return false;
    failure = CALL(CREATE_SESSION, (handle, const char *, handle, handle *))(environment, config->model, options, made);
    if (failure == NULL) failure = CALL(CREATE_BINDING, (handle, handle *))(*made, bound);
    release(RELEASE_OPTIONS, &options);
    return failure == NULL || fail_to_load(failure, fault);
}

static enum dtype to_dtype(int element) {
    static const enum dtype KNOWN[] = {OTHER_DTYPE, FLOAT32, UINT8, INT8, UINT16, INT16, INT32, INT64, OTHER_DTYPE,
                                       BOOL, FLOAT16, FLOAT64, UINT32, UINT64, OTHER_DTYPE, OTHER_DTYPE, BFLOAT16};
    return element >= 0 && element < (int)(sizeof KNOWN / sizeof *KNOWN) ? KNOWN[element] : OTHER_DTYPE;
}

static status describe(handle shape, struct tensor *to) {
    int element = 0;
    size_t rank = 0;
    status failure = CALL(ELEMENT_TYPE, (handle, int *))(shape, &element);
    if (failure == NULL) failure = CALL(RANK, (handle, size_t *))(shape, &rank);
    to->dtype = rank > MAX_RANK ? OTHER_DTYPE : to_dtype(element);
    to->rank = rank > MAX_RANK ? 0 : (int)rank;
    if (failure == NULL) failure = CALL(AXES, (handle, int64_t *, size_t))(shape, to->shape, (size_t)to->rank);
    return failure;
}

static status copy_name(enum place place, size_t index, char *to, size_t size) {
    char *name;
    status failure = CALL(place, (handle, size_t, handle, char **))(session, index, allocator, &name);
    if (failure != NULL) return failure;
    snprintf(to, size, "%s", name);
    return CALL(ALLOCATOR_FREE, (handle, void *))(allocator, name);
}

static bool bind_input(const struct config *config, size_t index, struct tensor *input, struct fault *fault) {
    handle type, shape = NULL;
    status failure = copy_name(INPUT_NAME, index, input->name, sizeof input->name);
    if (failure == NULL) failure = CALL(INPUT_TYPE, (handle, size_t, handle *))(session, index, &type);
    if (failure == NULL) failure = CALL(TYPE_TO_TENSOR, (handle, handle *))(type, &shape);
    if (failure == NULL && shape != NULL) failure = describe(shape, input);
    if (failure != NULL) return fail_to_load(failure, fault);
    if (shape != NULL && !settle_shape(config, index == 0, false, input, fault)) return false;
    int64_t count = count_elements(input);
    size_t size = count < 0 ? 0 : (size_t)count * element_bytes(input->dtype);
    if (shape == NULL || element_bytes(input->dtype) == 0 || count < 0)
        return fail(fault, "session", input->name, "give it inputs that are tensors of numbers",
                    "no input that the harness can make");
    if (posix_memalign(&buffers[index], 64, size ? size : 1) != 0)
        return fail(fault, "session", input->name, "take a smaller batch", "no memory for %zu bytes", size);
    struct { int type; } element = {0};
    CALL(ELEMENT_TYPE, (handle, int *))(shape, &element.type);
    failure = CALL(CREATE_TENSOR, (handle, void *, size_t, const int64_t *, size_t, int, handle *))(
        memory, buffers[index], size, input->shape, (size_t)input->rank, element.type, &values[index]);
    if (failure == NULL) failure = CALL(BIND_INPUT, (handle, const char *, handle))(binding, input->name, values[index]);
    return failure == NULL || fail_to_load(failure, fault);
}

static bool load(const struct config *config, struct model *model, struct fault *fault) {
    model_name = config->name;
    model->nodes_delegated = model->nodes_total = -1;  // the one provider runs every node, or the session does not load
    if (!make_session(config, NULL, &session, &binding, fault)) return false;
    snprintf(model->asked, sizeof model->asked, "%s", provider);
    snprintf(model->got, sizeof model->got, "%s", provider);
    status failure = CALL(DEFAULT_ALLOCATOR, (handle *))(&allocator);
    if (failure == NULL) failure = CALL(CPU_MEMORY, (int, int, handle *))(1, 0, &memory);  // arena, default kind
    if (failure == NULL) failure = CALL(INPUT_COUNT, (handle, size_t *))(session, &model->n_inputs);
    if (failure == NULL) failure = CALL(OUTPUT_COUNT, (handle, size_t *))(session, &n_outputs);
    if (failure != NULL) return fail_to_load(failure, fault);
    if (model->n_inputs > MAX_TENSORS || n_outputs > MAX_TENSORS)
        return fail(fault, "session", model_name, "", "more than %d inputs or outputs", MAX_TENSORS);
    for (size_t i = 0; i < model->n_inputs; i++)
        if (!bind_input(config, i, &model->inputs[i], fault)) return false;
    for (size_t i = 0; i < n_outputs; i++) {
        struct tensor *output = &model->outputs[i];
        failure = copy_name(OUTPUT_NAME, i, output->name, sizeof output->name);
        if (failure == NULL)
            failure = CALL(BIND_OUTPUT_TO_DEVICE, (handle, const char *, handle))(binding, output->name, memory);
        if (failure != NULL) return fail_to_load(failure, fault);
    }
    return true;
}

static bool set_input(size_t index, const void *bytes, size_t size, struct fault *fault) {
    (void)fault;
    memcpy(buffers[index], bytes, size);
    return true;
}

static int invoke(void) {
    last_failure = CALL(RUN_WITH_BINDING, (handle, handle, handle))(session, NULL, binding);
    return last_failure != NULL;
}

static bool explain(int code, struct fault *fault) {
    (void)code;
    char what[NAME_BYTES + 32], why[600];
    message_of(last_failure, why, sizeof why);
    snprintf(what, sizeof what, "%s fails when invoked", model_name);
    return fail(fault, "session", what, "see the runtime's message", "%s", why);
}

// Describe the bound outputs; copy the beginning of the first one where `bytes` is given.
static status visit_outputs(struct tensor *tensors, void *bytes, size_t size) {
    handle *bound;
    size_t count = 0;
    status failure = CALL(BOUND_OUTPUTS, (handle, handle, handle **, size_t *))(binding, allocator, &bound, &count);
    for (size_t i = 0; i < count; i++) {
        int is_tensor = 0;
        handle shape = NULL;
        void *data;
        if (failure == NULL) failure = CALL(IS_TENSOR, (handle, int *))(bound[i], &is_tensor);
        if (failure == NULL && is_tensor && tensors != NULL) {
            failure = CALL(VALUE_SHAPE, (handle, handle *))(bound[i], &shape);
            if (failure == NULL) failure = describe(shape, &tensors[i]);
            release(RELEASE_SHAPE, &shape);
        }
        if (failure == NULL && is_tensor && bytes != NULL && i == 0) {
            failure = CALL(TENSOR_DATA, (handle, void **))(bound[i], &data);
            if (failure == NULL) memcpy(bytes, data, size);
        }
        release(RELEASE_VALUE, &bound[i]);
    }
    if (count > 0) CALL(ALLOCATOR_FREE, (handle, void *))(allocator, bound);
    return failure;
}

static bool describe_run(const struct config *config, struct model *model, struct fault *fault) {
    (void)config;
    model->n_outputs = n_outputs;
    for (size_t i = 0; i < n_outputs; i++) model->outputs[i].dtype = OTHER_DTYPE;  // of what is no tensor
    status failure = visit_outputs(model->outputs, NULL, 0);
    return failure == NULL || fail_to_load(failure, fault);
}

static bool read_output(void *bytes, size_t size, struct fault *fault) {
    status failure = visit_outputs(NULL, bytes, size);
    return failure == NULL || fail_to_load(failure, fault);
}

// The traced session reads the same inputs. Its outputs are its own.
static bool open_profiler(const struct config *config, const struct model *model, const char *folder,
                          struct fault *fault) {
    if (strlen(folder) > PATH_BYTES - 64)
        return fail(fault, "session", "profile", "take another folder", "its name is too long");
    if (!make_session(config, folder, &traced, &traced_binding, fault)) return false;
    status failure = NULL;
    for (size_t i = 0; i < model->n_inputs && failure == NULL; i++)
        failure = CALL(BIND_INPUT, (handle, const char *, handle))(traced_binding, model->inputs[i].name, values[i]);
    for (size_t i = 0; i < n_outputs && failure == NULL; i++) {
        const char *name = model->outputs[i].name;
        failure = CALL(BIND_OUTPUT_TO_DEVICE, (handle, const char *, handle))(traced_binding, name, memory);
    }
    return failure == NULL || fail_to_load(failure, fault);
}

static bool invoke_profiled(bool keep, int64_t *took_ns, struct fault *fault) {
    (void)keep;  // the trace holds them all, in their order
    int64_t start = clock_ns(CLOCK_MONOTONIC);
    last_failure = CALL(RUN_WITH_BINDING, (handle, handle, handle))(traced, NULL, traced_binding);
    *took_ns = clock_ns(CLOCK_MONOTONIC) - start;
    return last_failure == NULL || explain(0, fault);
}

static bool close_profiler(struct text *text, struct fault *fault) {
    char *path = NULL;
    status failure = NULL;
    if (traced != NULL) failure = CALL(END_PROFILING, (handle, handle, char **))(traced, allocator, &path);
    if (path != NULL && text != NULL) {
        text_member(text, "trace");
        text_quoted(text, path, strlen(path));
        text_member(text, "optimised");
        text_quoted(text, optimised, strlen(optimised));
    }
    if (path != NULL) CALL(ALLOCATOR_FREE, (handle, void *))(allocator, path);
    release(RELEASE_BINDING, &traced_binding);
    release(RELEASE_SESSION, &traced);
    return failure == NULL || fail_to_load(failure, fault);
}

const struct runtime ort_runtime = {
    .name = "ort", .open = open_library, .load = load, .set_input = set_input, .invoke = invoke,
    .explain = explain, .describe_run = describe_run, .read_output = read_output, .open_profiler = open_profiler,
    .invoke_profiled = invoke_profiled, .close_profiler = close_profiler,
};
