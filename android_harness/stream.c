// Measures how fast threads copy and read memory. See profile.h.
#include "profile.h"
#include "system.h"

enum { WINDOW_NS = 20000000, WINDOWS = 5, STRIDE = 128 };  // a figure's span; of how many the best counts; bytes a step

// Eight sums at a time, so that additions wait for memory and not for each other.
typedef uint64_t lanes __attribute__((vector_size(16)));
enum { SUMS = STRIDE / (int)sizeof(lanes) };

struct worker {
    pthread_t thread;
    pthread_barrier_t *barrier;
    _Atomic int *go;  // 1: all are there; -1: they never will be
    size_t bytes;     // of each of its two arrays
    bool reads;
    uint64_t total;   // what was read is added up, or reading it could be left out
    double rates[WINDOWS];
    bool failed;
};

static uint64_t read_all(const void *array, size_t bytes) {
    lanes sums[SUMS] = {{0}};
    for (const lanes *at = array, *end = at + bytes / sizeof *at; at < end; at += SUMS)
        for (int i = 0; i < SUMS; i++) sums[i] += at[i];
    uint64_t total = 0;
    for (int i = 0; i < SUMS; i++) total += sums[i][0] + sums[i][1];
    return total;
}

static void pass(struct worker *worker, void *source, void *sink) {
    if (worker->reads)
        worker->total += read_all(source, worker->bytes) + read_all(sink, worker->bytes);
    else
        memcpy(sink, source, worker->bytes);
}

static void *work(void *argument) {
    struct worker *worker = argument;
    void *source = NULL, *sink = NULL;
    worker->failed = posix_memalign(&source, 64, worker->bytes) != 0 || posix_memalign(&sink, 64, worker->bytes) != 0;
    if (!worker->failed) {
        // Touched here, by the thread that uses them, and not all zeros, which some systems keep in one page.
        memset(source, 1, worker->bytes);
        memset(sink, 2, worker->bytes);
        pass(worker, source, sink);
    }
    while (*worker->go == 0) poll(NULL, 0, 1);
    for (int window = 0; window < WINDOWS && *worker->go == 1; window++) {
        pthread_barrier_wait(worker->barrier);
        int64_t start = clock_ns(CLOCK_MONOTONIC), took = 0, passes = 0;
        while (!worker->failed && (took < WINDOW_NS || passes == 0)) {
            pass(worker, source, sink);
            passes++;
            took = clock_ns(CLOCK_MONOTONIC) - start;
        }
        if (took > 0) worker->rates[window] = (double)passes * 2 * (double)worker->bytes * 1e9 / (double)took;
    }
    free(source);
    free(sink);
    return NULL;
}

// Run the threads to their end. Returns the best window's rate of all together, -1 where one could not work.
static double run(struct worker *workers, int threads, size_t bytes, bool reads) {
    pthread_barrier_t barrier;
    _Atomic int go = 0;
    int started = 0;
    double best = 0;
    bool failed = pthread_barrier_init(&barrier, NULL, (unsigned)threads) != 0;
    while (!failed && started < threads) {
        workers[started] = (struct worker){.barrier = &barrier, .go = &go, .bytes = bytes, .reads = reads};
        failed = pthread_create(&workers[started].thread, NULL, work, &workers[started]) != 0;
        started += !failed;
    }
    go = failed ? -1 : 1;
    for (int i = 0; i < started; i++) {
        pthread_join(workers[i].thread, NULL);
        failed = failed || workers[i].failed;
    }
    for (int window = 0; window < WINDOWS && !failed; window++) {
        double together = 0;
        for (int i = 0; i < threads; i++) together += workers[i].rates[window];
        if (together > best) best = together;
    }
    return failed ? -1 : best;
}

bool best_rate(int64_t size, int threads, int64_t *bytes_per_s, struct fault *fault) {
    struct worker *workers = calloc((size_t)threads, sizeof *workers);
    size_t bytes = (size_t)(size / threads / 2 / STRIDE) * STRIDE;
    if (bytes == 0) bytes = STRIDE;
    double copied = workers == NULL ? -1 : run(workers, threads, bytes, false);
    double read = copied < 0 ? -1 : run(workers, threads, bytes, true);
    free(workers);
    *bytes_per_s = (int64_t)(read > copied ? read : copied);
    return read >= 0 || fail(fault, "session", "stream", "take smaller sizes or fewer threads",
                             "no memory or no threads for %lld bytes", (long long)size);
}
