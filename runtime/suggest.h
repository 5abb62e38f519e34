/*
 * suggest.h - the nearest right name for a wrong one.
 */
#ifndef PAWL_RUNTIME_SUGGEST_H
#define PAWL_RUNTIME_SUGGEST_H

#include "scheduler/suggest.h"

#endif
