// The names that libc.h declares, for the linker alone: on a phone Android's own libc.so stands in their place.
#define F(name) void name(void) {}
F(__libc_init) F(__errno) F(_exit) F(access) F(calloc) F(clock_gettime) F(close) F(dup) F(dup2) F(free) F(getrusage)
F(lseek) F(malloc) F(memchr) F(memcmp) F(memcpy) F(memmove) F(memset) F(open) F(poll) F(posix_memalign) F(pread)
F(pthread_barrier_init) F(pthread_barrier_wait) F(pthread_create) F(pthread_join)
F(raise) F(read) F(realloc) F(sched_getaffinity) F(sched_setaffinity) F(setitimer) F(sigaddset) F(sigemptyset)
F(signal) F(sigprocmask) F(snprintf) F(strchr) F(strcmp) F(strdup) F(strerror) F(strlen) F(strncmp)
F(strrchr) F(strstr) F(strtod) F(strtoll) F(syscall) F(vsnprintf) F(write)
