#include "runtime/lib/lib.h"
void pawl_lib_embedded_close(struct pawl *pawl)
{
    (void)pawl;
}
