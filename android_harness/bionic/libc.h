// What the harness uses of Android's C library (bionic), declared by ourselves so that it can be built without the NDK.
// Layouts and numbers are those of the 64-bit ABIs, arm64-v8a and x86_64; every function is there from Android 7.0 on.
// stubs/ holds the same functions' names for the linker.
#ifndef MOBENCH_BIONIC_LIBC_H
#define MOBENCH_BIONIC_LIBC_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#if !defined(__LP64__)
#error "only 64-bit Android"
#endif

typedef long ssize_t;
typedef long off_t;
typedef int pid_t;

// errno.h
int *__errno(void);
#define errno (*__errno())
enum { EINTR = 4 };

// dlfcn.h
enum { RTLD_LOCAL = 0, RTLD_NOW = 2 };
void *dlopen(const char *path, int flags);
void *dlsym(void *library, const char *name);
char *dlerror(void);

// fcntl.h
enum { O_RDONLY = 0, O_WRONLY = 1, O_CREAT = 0100, O_TRUNC = 01000, O_NONBLOCK = 04000, O_CLOEXEC = 02000000 };
int open(const char *path, int flags, ...);

// poll.h
struct pollfd {
    int fd;
    short events, revents;
};
typedef unsigned int nfds_t;
enum { POLLIN = 1 };
int poll(struct pollfd *descriptors, nfds_t count, int timeout_ms);

// pthread.h
typedef long pthread_t;
typedef struct {
    int64_t __private[4];
} pthread_barrier_t;
int pthread_create(pthread_t *thread, const void *attributes, void *(*work)(void *), void *argument);
int pthread_join(pthread_t thread, void **result);
int pthread_barrier_init(pthread_barrier_t *barrier, const void *attributes, unsigned int count);
int pthread_barrier_wait(pthread_barrier_t *barrier);

// sched.h
typedef struct {
    unsigned long __bits[16];
} cpu_set_t;
int sched_getaffinity(pid_t process, size_t size, cpu_set_t *set);
int sched_setaffinity(pid_t process, size_t size, const cpu_set_t *set);

// signal.h
typedef void (*sighandler_t)(int);
typedef unsigned long sigset_t;
enum { SIG_UNBLOCK = 1 };
enum {
    SIGHUP = 1, SIGINT = 2, SIGILL = 4, SIGABRT = 6, SIGBUS = 7, SIGFPE = 8, SIGSEGV = 11, SIGPIPE = 13, SIGALRM = 14,
    SIGTERM = 15,
};
#define SIG_DFL ((sighandler_t)0)
sighandler_t signal(int number, sighandler_t handler);
int sigemptyset(sigset_t *set);
int sigaddset(sigset_t *set, int number);
int sigprocmask(int how, const sigset_t *set, sigset_t *before);
int raise(int number);

// stdio.h
enum { SEEK_END = 2 };
__attribute__((format(printf, 3, 4))) int snprintf(char *text, size_t size, const char *format, ...);
__attribute__((format(printf, 3, 0))) int vsnprintf(char *text, size_t size, const char *format, va_list arguments);

// stdlib.h
void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *bytes, size_t size);
void free(void *bytes);
int posix_memalign(void **bytes, size_t alignment, size_t size);
double strtod(const char *text, char **end);
long long strtoll(const char *text, char **end, int base);

// string.h
void *memchr(const void *bytes, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
void *memcpy(void *target, const void *source, size_t size);
void *memmove(void *target, const void *source, size_t size);
void *memset(void *bytes, int byte, size_t size);
char *strchr(const char *text, int byte);
int strcmp(const char *a, const char *b);
char *strdup(const char *text);
char *strerror(int number);
size_t strlen(const char *text);
int strncmp(const char *a, const char *b, size_t size);
char *strrchr(const char *text, int byte);
char *strstr(const char *text, const char *part);

// time.h, sys/time.h
struct timespec {
    long tv_sec, tv_nsec;
};
struct timeval {
    long tv_sec, tv_usec;
};
struct itimerval {
    struct timeval it_interval, it_value;
};
typedef int clockid_t;
typedef long time_t, suseconds_t;
enum { CLOCK_MONOTONIC = 1, CLOCK_PROCESS_CPUTIME_ID = 2, CLOCK_THREAD_CPUTIME_ID = 3, ITIMER_REAL = 0 };
int clock_gettime(clockid_t clock, struct timespec *now);
int setitimer(int timer, const struct itimerval *value, struct itimerval *before);

// sys/resource.h
struct rusage {
    struct timeval ru_utime, ru_stime;
    long ru_maxrss, ru_ixrss, ru_idrss, ru_isrss, ru_minflt, ru_majflt, ru_nswap, ru_inblock, ru_oublock, ru_msgsnd,
        ru_msgrcv, ru_nsignals, ru_nvcsw, ru_nivcsw;
};
enum { RUSAGE_SELF = 0 };
int getrusage(int who, struct rusage *usage);

// sys/syscall.h: the kernel's numbers
#if defined(__aarch64__)
enum { SYS_memfd_create = 279 };
#else
enum { SYS_memfd_create = 319 };
#endif
long syscall(long number, ...);

// unistd.h
enum { R_OK = 4 };
int access(const char *path, int mode);
int close(int descriptor);
int dup(int descriptor);
int dup2(int descriptor, int target);
off_t lseek(int descriptor, off_t offset, int whence);
ssize_t pread(int descriptor, void *bytes, size_t size, off_t offset);
ssize_t read(int descriptor, void *bytes, size_t size);
ssize_t write(int descriptor, const void *bytes, size_t size);
_Noreturn void _exit(int status);

#endif
