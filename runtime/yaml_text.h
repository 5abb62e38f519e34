/*
 * yaml_text.h - the bytes of a file that is to be parsed: read within a bound, and checked to be text.
 */
#ifndef PAWL_RUNTIME_YAML_TEXT_H
#define PAWL_RUNTIME_YAML_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/loader.h"

/** pawl_text_read - all of @fd, or a little more than @bytes_max of it (so that the caller sees it is too
 * long); *@bytes_out is to be freed. 0; -errno. */
int pawl_text_read(int fd, uint64_t bytes_max, char **bytes_out, size_t *length_out);

/** pawl_text_check - is it UTF-8 without NUL? 0; PAWL_E_INVALID with the place in @errors. */
int pawl_text_check(const char *bytes, size_t length, struct pawl_load_errors *errors);

#endif
