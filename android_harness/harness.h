// What the harness's files share: the errors it reports, a session's settings, and a loaded model.
#ifndef MOBENCH_HARNESS_H
#define MOBENCH_HARNESS_H

#include "libc.h"

enum { MAX_RANK = 8, MAX_CORES = 256, MAX_TENSORS = 256, NAME_BYTES = 192, PATH_BYTES = 1024 };

// One error message of the protocol: what failed, why, and the mend. The first one noted is the one reported.
struct fault {
    const char *kind;  // "session" or "bad_input"; NULL while nothing failed
    char what[NAME_BYTES + 96];
    char why[700];
    const char *mend;
};

// Note an error and return false; `why` is a format. Control characters become spaces: an error is one line.
__attribute__((format(printf, 5, 6))) bool fail(struct fault *fault, const char *kind, const char *what,
                                                const char *mend, const char *why, ...);

// A session's settings, from the harness's argument.
struct config {
    char runtime[16], provider[16];
    char library[PATH_BYTES], accelerators[PATH_BYTES], model[PATH_BYTES];
    const char *name;  // the model's file name
    int threads, batch, rank, n_cores;
    int64_t shape[MAX_RANK];  // of the first input, where the file leaves it open
    int cores[MAX_CORES];
    double deadline_s, idle_s;
};

enum dtype {
    BOOL, INT8, UINT8, INT16, UINT16, INT32, UINT32, INT64, UINT64, FLOAT16, FLOAT32, FLOAT64, COMPLEX64,
    BFLOAT16, N_DTYPES,
    OTHER_DTYPE = N_DTYPES,
};

struct tensor {
    char name[NAME_BYTES];
    enum dtype dtype;
    int rank;
    int64_t shape[MAX_RANK];
    bool quantized;
    double scale;
    int64_t zero_point;
};

// One model in one runtime. A process holds one, so that the runtimes keep their handles in statics.
struct model {
    char asked[64], got[NAME_BYTES];
    int64_t nodes_delegated, nodes_total;  // -1 where the runtime does not tell
    size_t n_inputs, n_outputs;
    struct tensor inputs[MAX_TENSORS], outputs[MAX_TENSORS];
};

struct text;  // a message in the making: json.h

// A runtime behind one face. Those that return bool note a fault where they return false.
struct runtime {
    const char *name;
    // Open its library and check that it is one that this harness knows. `version` is left empty where it does not tell.
    bool (*open)(const struct config *config, char *version, size_t size, struct fault *fault);
    // Load and compile the model, and settle its inputs' shapes.
    bool (*load)(const struct config *config, struct model *model, struct fault *fault);
    // Copy a whole input in.
    bool (*set_input)(size_t index, const void *bytes, size_t size, struct fault *fault);
    // Run one inference; return when its outputs can be read. Not 0: it failed. Nothing else stands between the
    // clock's readings, so that this takes no arguments and makes no message.
    int (*invoke)(void);
    // Say why the last `invoke` failed; `status` is what it returned.
    bool (*explain)(int status, struct fault *fault);
    // Complete the description after the first inference: outputs, and who runs how many nodes.
    bool (*describe_run)(const struct config *config, struct model *model, struct fault *fault);
    // Copy the first `size` bytes of the first output out.
    bool (*read_output)(void *bytes, size_t size, struct fault *fault);
    // Make a copy of the loaded model on the same inputs, with the runtime's profiler, which may write into `folder`.
    bool (*open_profiler)(const struct config *config, const struct model *model, const char *folder,
                          struct fault *fault);
    // Run one inference of the copy; `keep` says whether its operators' times count, `took_ns` is its wall clock.
    bool (*invoke_profiled)(bool keep, int64_t *took_ns, struct fault *fault);
    // Add the runtime's account to a message, unless that is NULL, and give the copy back, however far it came.
    bool (*close_profiler)(struct text *text, struct fault *fault);
};

extern const struct runtime litert_runtime, ort_runtime;

// Settle an input's shape where the file leaves axes open (-1); runners/shapes.py is its twin.
bool settle_shape(const struct config *config, bool first, bool resizable, struct tensor *input, struct fault *fault);

// Elements of a tensor; -1 where its shape is open, or beyond what memory could hold.
int64_t count_elements(const struct tensor *tensor);
size_t element_bytes(enum dtype dtype);      // 0 for dtypes without NumPy's equal
const char *dtype_name(enum dtype dtype);    // NumPy's name
const char *dtype_descr(enum dtype dtype);   // as a .npy header spells it, NULL where NumPy has no such dtype

// Fill with seeded values: near standard normal for floats, the whole range for 8-bit integers, 0 or 1 for the rest.
void fill_random(enum dtype dtype, void *bytes, size_t count, uint64_t *seed);

int run_session(const struct runtime *runtime, const struct config *config, struct model *model, int out);
void send_fault(int out, const struct fault *fault);

#endif
