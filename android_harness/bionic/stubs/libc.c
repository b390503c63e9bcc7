// The names that libc.h declares, for the linker alone: on a phone Android's own libc.so stands in their place.
#define F(name) void name(void) {}
F(__libc_init) F(__errno) F(_exit) F(abort) F(access) F(alarm) F(calloc) F(clock_gettime) F(close) F(dup) F(dup2)
F(exit) F(fclose) F(fcntl) F(fdopen) F(feof) F(ferror) F(fflush) F(fgetc) F(fgets) F(fileno) F(fopen) F(fprintf)
F(fputc) F(fputs) F(fread) F(free) F(fseek) F(ftell) F(fwrite) F(getenv) F(getpid) F(getrusage) F(gettid) F(lseek)
F(malloc) F(memchr) F(memcmp) F(memcpy) F(memmove) F(memset) F(nanosleep) F(open) F(poll) F(posix_memalign) F(pread) F(printf)
F(qsort) F(raise) F(read) F(realloc) F(remove) F(rename) F(sched_getaffinity) F(sched_setaffinity) F(setenv)
F(setitimer) F(sigaction) F(sigaddset) F(sigemptyset) F(signal) F(sigprocmask) F(snprintf) F(sscanf) F(strchr)
F(strcmp) F(strcpy) F(strcspn) F(strdup) F(strerror) F(strlen) F(strncmp) F(strnlen) F(strrchr) F(strspn) F(strstr) F(strtod)
F(strtol) F(strtoll) F(strtoul) F(strtoull) F(syscall) F(sysconf) F(unlink) F(vfprintf) F(vsnprintf) F(write)
void *stdin, *stdout, *stderr;
