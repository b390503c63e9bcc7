// Reads LiteRT's profile events. See litert_events.h. Their layout is that of 2.3.0, tried; anything else is refused
// before a pointer in it is followed.
#include "litert_events.h"

#include "json.h"

// ProfiledEventData: label, type, microseconds, six figures of memory, the operator's index, and its source.
struct event {
    const char *label;
    int type;
    uint64_t start_us, elapsed_us;
    int64_t memory[6];
    uint64_t index, subgraph;
    int source;
};

_Static_assert(sizeof(struct event) == 104, "LiteRT's own layout");

enum { ROOM_BYTES = 256, MOST_EVENTS = 100000 };  // for one event: a larger one must not run over the end
// A node that no delegate runs, and an operator inside a delegate, told in either of two ways.
enum { NODE = 1 << 1, INSIDE = 1 << 2 | 1 << 3, LAST_TYPE = 1 << 8, LAST_SOURCE = 2 };
static const char WHAT[] = "per-operator times need LiteRT 2.3", MEND[] = "take LiteRT 2.3.0";

static status (*reset)(handle profiler);
static status (*count_events)(handle profiler, int *count);
static status (*get_events)(handle profiler, int count, void *events);

static struct operator {
    char *label;
    int64_t index;
    bool inside;
} *operators;
static int64_t *times;  // a row of nanoseconds a run
static size_t n_operators, n_runs;

bool find_events(void *library, const char *path, struct fault *fault) {
    *(void **)(void *)&reset = dlsym(library, "LiteRtResetProfiler");
    *(void **)(void *)&count_events = dlsym(library, "LiteRtGetNumProfilerEvents");
    *(void **)(void *)&get_events = dlsym(library, "LiteRtGetProfilerEvents");
    return (reset != NULL && count_events != NULL && get_events != NULL) ||
           fail(fault, "session", WHAT, MEND, "%s has no LiteRtGetProfilerEvents", path);
}

void drop_events(void) {
    for (size_t i = 0; i < n_operators; i++) free(operators[i].label);
    free(operators);
    free(times);
    operators = NULL;
    times = NULL;
    n_operators = n_runs = 0;
}

static bool is_operator(const struct event *event) { return event->type == NODE || (event->type & INSIDE) != 0; }

// Were an event of another size, its words would lie elsewhere, or reach behind the last of them.
static bool fits(const unsigned char *room, size_t count) {
    const struct event *events = (const void *)room;
    bool fits = true;
    for (size_t i = 0; i < count; i++) {
        int type = events[i].type;
        fits = fits && type > 0 && type <= LAST_TYPE && (type & (type - 1)) == 0;
        fits = fits && events[i].source >= 0 && events[i].source <= LAST_SOURCE && events[i].label != NULL;
    }
    for (size_t i = count * sizeof *events; i < count * ROOM_BYTES; i++) fits = fits && room[i] == 0;
    return fits;
}

static bool fail_to_match(struct fault *fault) {
    return fail(fault, "session", "profile", "profile again", "its runs hold different operators");
}

static bool take_run(const struct event *events, size_t count, struct fault *fault) {
    bool first = n_runs == 0;
    size_t taken = 0;
    if (first) operators = calloc(count + 1, sizeof *operators);
    size_t room = (n_runs + 1) * ((first ? count : n_operators) + 1) * sizeof *times;
    int64_t *more = operators == NULL ? NULL : realloc(times, room);
    if (more == NULL) return fail(fault, "session", "profile", "give a smaller --budget", "no memory for its times");
    times = more;
    for (size_t i = 0; i < count; i++) {
        const struct event *event = &events[i];
        if (!is_operator(event)) continue;
        bool inside = event->type != NODE;
        if (first) {
            operators[taken] = (struct operator){strdup(event->label), (int64_t)event->index, inside};
            n_operators = taken + 1;
        }
        if (taken == n_operators || operators[taken].label == NULL ||
            strcmp(operators[taken].label, event->label) != 0 || operators[taken].inside != inside)
            return fail_to_match(fault);
        times[n_runs * n_operators + taken++] = (int64_t)event->elapsed_us * 1000;
    }
    n_runs++;
    return taken == n_operators || fail_to_match(fault);
}

bool take_events(handle profiler, bool keep, struct fault *fault) {
    int count = 0;
    status code = keep ? count_events(profiler, &count) : 0;
    if (code != 0 || count < 0 || count > MOST_EVENTS)
        return fail(fault, "session", WHAT, MEND, "it tells %d events, status %d", count, code);
    unsigned char *room = keep ? calloc((size_t)count + 1, ROOM_BYTES) : NULL;
    bool done = !keep || room != NULL || fail(fault, "session", "profile", "give a smaller --budget", "no memory");
    if (done && count > 0) {
        code = get_events(profiler, count, room);
        done = code == 0 || fail(fault, "session", WHAT, MEND, "LiteRtGetProfilerEvents failed with status %d", code);
        done = done && (fits(room, (size_t)count) || fail(fault, "session", WHAT, MEND,
                                                          "this version's events are laid out otherwise"));
    }
    done = done && (!keep || take_run((const void *)room, (size_t)count, fault));
    free(room);
    code = reset(profiler);
    return done && (code == 0 || fail(fault, "session", WHAT, MEND, "LiteRtResetProfiler failed with status %d", code));
}

void add_events(struct text *text) {
    text_member(text, "events");
    text_add(text, "[");
    for (size_t i = 0; i < n_operators; i++) {
        text_add(text, i ? ",{\"label\":" : "{\"label\":");
        text_quoted(text, operators[i].label, strlen(operators[i].label));
        text_member(text, "index");
        text_integer(text, operators[i].index);
        text_member(text, "inside");
        text_add(text, operators[i].inside ? "true" : "false");
        text_member(text, "ns");
        text_add(text, "[");
        for (size_t run = 0; run < n_runs; run++) {
            if (run) text_add(text, ",");
            text_integer(text, times[run * n_operators + i]);
        }
        text_add(text, "]}");
    }
    text_add(text, "]");
}
