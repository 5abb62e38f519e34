/*
 * metrics_http.h - the figures and the health of a scheduler over HTTP, for Prometheus and for probes.
 *
 *   GET /metrics    text format 0.0.4; 503 while nobody serves
 *   GET /health     the document of `pawl health --json`; 200: healthy or degraded, 503: not
 *
 * Runs in: a process of its own, which reads the scheduler's memory and changes nothing. There is no password
 * and no encryption: loopback unless another address is named.
 */
#ifndef PAWL_RUNTIME_METRICS_HTTP_H
#define PAWL_RUNTIME_METRICS_HTTP_H

#include <sys/socket.h>

#include "runtime/state.h"

enum { PAWL_METRICS_ADDRESS_BYTES = 64, PAWL_METRICS_WHY_BYTES = 160 };

/**
 * pawl_metrics_address - "9090", ":9090", "127.0.0.1:9090", "[::1]:9090", "localhost:9090"
 *
 * Without a host it is 127.0.0.1. A host is a number, or localhost: names may lead anywhere. Port 0: one that
 * is free.
 *
 * Return: 0; PAWL_E_INVALID with @why.
 */
int pawl_metrics_address(const char *text, struct sockaddr_storage *address_out, socklen_t *bytes_out,
                         char why[PAWL_METRICS_WHY_BYTES]);

/** pawl_metrics_http_listen - parse, bind, listen. Return: a descriptor; PAWL_E_INVALID, -errno, with @why.
 */
int pawl_metrics_http_listen(const char *text, char why[PAWL_METRICS_WHY_BYTES]);

/** pawl_metrics_http_check - can this machine do it? Asked in a process of its own, so that nothing of it
 * stays here. Return: 0; -ENOSYS (the library is not installed); -errno. */
int pawl_metrics_http_check(void);

/** pawl_metrics_http_url - where @fd listens: "http://127.0.0.1:9090". */
const char *pawl_metrics_http_url(int fd, char text[PAWL_METRICS_ADDRESS_BYTES + 8]);

/** pawl_metrics_http_main - answer at @fd until SIGTERM. Return: exit code of the process. */
int pawl_metrics_http_main(int fd, const struct pawl_state *state);

#endif
