// JSON texts: a checked document is read in place, a message is written into memory that grows.
#ifndef MOBENCH_JSON_H
#define MOBENCH_JSON_H

#include "libc.h"

// One value inside a checked document, which ends with a NUL byte.
struct json {
    const char *at;
};

// Whether `length` bytes, with a NUL behind them, are one whole JSON value, nested at most 16 deep.
bool json_check(const char *bytes, size_t length);

bool json_member(struct json object, const char *key, struct json *value);  // false: not an object, or no such key
bool json_first(struct json array, struct json *element);  // false: not an array, or an empty one
bool json_next(struct json *element);
bool json_number(struct json value, double *number);
bool json_string(struct json value, char *bytes, size_t size);  // UTF-8; false: no string, too long, or a NUL inside

struct text {
    char *bytes;
    size_t length, capacity;
    bool lost;  // there was no memory: what was added is not all there
};

void text_bytes(struct text *text, const char *bytes, size_t length);
void text_add(struct text *text, const char *string);
void text_integer(struct text *text, int64_t number);
void text_integers(struct text *text, const int64_t *numbers, size_t count);  // an array
void text_number(struct text *text, double number);
void text_quoted(struct text *text, const char *bytes, size_t length);  // bytes that are no UTF-8 become "?"
void text_member(struct text *text, const char *key);                   // ,"key":

// Send one framed message and empty the text. Ends the process where the parent is gone.
void text_send(struct text *text, int out);

#endif
