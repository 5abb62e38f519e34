/* What tests of libpawl begin and end with: a scheduler's end, and a client that is connected to it. */
#ifndef PAWL_TESTS_LIB_FIXTURE_H
#define PAWL_TESTS_LIB_FIXTURE_H

#include "tests/unit/lib_fake.h"

extern struct fake fake;
extern struct pawl *client;

void fake_set_up(void);
void fake_tear_down(void);

#endif
