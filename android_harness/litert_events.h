// What LiteRT's profiler tells of a run: its operators' times, those inside a delegate too.
#ifndef MOBENCH_LITERT_EVENTS_H
#define MOBENCH_LITERT_EVENTS_H

#include "litert_api.h"

// Find the functions for it in LiteRT's library. False, with a fault noted, where it has none.
bool find_events(void *library, const char *path, struct fault *fault);

// Empty the profiler; with `keep`, first take the run that it holds: the same operators as the others that are kept.
bool take_events(handle profiler, bool keep, struct fault *fault);

// Add `events` to a message: `label`, `index`, `inside` (a delegate) and `ns`, one a run that was kept.
void add_events(struct text *text);
void drop_events(void);

#endif
