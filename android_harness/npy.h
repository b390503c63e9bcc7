// Reads and writes NumPy's .npy files, version 1.0, little-endian, C order.
#ifndef MOBENCH_NPY_H
#define MOBENCH_NPY_H

#include "harness.h"

// Open a file of samples [N, ...] and read its header: `tensor` gets shape [N, ...] and dtype. Returns the descriptor,
// which stands at the first sample, or -1 with a fault noted.
int npy_open(const char *path, struct tensor *tensor, struct fault *fault);

// Make a file with this header. Returns the descriptor, or -1 with a fault noted.
int npy_create(const char *path, const struct tensor *tensor, struct fault *fault);

bool read_whole(int descriptor, void *bytes, size_t size);  // false: an error, or the end came first
bool write_whole(int descriptor, const void *bytes, size_t size);

#endif
