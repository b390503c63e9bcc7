// Serves one session: answers requests until stdin closes, "bye", a deadline, or nothing came for too long.
#include "json.h"
#include "npy.h"
#include "profile.h"
#include "system.h"

enum { LINE_LIMIT = 1 << 20, STATE_BYTES = 4096, MOST_TIMED = 1 << 24, MOST_TURNS = 4096, MOST_SIZES = 64 };
static const char SEPARATOR = 0x1e;  // RFC 7464: a JSON text a line behind it; any other line is a log

struct service {
    const struct runtime *runtime;
    const struct config *config;
    struct model *model;
    int out;
    struct text text;  // the answer in the making
};

static void begin(struct text *text, const char *type) {
    text->length = 0;
    text_add(text, "\x1e{\"type\":\"");
    text_add(text, type);
    text_add(text, "\"");
}

static void send_end(struct text *text, int out) {
    text_add(text, "}");
    text_send(text, out);
}

static void add_string(struct text *text, const char *key, const char *string) {
    text_member(text, key);
    text_quoted(text, string, strlen(string));
}

void send_fault(int out, const struct fault *fault) {
    static struct text text;
    begin(&text, "error");
    add_string(&text, "kind", fault->kind);
    add_string(&text, "what", fault->what);
    add_string(&text, "why", fault->why);
    add_string(&text, "mend", fault->mend);
    send_end(&text, out);
}

static bool integer_member(struct json request, const char *key, int64_t least, int64_t most, int64_t *to) {
    struct json value;
    double number;
    if (!json_member(request, key, &value) || !json_number(value, &number)) return false;
    if (!(number >= (double)least && number <= (double)most)) return false;
    *to = (int64_t)number;
    return true;
}

static bool fail_request(struct fault *fault, const char *why) {
    return fail(fault, "session", "session protocol", "update both", "%s", why);
}

static bool time_model(struct service *service, struct json request, struct fault *fault) {
    int64_t lead_in, timed;
    if (!integer_member(request, "lead_in", 0, MOST_TIMED, &lead_in) ||
        !integer_member(request, "timed", 0, MOST_TIMED, &timed))
        return fail_request(fault, "a time request without lead_in and timed");
    int64_t *wall = malloc(sizeof *wall * (size_t)(timed + 1));
    if (wall == NULL) return fail_request(fault, "no memory for so many timings");
    memset(wall, 0, sizeof *wall * (size_t)(timed + 1));  // no page of it is met for the first time while timing
    int (*invoke)(void) = service->runtime->invoke;
    // One thread's own clock leaves out what other threads do; several threads need the process's.
    clockid_t cpu_clock = service->config->threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_PROCESS_CPUTIME_ID;
    int status = 0;
    for (int64_t i = 0; i < lead_in && status == 0; i++) status = invoke();
    int64_t switches = involuntary_switches();
    int64_t cpu = clock_ns(cpu_clock);
    for (int64_t i = 0; i < timed && status == 0; i++) {
        int64_t start = clock_ns(CLOCK_MONOTONIC);
        status = invoke();
        wall[i] = clock_ns(CLOCK_MONOTONIC) - start;
    }
    cpu = clock_ns(cpu_clock) - cpu;
    switches = involuntary_switches() - switches;
    if (status == 0) {
        struct text *text = &service->text;
        begin(text, "timing");
        text_member(text, "wall_ns");
        text_integers(text, wall, (size_t)timed);
        text_member(text, "cpu_ns");
        text_integer(text, cpu);
        text_member(text, "involuntary_switches");
        text_integer(text, switches);
        send_end(text, service->out);
    }
    free(wall);
    return status == 0 || service->runtime->explain(status, fault);
}

static bool matches(const struct tensor *samples, const struct model *model) {
    const struct tensor *input = &model->inputs[0];
    bool same = model->n_inputs == 1 && input->rank > 0 && samples->rank == input->rank &&
                samples->dtype == input->dtype && input->shape[0] == 1;
    for (int axis = 1; same && axis < input->rank; axis++) same = samples->shape[axis] == input->shape[axis];
    return same;
}

static bool predict_each(struct service *service, int source, int sink, int64_t count, struct fault *fault) {
    const struct runtime *runtime = service->runtime;
    const struct tensor *input = &service->model->inputs[0], *output = &service->model->outputs[0];
    size_t in_size = (size_t)count_elements(input) * element_bytes(input->dtype);
    size_t out_size = (size_t)(count_elements(output) / output->shape[0]) * element_bytes(output->dtype);
    char *in = malloc(in_size + 1), *out = malloc(out_size + 1);
    bool done = in != NULL && out != NULL;
    if (!done) fail(fault, "session", "predict", "take fewer at a time", "no memory for a sample");
    for (int64_t i = 0; done && i < count; i++) {
        done = read_whole(source, in, in_size) || fail(fault, "session", "predict", "send it again", "the input is cut");
        done = done && runtime->set_input(0, in, in_size, fault);
        int status = done ? runtime->invoke() : 0;
        if (status != 0) done = runtime->explain(status, fault);
        done = done && runtime->read_output(out, out_size, fault);
        done = done && (write_whole(sink, out, out_size) ||
                        fail(fault, "session", "predict", "free some space", "the output: %s", strerror(errno)));
    }
    free(in);
    free(out);
    return done;
}

static bool predict(struct service *service, struct json request, struct fault *fault) {
    struct json value;
    struct tensor samples = {0}, rows;
    char source_path[PATH_BYTES], sink_path[PATH_BYTES];
    if (!json_member(request, "input", &value) || !json_string(value, source_path, sizeof source_path) ||
        !json_member(request, "output", &value) || !json_string(value, sink_path, sizeof sink_path))
        return fail_request(fault, "a predict request without paths");
    int source = npy_open(source_path, &samples, fault);
    if (source < 0) return false;
    const struct tensor *output = &service->model->outputs[0];
    rows = *output;
    int sink = -1;
    if (!matches(&samples, service->model)) {
        fail(fault, "session", "predict", "", "the samples do not fit the model's one input, batch 1");
    } else if (dtype_descr(output->dtype) == NULL || output->rank == 0 || output->shape[0] < 1) {
        fail(fault, "session", "predict", "", "the first output is no array that NumPy has");
    } else {
        rows.shape[0] = samples.shape[0];
        sink = npy_create(sink_path, &rows, fault);
    }
    bool done = sink >= 0 && predict_each(service, source, sink, samples.shape[0], fault);
    close(source);
    if (sink >= 0 && close(sink) < 0 && done)
        done = fail(fault, "session", "predict", "free some space", "the output: %s", strerror(errno));
    if (!done) return false;
    begin(&service->text, "predicted");
    send_end(&service->text, service->out);
    return true;
}

// Add a file's text without white space around it; nothing where it cannot be read.
static void add_file(struct text *text, const char *path, bool *first) {
    char bytes[STATE_BYTES];
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) return;
    ssize_t length = read(file, bytes, sizeof bytes);
    close(file);
    if (length < 0) return;
    size_t start = 0, end = (size_t)length;
    while (start < end && strchr(" \t\r\n\v\f", bytes[start]) != NULL && bytes[start] != '\0') start++;
    while (end > start && strchr(" \t\r\n\v\f", bytes[end - 1]) != NULL && bytes[end - 1] != '\0') end--;
    if (!*first) text_add(text, ",");
    *first = false;
    text_quoted(text, path, strlen(path));
    text_add(text, ":");
    text_quoted(text, bytes + start, end - start);
}

static bool tell_state(struct service *service, struct json request, struct fault *fault) {
    struct json paths, path;
    char name[PATH_BYTES];
    bool first = true;
    if (!json_member(request, "paths", &paths)) return fail_request(fault, "a state request without paths");
    begin(&service->text, "state");
    text_member(&service->text, "files");
    text_add(&service->text, "{");
    for (bool more = json_first(paths, &path); more; more = json_next(&path))
        if (json_string(path, name, sizeof name)) add_file(&service->text, name, &first);
    text_add(&service->text, "}");
    send_end(&service->text, service->out);
    return true;
}

static bool set_inputs(const struct runtime *runtime, const struct model *model, struct fault *fault) {
    uint64_t seed = 0;
    for (size_t i = 0; i < model->n_inputs; i++) {
        const struct tensor *input = &model->inputs[i];
        size_t count = (size_t)count_elements(input), size = count * element_bytes(input->dtype);
        void *bytes = malloc(size + 1);
        if (bytes == NULL) return fail(fault, "session", input->name, "take a smaller batch", "no memory for it");
        fill_random(input->dtype, bytes, count, &seed);
        bool done = runtime->set_input(i, bytes, size, fault);
        free(bytes);
        if (!done) return false;
    }
    return true;
}

static bool profile(struct service *service, struct json request, struct fault *fault) {
    struct turns turns;
    struct json value;
    if (!integer_member(request, "turns", 1, MOST_TURNS, &turns.count) ||
        !integer_member(request, "lead_in", 0, MOST_TURNS, &turns.lead_in) ||
        !integer_member(request, "timed", 1, MOST_TURNS, &turns.timed) || !json_member(request, "folder", &value) ||
        !json_string(value, turns.folder, sizeof turns.folder))
        return fail_request(fault, "a profile request without turns, lead_in, timed and folder");
    if (!set_inputs(service->runtime, service->model, fault)) return false;  // not what `predict` left there
    begin(&service->text, "profile");
    if (!add_profile(service->runtime, service->config, service->model, &turns, &service->text, fault)) return false;
    send_end(&service->text, service->out);
    return true;
}

static bool stream(struct service *service, struct json request, struct fault *fault) {
    struct json sizes, size;
    double bytes;
    int64_t rates[MOST_SIZES];
    size_t count = 0;
    if (!json_member(request, "sizes", &sizes)) return fail_request(fault, "a stream request without sizes");
    for (bool more = json_first(sizes, &size); more; more = json_next(&size), count++) {
        if (count == MOST_SIZES || !json_number(size, &bytes) || !(bytes >= 1 && bytes <= 1e12))
            return fail_request(fault, "a stream request with sizes that cannot be");
        if (!best_rate((int64_t)bytes, service->config->threads, &rates[count], fault)) return false;
    }
    begin(&service->text, "rates");
    text_member(&service->text, "bytes_per_s");
    text_integers(&service->text, rates, count);
    send_end(&service->text, service->out);
    return true;
}

// Answer one line. False: it was "bye".
static bool answer(struct service *service, char *line, size_t length) {
    char *frame = NULL;  // what stands before the last separator is a message whose sender did not live to end it
    for (size_t i = 0; i < length; i++)
        if (line[i] == SEPARATOR) frame = line + i + 1;
    if (frame == NULL) return true;
    struct fault fault = {0};
    struct json request = {frame}, value;
    char type[32] = "";
    int64_t deadline_ms;
    bool done;
    if (!json_check(frame, (size_t)(line + length - frame)) || !json_member(request, "type", &value) ||
        !json_string(value, type, sizeof type)) {
        done = fail(&fault, "session", "session protocol", "run again", "an unreadable message of %zu bytes came", length);
    } else if (strcmp(type, "bye") == 0) {
        return false;
    } else if (!integer_member(request, "deadline_ms", 0, INT64_C(1) << 40, &deadline_ms)) {
        done = fail_request(&fault, "a request without deadline_ms");
    } else {
        set_deadline((double)deadline_ms / 1000);
        if (strcmp(type, "time") == 0) {
            done = time_model(service, request, &fault);
        } else if (strcmp(type, "predict") == 0) {
            done = predict(service, request, &fault);
        } else if (strcmp(type, "state") == 0) {
            done = tell_state(service, request, &fault);
        } else if (strcmp(type, "profile") == 0) {
            done = profile(service, request, &fault);
        } else if (strcmp(type, "stream") == 0) {
            done = stream(service, request, &fault);
        } else {
            done = fail(&fault, "session", service->config->name, "update both",
                        "the harness does not know the request '%s'", type);
        }
    }
    if (!done) send_fault(service->out, &fault);
    set_deadline(0);
    return true;
}

static void say(const char *line) { write_whole(2, line, strlen(line)); }

static bool wait_for_request(double idle_s) {  // false: nothing came in this time
    double limit_ms = idle_s * 1000;
    struct pollfd input = {.fd = 0, .events = POLLIN};
    for (;;) {
        int count = poll(&input, 1, limit_ms > 0 && limit_ms < 2e9 ? (int)limit_ms : -1);
        if (count == 0) say("no request came for idle_s seconds: the harness ends\n");
        if (count >= 0 || errno != EINTR) return count > 0;
    }
}

static int serve(struct service *service) {
    char *line = malloc(LINE_LIMIT + 1);
    size_t length = 0;
    bool too_long = false;
    while (line != NULL && wait_for_request(service->config->idle_s)) {
        ssize_t count = read(0, line + length, LINE_LIMIT - length);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) break;
        length += (size_t)count;
        for (char *end; (end = memchr(line, '\n', length)) != NULL;) {
            size_t taken = (size_t)(end - line);
            *end = '\0';
            if (!too_long && !answer(service, line, taken)) return 0;
            if (too_long) {
                struct fault fault = {0};
                fail(&fault, "session", "session protocol", "run again", "a line of more than %d bytes came", LINE_LIMIT);
                send_fault(service->out, &fault);
            }
            too_long = false;
            length -= taken + 1;
            memmove(line, end + 1, length);
        }
        if (length == LINE_LIMIT) {  // read on to its end, keeping nothing
            too_long = true;
            length = 0;
        }
    }
    return 0;
}

static void add_tensors(struct text *text, const char *key, const struct tensor *tensors, size_t count) {
    text_member(text, key);
    text_add(text, "[");
    for (size_t i = 0; i < count; i++) {
        const struct tensor *tensor = &tensors[i];
        text_add(text, i ? ",{\"name\":" : "{\"name\":");
        text_quoted(text, tensor->name, strlen(tensor->name));
        text_member(text, "shape");
        text_integers(text, tensor->shape, (size_t)tensor->rank);
        add_string(text, "dtype", dtype_name(tensor->dtype));
        if (tensor->quantized) {
            text_member(text, "scale");
            text_number(text, tensor->scale);
            text_member(text, "zero_point");
            text_integer(text, tensor->zero_point);
        }
        text_add(text, "}");
    }
    text_add(text, "]");
}

static void add_known(struct text *text, const char *key, int64_t number) {
    text_member(text, key);
    if (number < 0)
        text_add(text, "null");
    else
        text_integer(text, number);
}

static void add_mb(struct text *text, const char *key, double mb) {
    text_member(text, key);
    text_number(text, mb < 0 ? 0 : mb);
}

static bool start(struct service *service, struct fault *fault) {
    const struct runtime *runtime = service->runtime;
    struct model *model = service->model;
    double rss_before = status_mb("VmHWM"), anonymous = status_mb("RssAnon");
    int64_t begun = clock_ns(CLOCK_MONOTONIC);
    if (!runtime->load(service->config, model, fault)) return false;
    int64_t loaded = clock_ns(CLOCK_MONOTONIC);
    if (!set_inputs(runtime, model, fault)) return false;
    int64_t first = clock_ns(CLOCK_MONOTONIC);
    int status = runtime->invoke();
    int64_t done = clock_ns(CLOCK_MONOTONIC);
    if (status != 0) return runtime->explain(status, fault);
    double peak = status_mb("VmHWM"), anonymous_now = status_mb("RssAnon");
    if (!runtime->describe_run(service->config, model, fault)) return false;
    struct text *text = &service->text;
    begin(text, "ready");
    text_member(text, "init_ns");
    text_integer(text, loaded - begun);
    text_member(text, "first_ns");
    text_integer(text, done - first);
    add_mb(text, "rss_before_mb", rss_before);
    add_mb(text, "peak_rss_mb", peak);
    text_member(text, "arena_mb");
    if (anonymous < 0)
        text_add(text, "null");
    else
        text_number(text, anonymous_now - anonymous);
    add_string(text, "asked", model->asked);
    add_string(text, "got", model->got);
    add_known(text, "nodes_delegated", model->nodes_delegated);
    add_known(text, "nodes_total", model->nodes_total);
    text_member(text, "threads");
    text_integer(text, service->config->threads);
    int cores[MAX_CORES], n_cores = allowed_cores(cores);
    text_member(text, "cores");
    text_add(text, "[");
    for (int i = 0; i < n_cores; i++) {
        if (i) text_add(text, ",");
        text_integer(text, cores[i]);
    }
    text_add(text, "]");
    add_tensors(text, "inputs", model->inputs, model->n_inputs);
    add_tensors(text, "outputs", model->outputs, model->n_outputs);
    send_end(text, service->out);
    return true;
}

int run_session(const struct runtime *runtime, const struct config *config, struct model *model, int out) {
    struct service service = {.runtime = runtime, .config = config, .model = model, .out = out};
    struct fault fault = {0};
    if (!start(&service, &fault)) {
        send_fault(out, &fault);
        return 1;
    }
    set_deadline(0);
    return serve(&service);
}
