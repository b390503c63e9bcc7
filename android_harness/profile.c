// Answers a `profile` request: inferences of the session's model and of a copy with the runtime's profiler, in turns.
#include "json.h"
#include "profile.h"
#include "system.h"

enum { WARM_UP = 5 };  // first inferences of the copy, which allocate

// Run the turns. False with a fault noted.
static bool take_turns(const struct runtime *runtime, const struct turns *turns, int64_t *plain, int64_t *profiled,
                       struct fault *fault) {
    int64_t ns;
    for (int64_t i = 0; i < WARM_UP; i++)
        if (!runtime->invoke_profiled(false, &ns, fault)) return false;
    for (int64_t turn = 0; turn < turns->count; turn++) {
        for (int64_t i = -turns->lead_in; i < turns->timed; i++) {
            int64_t start = clock_ns(CLOCK_MONOTONIC);
            int status = runtime->invoke();
            ns = clock_ns(CLOCK_MONOTONIC) - start;
            if (status != 0) return runtime->explain(status, fault);
            if (i >= 0) plain[turn * turns->timed + i] = ns;
        }
        // The two copies share nothing but the caches: each has its own lead-in after the other's turn.
        for (int64_t i = -turns->lead_in; i < turns->timed; i++) {
            if (!runtime->invoke_profiled(i >= 0, &ns, fault)) return false;
            if (i >= 0) profiled[turn * turns->timed + i] = ns;
        }
    }
    return true;
}

bool add_profile(const struct runtime *runtime, const struct config *config, const struct model *model,
                 const struct turns *turns, struct text *text, struct fault *fault) {
    size_t count = (size_t)(turns->count * turns->timed);
    int64_t *plain = calloc(count + 1, sizeof *plain), *profiled = calloc(count + 1, sizeof *profiled);
    bool done = plain != NULL && profiled != NULL;
    if (!done) fail(fault, "session", "profile", "give a smaller --budget", "no memory for so many timings");
    if (done) {
        done = runtime->open_profiler(config, model, turns->folder, fault) &&
               take_turns(runtime, turns, plain, profiled, fault);
        text_member(text, "warm_up");
        text_integer(text, WARM_UP);
        text_member(text, "plain_ns");
        text_integers(text, plain, count);
        text_member(text, "profiled_ns");
        text_integers(text, profiled, count);
        done = runtime->close_profiler(done ? text : NULL, fault) && done;
    }
    free(plain);
    free(profiled);
    return done;
}
