// Tensors: dtypes, shapes, seeded values. Errors are noted here too.
#include "harness.h"

static const struct {
    const char *name, *descr;
    size_t bytes;
} DTYPES[N_DTYPES + 1] = {
    [BOOL] = {"bool", "|b1", 1},       [INT8] = {"int8", "|i1", 1},       [UINT8] = {"uint8", "|u1", 1},
    [INT16] = {"int16", "<i2", 2},     [UINT16] = {"uint16", "<u2", 2},   [INT32] = {"int32", "<i4", 4},
    [UINT32] = {"uint32", "<u4", 4},   [INT64] = {"int64", "<i8", 8},     [UINT64] = {"uint64", "<u8", 8},
    [FLOAT16] = {"float16", "<f2", 2}, [FLOAT32] = {"float32", "<f4", 4}, [FLOAT64] = {"float64", "<f8", 8},
    [COMPLEX64] = {"complex64", "<c8", 8}, [BFLOAT16] = {"bfloat16", NULL, 2}, [OTHER_DTYPE] = {"unknown", NULL, 0},
};

const char *dtype_name(enum dtype dtype) { return DTYPES[dtype].name; }
const char *dtype_descr(enum dtype dtype) { return DTYPES[dtype].descr; }
size_t element_bytes(enum dtype dtype) { return DTYPES[dtype].bytes; }

int64_t count_elements(const struct tensor *tensor) {
    int64_t count = 1;
    for (int axis = 0; axis < tensor->rank; axis++) {
        if (tensor->shape[axis] < 0) return -1;
        if (tensor->shape[axis] > 0 && count > (INT64_C(1) << 40) / tensor->shape[axis]) return -1;
        count *= tensor->shape[axis];
    }
    return count;
}

static void make_one_line(char *text) {
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < ' ') *text = ' ';
}

bool fail(struct fault *fault, const char *kind, const char *what, const char *mend, const char *why, ...) {
    if (fault->kind != NULL) return false;
    fault->kind = kind;
    fault->mend = mend;
    snprintf(fault->what, sizeof fault->what, "%s", what);
    va_list arguments;
    va_start(arguments, why);
    vsnprintf(fault->why, sizeof fault->why, why, arguments);
    va_end(arguments);
    make_one_line(fault->what);
    make_one_line(fault->why);
    return false;
}

static void show_shape(const int64_t *shape, int rank, char *to, size_t size) {
    size_t length = 0;
    to[0] = '\0';
    for (int axis = 0; axis < rank && length + 24 < size; axis++) {
        if (shape[axis] < 0)
            length += (size_t)snprintf(to + length, size - length, "%s?", axis ? ", " : "");
        else
            length += (size_t)snprintf(to + length, size - length, "%s%lld", axis ? ", " : "", (long long)shape[axis]);
    }
}

bool settle_shape(const struct config *config, bool first, bool resizable, struct tensor *input, struct fault *fault) {
    char what[NAME_BYTES + 16], axes[MAX_RANK * 22];
    snprintf(what, sizeof what, "input '%s'", input->name);
    if (input->rank == 0) return true;
    int64_t *shape = input->shape;
    if (resizable && config->batch != 1) shape[0] = -1;
    show_shape(shape, input->rank, axes, sizeof axes);
    if (config->batch != 1 && shape[0] >= 0 && shape[0] != config->batch)
        return fail(fault, "session", what, "export it with an open batch axis", "its batch is fixed at %lld, %d asked",
                    (long long)shape[0], config->batch);
    bool open = false;
    for (int axis = 1; axis < input->rank; axis++) open = open || shape[axis] < 0;
    if (!open) {
        if (shape[0] < 0) shape[0] = config->batch;
        return true;
    }
    if (!first || config->rank == 0)
        return fail(fault, "session", what, "give one, as --shape 1,3,224,224", "its shape [%s] is open", axes);
    bool fits = config->rank == input->rank;
    for (int axis = 0; fits && axis < input->rank; axis++)
        fits = shape[axis] < 0 || shape[axis] == config->shape[axis];
    if (!fits) {
        char given[MAX_RANK * 22];
        show_shape(config->shape, config->rank, given, sizeof given);
        return fail(fault, "session", what, "", "its shape [%s] does not fit the given [%s]", axes, given);
    }
    bool open_batch = shape[0] < 0;
    memcpy(shape, config->shape, sizeof input->shape);
    if (open_batch && config->batch != 1) shape[0] = config->batch;
    return true;
}

// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): one 64-bit state, any seed will do.
static uint64_t next_random(uint64_t *state) {
    uint64_t mixed = *state += UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ mixed >> 31;
}

// The sum of twelve uniform numbers, less six: mean 0, variance 1, near normal, and needs no mathematics library.
static float next_normal(uint64_t *state) {
    int32_t sum = 0;
    for (int draw = 0; draw < 3; draw++) {
        uint64_t bits = next_random(state);
        for (int part = 0; part < 4; part++, bits >>= 16) sum += (int32_t)(bits & 0xffff);
    }
    return ((float)sum + 6.0f) / 65536.0f - 6.0f;  // each of the twelve parts is half a step too low
}

// Half precision, cut instead of rounded: these are random numbers between -6 and 6.
static uint16_t to_half(float number) {
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    int32_t exponent = (int32_t)(bits >> 23 & 0xff) - 127 + 15;
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    return exponent <= 0 ? sign : (uint16_t)(sign | (uint32_t)exponent << 10 | (bits >> 13 & 0x3ff));
}

static void put_random(enum dtype dtype, unsigned char *to, uint64_t *seed) {
    float normal;
    double wide;
    uint16_t half;
    switch (dtype) {
        case FLOAT32:
            normal = next_normal(seed);
            memcpy(to, &normal, sizeof normal);
            break;
        case FLOAT64:
            wide = (double)next_normal(seed);
            memcpy(to, &wide, sizeof wide);
            break;
        case FLOAT16:
            half = to_half(next_normal(seed));
            memcpy(to, &half, sizeof half);
            break;
        case BFLOAT16:
            normal = next_normal(seed);
            memcpy(to, (unsigned char *)&normal + 2, 2);  // its upper half: every machine here is little-endian
            break;
        case INT8:
        case UINT8:
            *to = (unsigned char)(next_random(seed) >> 56);
            break;
        default:
            memset(to, 0, element_bytes(dtype));
            *to = (unsigned char)(next_random(seed) >> 63);
    }
}

void fill_random(enum dtype dtype, void *bytes, size_t count, uint64_t *seed) {
    unsigned char *to = bytes;
    for (size_t i = 0; i < count; i++, to += element_bytes(dtype)) put_random(dtype, to, seed);
}
