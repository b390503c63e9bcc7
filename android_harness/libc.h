// Everything of the C library that the harness uses comes through this header, so that it can also be built without
// any system's headers (bionic/ holds declarations of its own). Plain POSIX, and what Linux and bionic share.
#ifndef MOBENCH_LIBC_H
#define MOBENCH_LIBC_H

#define _GNU_SOURCE  // for the affinity mask

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef MOBENCH_BIONIC
#include "bionic/libc.h"
#else
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#endif

#endif
