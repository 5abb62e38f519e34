/* The fixture that the suites of libpawl share. */
#include "tests/unit/lib_fixture.h"

struct fake fake;
struct pawl *client;

void fake_set_up(void)
{
    fake_start(&fake);
    client = fake_client(&fake);
}

void fake_tear_down(void)
{
    pawl_close(client);
    fake_stop(&fake);
}
