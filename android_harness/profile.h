// What answers `profile` and `stream`, the two requests that look into where time goes.
#ifndef MOBENCH_PROFILE_H
#define MOBENCH_PROFILE_H

#include "harness.h"

struct turns {
    int64_t count, lead_in, timed;
    char folder[PATH_BYTES];  // where a profiler may write
};

// Add to a message what the profiler told: `plain_ns`, `profiled_ns`, and the runtime's own account of its operators.
bool add_profile(const struct runtime *runtime, const struct config *config, const struct model *model,
                 const struct turns *turns, struct text *text, struct fault *fault);

// Measure how many bytes a second `threads` threads copy or read together, the better of the two at its best, in a
// working set of `size` bytes. runners/profile/stream.py is its twin.
bool best_rate(int64_t size, int threads, int64_t *bytes_per_s, struct fault *fault);

#endif
