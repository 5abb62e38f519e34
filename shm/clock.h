/*
 * clock.h - the clocks, one call each. Deadlines use boottime, records and people realtime, intervals
 * monotonic.
 */
#ifndef PAWL_SHM_CLOCK_H
#define PAWL_SHM_CLOCK_H

#include <stdint.h>

uint64_t pawl_clock_monotonic_ns(void);
uint64_t pawl_clock_boottime_ns(void); /* counts while suspended; no steps */
uint64_t pawl_clock_realtime_ns(void); /* may step */

/** pawl_clock_boot_id - a name of what the boot clock counts from: this boot's random one, and another in
 * each time namespace that moves that clock. Return: 0 or -errno (@out zeroed). */
int pawl_clock_boot_id(uint8_t out[16]);

#endif
