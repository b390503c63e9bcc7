// Reads and writes JSON texts. See json.h.
#include "json.h"

enum { DEEPEST = 16 };

static const char *skip_space(const char *at) {
    while (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r') at++;
    return at;
}

static bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

static int hex_value(char byte) {
    if (is_digit(byte)) return byte - '0';
    if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
    if (byte >= 'A' && byte <= 'F') return byte - 'A' + 10;
    return -1;
}

static int hex4(const char *at) {  // -1 where these are not four digits
    int code = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_value(at[i]);
        if (digit < 0) return -1;
        code = code * 16 + digit;
    }
    return code;
}

// Each skip_ function returns what is behind the value, or NULL where there is no such value.
static const char *skip_string(const char *at) {
    if (*at++ != '"') return NULL;
    for (; *at != '"'; at++) {
        if ((unsigned char)*at < 0x20) return NULL;
        if (*at == '\\') {
            at++;
            if (*at == 'u') {
                if (hex4(at + 1) < 0) return NULL;
                at += 4;
            } else if (*at == '\0' || strchr("\"\\/bfnrt", *at) == NULL) {
                return NULL;
            }
        }
    }
    return at + 1;
}

static const char *skip_number(const char *at) {
    if (*at == '-') at++;
    if (!is_digit(*at) || (at[0] == '0' && is_digit(at[1]))) return NULL;
    while (is_digit(*at)) at++;
    if (*at == '.') {
        if (!is_digit(*++at)) return NULL;
        while (is_digit(*at)) at++;
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        if (*at == '+' || *at == '-') at++;
        if (!is_digit(*at)) return NULL;
        while (is_digit(*at)) at++;
    }
    return at;
}

static const char *skip_word(const char *at, const char *word) {
    size_t length = strlen(word);
    return strncmp(at, word, length) == 0 ? at + length : NULL;
}

static const char *skip_value(const char *at, int deepest) {
    if (*at == '"') return skip_string(at);
    if (*at == 't') return skip_word(at, "true");
    if (*at == 'f') return skip_word(at, "false");
    if (*at == 'n') return skip_word(at, "null");
    if (*at != '{' && *at != '[') return skip_number(at);
    if (deepest == 0) return NULL;
    bool object = *at == '{';
    char close = object ? '}' : ']';
    at = skip_space(at + 1);
    if (*at == close) return at + 1;
    for (;;) {
        if (object) {
            at = skip_string(at);
            if (at == NULL) return NULL;
            at = skip_space(at);
            if (*at++ != ':') return NULL;
            at = skip_space(at);
        }
        at = skip_value(at, deepest - 1);
        if (at == NULL) return NULL;
        at = skip_space(at);
        if (*at == close) return at + 1;
        if (*at++ != ',') return NULL;
        at = skip_space(at);
    }
}

bool json_check(const char *bytes, size_t length) {
    const char *end = skip_value(skip_space(bytes), DEEPEST);
    return end != NULL && skip_space(end) == bytes + length;
}

bool json_member(struct json object, const char *key, struct json *value) {
    const char *at = skip_space(object.at);
    if (*at != '{') return false;
    at = skip_space(at + 1);
    while (*at == '"') {
        char name[64];
        bool found = json_string((struct json){at}, name, sizeof name) && strcmp(name, key) == 0;
        at = skip_space(skip_space(skip_string(at)) + 1);
        if (found) {
            value->at = at;
            return true;
        }
        at = skip_space(skip_value(at, DEEPEST));
        if (*at == ',') at = skip_space(at + 1);
    }
    return false;
}

bool json_first(struct json array, struct json *element) {
    const char *at = skip_space(array.at);
    if (*at != '[') return false;
    element->at = skip_space(at + 1);
    return *element->at != ']';
}

bool json_next(struct json *element) {
    const char *at = skip_space(skip_value(element->at, DEEPEST));
    if (*at != ',') return false;
    element->at = skip_space(at + 1);
    return true;
}

bool json_number(struct json value, double *number) {
    if (skip_number(value.at) == NULL) return false;
    *number = strtod(value.at, NULL);
    return true;
}

static size_t put_utf8(char *to, unsigned code) {
    if (code < 0x80) {
        to[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        to[0] = (char)(0xc0 | code >> 6);
        to[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        to[0] = (char)(0xe0 | code >> 12);
        to[1] = (char)(0x80 | (code >> 6 & 0x3f));
        to[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | code >> 18);
    to[1] = (char)(0x80 | (code >> 12 & 0x3f));
    to[2] = (char)(0x80 | (code >> 6 & 0x3f));
    to[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

static unsigned unescape(const char **at) {  // behind a backslash; moves behind the escape
    char byte = *(*at)++;
    switch (byte) {
        case 'b': return '\b';
        case 'f': return '\f';
        case 'n': return '\n';
        case 'r': return '\r';
        case 't': return '\t';
        case 'u': break;
        default: return (unsigned char)byte;
    }
    unsigned code = (unsigned)hex4(*at);
    *at += 4;
    if (code >= 0xd800 && code < 0xdc00 && (*at)[0] == '\\' && (*at)[1] == 'u') {
        unsigned low = (unsigned)hex4(*at + 2);
        if (low >= 0xdc00 && low < 0xe000) {
            *at += 6;
            return 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
    }
    return code;
}

bool json_string(struct json value, char *bytes, size_t size) {
    const char *at = value.at;
    if (*at++ != '"') return false;
    size_t length = 0;
    while (*at != '"') {
        if (length + 5 > size) return false;
        if (*at != '\\') {
            bytes[length++] = *at++;
            continue;
        }
        at++;
        unsigned code = unescape(&at);
        if (code == 0) return false;
        length += put_utf8(bytes + length, code);
    }
    bytes[length] = '\0';
    return true;
}

void text_bytes(struct text *text, const char *bytes, size_t length) {
    if (text->capacity - text->length < length) {
        size_t capacity = (text->length + length) * 2;
        char *grown = realloc(text->bytes, capacity);
        if (grown == NULL) {
            text->lost = true;
            return;
        }
        text->bytes = grown;
        text->capacity = capacity;
    }
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
}

void text_add(struct text *text, const char *string) { text_bytes(text, string, strlen(string)); }

void text_integer(struct text *text, int64_t number) {
    char digits[24];
    size_t at = sizeof digits;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do digits[--at] = (char)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0) digits[--at] = '-';
    text_bytes(text, digits + at, sizeof digits - at);
}

void text_integers(struct text *text, const int64_t *numbers, size_t count) {
    text_add(text, "[");
    for (size_t i = 0; i < count; i++) {
        if (i) text_add(text, ",");
        text_integer(text, numbers[i]);
    }
    text_add(text, "]");
}

void text_number(struct text *text, double number) {
    char digits[32];
    if (number - number != 0) {  // infinite, or not a number: JSON has neither
        text_add(text, "null");
        return;
    }
    snprintf(digits, sizeof digits, "%.17g", number);
    text_add(text, digits);
}

// Bytes of one UTF-8 sequence, 0 where there is none.
static size_t utf8_bytes(const unsigned char *at, size_t left) {
    size_t length = at[0] < 0x80 ? 1 : at[0] >= 0xc2 && at[0] < 0xe0 ? 2 : at[0] >= 0xe0 && at[0] < 0xf0 ? 3 : 4;
    if (at[0] >= 0xf5 || (at[0] >= 0x80 && at[0] < 0xc2) || length > left) return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    if (length == 3 && ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] >= 0xa0))) return 0;
    if (length == 4 && ((at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] >= 0x90))) return 0;
    return length;
}

void text_quoted(struct text *text, const char *bytes, size_t length) {
    text_add(text, "\"");
    for (size_t i = 0; i < length;) {
        unsigned char byte = (unsigned char)bytes[i];
        if (byte < 0x20 || byte == '"' || byte == '\\') {
            char escaped[8];
            snprintf(escaped, sizeof escaped, "\\u%04x", byte);
            text_add(text, escaped);
            i++;
            continue;
        }
        size_t whole = utf8_bytes((const unsigned char *)bytes + i, length - i);
        text_bytes(text, whole ? bytes + i : "?", whole ? whole : 1);
        i += whole ? whole : 1;
    }
    text_add(text, "\"");
}

void text_member(struct text *text, const char *key) {
    text_add(text, ",\"");
    text_add(text, key);
    text_add(text, "\":");
}

void text_send(struct text *text, int out) {
    if (text->lost) _exit(1);  // no memory: half a message would be worse than none
    text_add(text, "\n");
    for (size_t sent = 0; sent < text->length;) {
        ssize_t count = write(out, text->bytes + sent, text->length - sent);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) _exit(1);
        sent += (size_t)count;
    }
    text->length = 0;
}
