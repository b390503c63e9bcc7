// What the harness uses of Android's C library (bionic), declared by ourselves so that it can be built without the NDK.
// Layouts and numbers are those of the 64-bit ABIs, arm64-v8a and x86_64; every function is there from Android 7.0 on.
// stubs/ holds the same functions' names for the linker.
#ifndef MOBENCH_BIONIC_LIBC_H
#define MOBENCH_BIONIC_LIBC_H

#include <stdarg.h>
#include <stddef.h>

#if !defined(__LP64__)
#error "only 64-bit Android"
#endif

typedef long ssize_t;
typedef long off_t;
typedef int pid_t;

// errno.h
int *__errno(void);
#define errno (*__errno())
enum { ENOENT = 2, EINTR = 4, EIO = 5, EAGAIN = 11, ENOMEM = 12, EACCES = 13, EEXIST = 17, EINVAL = 22, EPIPE = 32 };

// dlfcn.h
enum { RTLD_LOCAL = 0, RTLD_LAZY = 1, RTLD_NOW = 2, RTLD_GLOBAL = 0x100 };
void *dlopen(const char *path, int flags);
void *dlsym(void *library, const char *name);
char *dlerror(void);
int dlclose(void *library);

// fcntl.h
enum {
    O_RDONLY = 0, O_WRONLY = 1, O_RDWR = 2, O_CREAT = 0100, O_EXCL = 0200, O_TRUNC = 01000, O_APPEND = 02000,
    O_NONBLOCK = 04000, O_CLOEXEC = 02000000,
};
enum { F_DUPFD = 0, F_GETFD = 1, F_SETFD = 2, F_GETFL = 3, F_SETFL = 4, F_DUPFD_CLOEXEC = 1030, FD_CLOEXEC = 1 };
int open(const char *path, int flags, ...);
int fcntl(int descriptor, int command, ...);

// poll.h
struct pollfd {
    int fd;
    short events, revents;
};
typedef unsigned int nfds_t;
enum { POLLIN = 1, POLLOUT = 4, POLLERR = 8, POLLHUP = 16, POLLNVAL = 32 };
int poll(struct pollfd *descriptors, nfds_t count, int timeout_ms);

// sched.h
enum { CPU_SETSIZE = 1024 };
typedef struct {
    unsigned long __bits[CPU_SETSIZE / 64];
} cpu_set_t;
#define CPU_ZERO(set) ((void)__builtin_memset((set), 0, sizeof(cpu_set_t)))
#define CPU_SET(cpu, set) ((void)((set)->__bits[(unsigned)(cpu) / 64] |= 1UL << ((unsigned)(cpu) % 64)))
#define CPU_ISSET(cpu, set) ((int)((set)->__bits[(unsigned)(cpu) / 64] >> ((unsigned)(cpu) % 64) & 1UL))
int sched_getaffinity(pid_t process, size_t size, cpu_set_t *set);
int sched_setaffinity(pid_t process, size_t size, const cpu_set_t *set);

// signal.h
typedef void (*sighandler_t)(int);
typedef unsigned long sigset_t;
struct sigaction {
    int sa_flags;
    union {
        sighandler_t sa_handler;
        void (*sa_sigaction)(int, void *, void *);
    };
    sigset_t sa_mask;
    void (*sa_restorer)(void);
};
enum {
    SIGHUP = 1, SIGINT = 2, SIGILL = 4, SIGABRT = 6, SIGBUS = 7, SIGFPE = 8, SIGKILL = 9, SIGSEGV = 11, SIGPIPE = 13,
    SIGALRM = 14, SIGTERM = 15, SIG_BLOCK = 0, SIG_UNBLOCK = 1,
};
enum { SA_SIGINFO = 4, SA_ONSTACK = 0x08000000, SA_RESTART = 0x10000000, SA_NODEFER = 0x40000000 };
#define SA_RESETHAND ((int)0x80000000)
#define SIG_DFL ((sighandler_t)0)
#define SIG_IGN ((sighandler_t)1)
sighandler_t signal(int number, sighandler_t handler);
int sigaction(int number, const struct sigaction *action, struct sigaction *before);
int sigemptyset(sigset_t *set);
int sigaddset(sigset_t *set, int number);
int sigprocmask(int how, const sigset_t *set, sigset_t *before);
int raise(int number);

// stdio.h
typedef struct __sFILE FILE;
extern FILE *stdin, *stdout, *stderr;
enum { SEEK_SET = 0, SEEK_CUR = 1, SEEK_END = 2, BUFSIZ = 1024, EOF = -1 };
FILE *fopen(const char *path, const char *mode);
FILE *fdopen(int descriptor, const char *mode);
int fclose(FILE *file);
int fflush(FILE *file);
int fgetc(FILE *file);
char *fgets(char *text, int size, FILE *file);
int fileno(FILE *file);
int fputc(int byte, FILE *file);
int fputs(const char *text, FILE *file);
size_t fread(void *bytes, size_t size, size_t count, FILE *file);
size_t fwrite(const void *bytes, size_t size, size_t count, FILE *file);
int fseek(FILE *file, long offset, int whence);
long ftell(FILE *file);
int ferror(FILE *file);
int feof(FILE *file);
int rename(const char *from, const char *to);
int remove(const char *path);
__attribute__((format(printf, 1, 2))) int printf(const char *format, ...);
__attribute__((format(printf, 2, 3))) int fprintf(FILE *file, const char *format, ...);
__attribute__((format(printf, 3, 4))) int snprintf(char *text, size_t size, const char *format, ...);
__attribute__((format(printf, 3, 0))) int vsnprintf(char *text, size_t size, const char *format, va_list arguments);
__attribute__((format(printf, 2, 0))) int vfprintf(FILE *file, const char *format, va_list arguments);
__attribute__((format(scanf, 2, 3))) int sscanf(const char *text, const char *format, ...);

// stdlib.h
enum { EXIT_SUCCESS = 0, EXIT_FAILURE = 1 };
void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *bytes, size_t size);
void free(void *bytes);
int posix_memalign(void **bytes, size_t alignment, size_t size);
double strtod(const char *text, char **end);
long strtol(const char *text, char **end, int base);
long long strtoll(const char *text, char **end, int base);
unsigned long strtoul(const char *text, char **end, int base);
unsigned long long strtoull(const char *text, char **end, int base);
char *getenv(const char *name);
int setenv(const char *name, const char *value, int overwrite);
void qsort(void *items, size_t count, size_t size, int (*compare)(const void *, const void *));
_Noreturn void abort(void);
_Noreturn void exit(int status);

// string.h
void *memchr(const void *bytes, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
void *memcpy(void *target, const void *source, size_t size);
void *memmove(void *target, const void *source, size_t size);
void *memset(void *bytes, int byte, size_t size);
char *strchr(const char *text, int byte);
int strcmp(const char *a, const char *b);
char *strcpy(char *target, const char *source);
char *strdup(const char *text);
char *strerror(int number);
size_t strlen(const char *text);
int strncmp(const char *a, const char *b, size_t size);
size_t strnlen(const char *text, size_t size);
char *strrchr(const char *text, int byte);
size_t strspn(const char *text, const char *bytes);
size_t strcspn(const char *text, const char *bytes);
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
enum {
    CLOCK_REALTIME = 0, CLOCK_MONOTONIC = 1, CLOCK_PROCESS_CPUTIME_ID = 2, CLOCK_THREAD_CPUTIME_ID = 3,
    CLOCK_MONOTONIC_RAW = 4, CLOCK_BOOTTIME = 7, ITIMER_REAL = 0,
};
int clock_gettime(clockid_t clock, struct timespec *now);
int nanosleep(const struct timespec *time, struct timespec *left);
int setitimer(int timer, const struct itimerval *value, struct itimerval *before);

// sys/resource.h
struct rusage {
    struct timeval ru_utime, ru_stime;
    long ru_maxrss, ru_ixrss, ru_idrss, ru_isrss, ru_minflt, ru_majflt, ru_nswap, ru_inblock, ru_oublock, ru_msgsnd,
        ru_msgrcv, ru_nsignals, ru_nvcsw, ru_nivcsw;
};
enum { RUSAGE_SELF = 0, RUSAGE_THREAD = 1 };
int getrusage(int who, struct rusage *usage);

// sys/syscall.h: the kernel's numbers
#if defined(__aarch64__)
enum { SYS_memfd_create = 279 };
#else
enum { SYS_memfd_create = 319 };
#endif
long syscall(long number, ...);

// unistd.h
enum { STDIN_FILENO = 0, STDOUT_FILENO = 1, STDERR_FILENO = 2, F_OK = 0, X_OK = 1, W_OK = 2, R_OK = 4 };
enum { _SC_PAGESIZE = 39, _SC_NPROCESSORS_CONF = 96, _SC_NPROCESSORS_ONLN = 97 };
int access(const char *path, int mode);
unsigned alarm(unsigned seconds);
int close(int descriptor);
int dup(int descriptor);
int dup2(int descriptor, int target);
pid_t getpid(void);
pid_t gettid(void);
off_t lseek(int descriptor, off_t offset, int whence);
ssize_t pread(int descriptor, void *bytes, size_t size, off_t offset);
ssize_t read(int descriptor, void *bytes, size_t size);
long sysconf(int name);
int unlink(const char *path);
ssize_t write(int descriptor, const void *bytes, size_t size);
_Noreturn void _exit(int status);

#endif
