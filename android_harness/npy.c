// Reads and writes NumPy's .npy files. The format: a magic number, the version, the header's length (16 bits,
// little-endian), and a Python literal as {'descr': '<f4', 'fortran_order': False, 'shape': (8, 224, 224, 3), }.
#include "npy.h"

static const char MAGIC[8] = "\x93NUMPY\x01";  // and version 1.0: the last byte is the 0
enum { PREFIX = 10, HEADER_LIMIT = 4096 };

bool read_whole(int descriptor, void *bytes, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t count = read(descriptor, (char *)bytes + done, size - done);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        done += (size_t)count;
    }
    return true;
}

bool write_whole(int descriptor, const void *bytes, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t count = write(descriptor, (const char *)bytes + done, size - done);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        done += (size_t)count;
    }
    return true;
}

static bool parse_shape(const char *at, struct tensor *tensor) {
    if (*at++ != '(') return false;
    for (tensor->rank = 0; *at != ')';) {
        char *end;
        long long axis = strtoll(at, &end, 10);
        if (end == at || axis < 0 || tensor->rank == MAX_RANK) return false;
        tensor->shape[tensor->rank++] = axis;
        for (at = end; *at == ',' || *at == ' '; at++) {}
    }
    return true;
}

static bool parse_header(const char *header, struct tensor *tensor) {
    const char *descr = strstr(header, "'descr': '"), *shape = strstr(header, "'shape': ");
    if (descr == NULL || shape == NULL || strstr(header, "'fortran_order': False") == NULL) return false;
    descr += strlen("'descr': '");
    for (tensor->dtype = 0; tensor->dtype < N_DTYPES; tensor->dtype++) {
        const char *known = dtype_descr(tensor->dtype);
        if (known != NULL && strncmp(descr, known, 3) == 0 && descr[3] == '\'') break;
    }
    return tensor->dtype < N_DTYPES && parse_shape(shape + strlen("'shape': "), tensor) && tensor->rank > 0;
}

int npy_open(const char *path, struct tensor *tensor, struct fault *fault) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        fail(fault, "session", path, "send it first", "%s", strerror(errno));
        return -1;
    }
    unsigned char prefix[PREFIX];
    char header[HEADER_LIMIT + 1];
    bool known = read_whole(file, prefix, PREFIX) && memcmp(prefix, MAGIC, sizeof MAGIC) == 0;
    size_t length = known ? (size_t)(prefix[8] | prefix[9] << 8) : 0;
    known = known && length <= HEADER_LIMIT && read_whole(file, header, length);
    header[known ? length : 0] = '\0';
    if (!known || !parse_header(header, tensor)) {
        close(file);
        fail(fault, "session", path, "save it with numpy.save, in C order",
             "not a .npy file of version 1.0 that this harness reads");
        return -1;
    }
    return file;
}

int npy_create(const char *path, const struct tensor *tensor, struct fault *fault) {
    char header[PREFIX + 512];
    size_t size = sizeof header, length = PREFIX;
    length += (size_t)snprintf(header + length, size - length, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                               dtype_descr(tensor->dtype));
    for (int axis = 0; axis < tensor->rank; axis++)
        length += (size_t)snprintf(header + length, size - length, "%lld, ", (long long)tensor->shape[axis]);
    length += (size_t)snprintf(header + length, size - length, "), }");
    while ((length + 1) % 64 != 0) header[length++] = ' ';  // the data begins at a multiple of 64 bytes
    header[length++] = '\n';
    memcpy(header, MAGIC, sizeof MAGIC);
    header[8] = (char)((length - PREFIX) & 0xff);
    header[9] = (char)((length - PREFIX) >> 8);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file >= 0 && write_whole(file, header, length)) return file;
    fail(fault, "session", path, "free some space, or name another folder", "%s", strerror(errno));
    if (file >= 0) close(file);
    return -1;
}
