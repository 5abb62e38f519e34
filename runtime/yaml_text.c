/*
 * yaml_text.c - the bytes of a file that is to be parsed.
 *
 * Runs in clients and, for the configuration, in the scheduler. Reads the descriptor that it is given.
 */
#include "runtime/yaml_text.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/yaml.h"
#include "shm/error.h"

/* Bytes of the UTF-8 character at @at; 0 if there is none. */
static size_t character_bytes(const unsigned char *at, size_t left)
{
    size_t length = at[0] < 0x80   ? 1
                    : at[0] < 0xc2 ? 0
                    : at[0] < 0xe0 ? 2
                    : at[0] < 0xf0 ? 3
                    : at[0] < 0xf5 ? 4
                                   : 0;
    if (length == 0 || left < length)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
    bool beyond = (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf4 && at[1] > 0x8f);
    return overlong || beyond ? 0 : length;
}

int pawl_text_check(const char *bytes, size_t length, struct pawl_load_errors *errors)
{
    uint32_t line = 1, column = 1;
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)bytes[i];
        size_t step = c < 0x80 ? 1 : character_bytes((const unsigned char *)bytes + i, length - i);
        if (step == 0 || c == '\0') {
            pawl_load_refuse(errors, line, column, "encoding", "save the file as UTF-8 text",
                             c == '\0' ? "NUL byte in the file" : "byte 0x%02x is not UTF-8", c);
            return PAWL_E_INVALID;
        }
        column = c == '\n' ? 1 : column + 1;
        line += c == '\n';
        i += step;
    }
    return 0;
}

int pawl_text_read(int fd, uint64_t bytes_max, char **bytes_out, size_t *length_out)
{
    size_t capacity = 16384, length = 0;
    char *bytes = malloc(capacity);
    int error = bytes ? 0 : -ENOMEM;
    while (error == 0 && length <= bytes_max) {
        if (length == capacity) {
            capacity *= 2;
            char *grown = realloc(bytes, capacity);
            if (!grown) {
                error = -ENOMEM;
                break;
            }
            bytes = grown;
        }
        ssize_t got = read(fd, bytes + length, capacity - length);
        if (got == 0)
            break;
        if (got < 0 && errno != EINTR)
            error = -errno;
        length += got > 0 ? (size_t)got : 0;
    }
    if (error < 0) {
        free(bytes);
        return error;
    }
    *bytes_out = bytes;
    *length_out = length;
    return 0;
}
