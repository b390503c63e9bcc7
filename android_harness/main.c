// The harness: loads one model in one runtime and answers the session protocol (PROTOCOL.md) until stdin closes.
//
//     mobench-harness '{"runtime": "litert", "library": "libLiteRt.so", "model": "net.tflite", ...}'
#include "json.h"
#include "system.h"

#define HARNESS_VERSION "1"

#if defined(__aarch64__)
#define ABI "arm64-v8a"
#elif defined(__x86_64__)
#define ABI "x86_64"
#elif defined(__arm__)
#define ABI "armeabi-v7a"
#elif defined(__i386__)
#define ABI "x86"
#elif defined(__riscv)
#define ABI "riscv64"
#else
#define ABI "unknown"
#endif

static bool fail_argument(struct fault *fault, const char *key) {
    return fail(fault, "session", "the harness's argument", "update both", "%s is missing or no value it can have", key);
}

static bool get_string(struct json all, const char *key, char *to, size_t size, struct fault *fault) {
    struct json value;
    return (json_member(all, key, &value) && json_string(value, to, size)) || fail_argument(fault, key);
}

static bool get_number(struct json all, const char *key, double least, double most, double *to, struct fault *fault) {
    struct json value;
    return (json_member(all, key, &value) && json_number(value, to) && *to >= least && *to <= most) ||
           fail_argument(fault, key);
}

// Read an array of integers from 0 to `most`. Returns how many, -1 with a fault noted.
static int get_integers(struct json all, const char *key, int64_t *to, int room, double most, struct fault *fault) {
    struct json array, element;
    double number;
    int count = 0;
    if (!json_member(all, key, &array)) {
        fail_argument(fault, key);
        return -1;
    }
    for (bool more = json_first(array, &element); more; more = json_next(&element), count++) {
        if (count == room || !json_number(element, &number) || !(number >= 0 && number <= most)) {
            fail_argument(fault, key);
            return -1;
        }
        to[count] = (int64_t)number;
    }
    return count;
}

static bool read_config(const char *argument, struct config *config, struct fault *fault) {
    struct json all = {argument};
    double threads, batch;
    int64_t cores[MAX_CORES];
    if (argument == NULL || !json_check(argument, strlen(argument)))
        return fail(fault, "session", "the harness's argument", "see PROTOCOL.md", "it is no JSON object");
    if (!get_string(all, "runtime", config->runtime, sizeof config->runtime, fault) ||
        !get_string(all, "library", config->library, sizeof config->library, fault) ||
        !get_string(all, "accelerators", config->accelerators, sizeof config->accelerators, fault) ||
        !get_string(all, "model", config->model, sizeof config->model, fault) ||
        !get_string(all, "provider", config->provider, sizeof config->provider, fault) ||
        !get_number(all, "threads", 1, 1024, &threads, fault) || !get_number(all, "batch", 1, 1e6, &batch, fault) ||
        !get_number(all, "deadline_s", 0, 1e8, &config->deadline_s, fault) ||
        !get_number(all, "idle_s", 0, 1e8, &config->idle_s, fault))
        return false;
    config->threads = (int)threads;
    config->batch = (int)batch;
    config->rank = get_integers(all, "shape", config->shape, MAX_RANK, 1e9, fault);
    config->n_cores = get_integers(all, "cores", cores, MAX_CORES, MAX_CORES - 1, fault);
    for (int i = 0; i < config->n_cores; i++) config->cores[i] = (int)cores[i];
    const char *slash = strrchr(config->model, '/');
    config->name = slash == NULL ? config->model : slash + 1;
    return config->rank >= 0 && config->n_cores >= 0;
}

static bool open_runtime(const struct config *config, const struct runtime **runtime, char *version, size_t size,
                         struct fault *fault) {
    if (strcmp(config->runtime, "litert") == 0)
        *runtime = &litert_runtime;
    else if (strcmp(config->runtime, "ort") == 0)
        *runtime = &ort_runtime;
    else
        return fail(fault, "bad_input", config->runtime, "take litert or ort", "the harness has no such runtime");
    if (!pin_to_cores(config, fault)) return false;
    if (access(config->model, R_OK) != 0)
        return fail(fault, "session", config->name, "send it first", "%s: %s", config->model, strerror(errno));
    return (*runtime)->open(config, version, size, fault);
}

static void say_hello(const char *runtime_version, int out) {
    struct text text = {0};
    text_add(&text, "\x1e{\"type\":\"hello\",\"protocol\":1,\"harness\":\"c " HARNESS_VERSION "\"");
    text_add(&text, ",\"versions\":{\"harness\":\"" HARNESS_VERSION "\",\"abi\":\"" ABI "\"");
    if (runtime_version[0] != '\0') {
        text_member(&text, "onnxruntime");
        text_quoted(&text, runtime_version, strlen(runtime_version));
    }
    text_add(&text, "}}");
    text_send(&text, out);
}

int main(int count, char **arguments) {
    static struct config config;
    static struct model model;
    struct fault fault = {0};
    const struct runtime *runtime = NULL;
    char version[64] = "";
    start_afresh();
    int out = dup(1);
    dup2(2, 1);  // runtimes print to stdout; only framed messages go to the parent
    bool opened = read_config(count == 2 ? arguments[1] : NULL, &config, &fault);
    if (opened) set_deadline(config.deadline_s);
    opened = opened && open_runtime(&config, &runtime, version, sizeof version, &fault);
    say_hello(version, out);
    if (!opened) send_fault(out, &fault);
    // At once: taking a runtime apart takes time, and some crash while they do.
    _exit(opened ? run_session(runtime, &config, &model, out) : 1);
}
