// Asks the operating system. See system.h.
#include "system.h"

enum { LOG_BYTES = 32768 };
static const int DEATHS[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGALRM, SIGTERM, SIGHUP};

int64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t involuntary_switches(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_nivcsw : 0;
}

double status_mb(const char *key) {
    char status[4096];
    int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, status, sizeof status - 1);
    if (file >= 0) close(file);
    if (length < 0) return -1;
    status[length] = '\0';
    size_t size = strlen(key);
    for (const char *line = status; line != NULL; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, key, size) == 0 && line[size] == ':') return strtod(line + size + 1, NULL) / 1024;
    }
    return -1;
}

void start_afresh(void) {
    sigset_t ours;
    sigemptyset(&ours);
    for (size_t i = 0; i < sizeof DEATHS / sizeof *DEATHS; i++) {
        signal(DEATHS[i], SIG_DFL);
        sigaddset(&ours, DEATHS[i]);
    }
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &ours, NULL);
}

void set_deadline(double seconds) {
    if (!(seconds > 0)) seconds = 0;
    if (seconds > 1e8) seconds = 1e8;
    struct itimerval timer = {.it_value = {.tv_sec = (time_t)seconds}};
    timer.it_value.tv_usec = (suseconds_t)((seconds - (double)timer.it_value.tv_sec) * 1e6);
    setitimer(ITIMER_REAL, &timer, NULL);
}

typedef unsigned long core_mask[MAX_CORES / (8 * sizeof(long))];

int allowed_cores(int *cores) {
    core_mask mask = {0};
    int count = 0;
    if (sched_getaffinity(0, sizeof mask, (cpu_set_t *)(void *)mask) < 0) return 0;
    for (int core = 0; core < MAX_CORES; core++)
        if (mask[core / (8 * (int)sizeof(long))] >> core % (8 * (int)sizeof(long)) & 1) cores[count++] = core;
    return count;
}

static void show_cores(const int *cores, int count, char *to, size_t size) {
    size_t length = 0;
    to[0] = '\0';
    for (int i = 0; i < count && length + 8 < size; i++)
        length += (size_t)snprintf(to + length, size - length, "%s%d", i ? "," : "", cores[i]);
}

bool pin_to_cores(const struct config *config, struct fault *fault) {
    if (config->n_cores == 0) return true;
    core_mask mask = {0};
    char what[128] = "cores ", shown[256];
    for (int i = 0; i < config->n_cores; i++)
        mask[config->cores[i] / (8 * (int)sizeof(long))] |= 1UL << config->cores[i] % (8 * (int)sizeof(long));
    show_cores(config->cores, config->n_cores, what + strlen(what), sizeof what - strlen(what));
    if (sched_setaffinity(0, sizeof mask, (const cpu_set_t *)(const void *)mask) < 0)
        return fail(fault, "session", what, "name others: these may be off", "%s", strerror(errno));
    int got[MAX_CORES], count = allowed_cores(got);
    bool all = true;
    for (int i = 0; i < config->n_cores; i++) {
        bool given = false;
        for (int j = 0; j < count; j++) given = given || got[j] == config->cores[i];
        all = all && given;
    }
    show_cores(got, count, shown, sizeof shown);
    return all || fail(fault, "session", what, "name others: some may be off", "the system gives only %s", shown);
}

// What is kept lies in a file without a name. Where a process dies with it, a handler prints it first: the parent
// looks for a dead child's last words on stderr.
static int kept = -1, real_out = -1, real_err = -1;
static char log_text[LOG_BYTES + 1];

static size_t print_log(void) {
    off_t end = lseek(kept, 0, SEEK_END);
    off_t start = end > LOG_BYTES ? end - LOG_BYTES : 0;
    ssize_t length = end > 0 ? pread(kept, log_text, LOG_BYTES, start) : 0;
    for (ssize_t done = 0; done < length;) {
        ssize_t count = write(real_err, log_text + done, (size_t)(length - done));
        if (count <= 0) break;
        done += count;
    }
    return length > 0 ? (size_t)length : 0;
}

static void die(int number) {
    print_log();
    signal(number, SIG_DFL);
    raise(number);
}

void keep_log(void) {
    kept = (int)syscall(SYS_memfd_create, "log", 1u);  // 1: closed by exec. bionic has the function only since Android 11
    real_out = kept < 0 ? -1 : dup(1);
    real_err = real_out < 0 ? -1 : dup(2);
    if (real_err < 0) return;  // then it is printed at once, and nothing is known of it
    dup2(kept, 1);
    dup2(kept, 2);
    for (size_t i = 0; i < sizeof DEATHS / sizeof *DEATHS; i++) signal(DEATHS[i], die);
}

const char *release_log(void) {
    log_text[0] = '\0';
    if (real_err < 0) return log_text;
    for (size_t i = 0; i < sizeof DEATHS / sizeof *DEATHS; i++) signal(DEATHS[i], SIG_DFL);
    dup2(real_out, 1);
    dup2(real_err, 2);
    size_t length = print_log();
    log_text[length] = '\0';
    for (size_t i = 0; i < length; i++)
        if (log_text[i] == '\0') log_text[i] = ' ';
    close(kept);
    close(real_out);
    close(real_err);
    kept = real_out = real_err = -1;
    return log_text;
}
