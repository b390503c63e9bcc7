// What the harness asks of the operating system: clocks, memory, cores, deadlines, and what a runtime prints.
#ifndef MOBENCH_SYSTEM_H
#define MOBENCH_SYSTEM_H

#include "harness.h"

int64_t clock_ns(clockid_t clock);
int64_t involuntary_switches(void);
double status_mb(const char *key);  // a field of /proc/self/status in MiB, -1 where there is none

void start_afresh(void);  // a parent may leave signals ignored or blocked: deadlines need theirs

// End this process by SIGALRM when the deadline passes, also inside native code; 0 takes the deadline away.
void set_deadline(double seconds);

// Keep this process on these cores. False, with a fault noted, where the system gives others.
bool pin_to_cores(const struct config *config, struct fault *fault);
int allowed_cores(int *cores);  // how many; at most MAX_CORES are written

// From here on what the process prints (stdout and stderr) is kept; a death prints it nevertheless.
void keep_log(void);
// Print what was kept on stderr. Returns it, NUL-terminated: its last 32 KiB, good until the next call.
const char *release_log(void);

#endif
