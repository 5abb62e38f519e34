/*
 * metrics_address.c - where the figures are to be had: from words to a listening socket, and back.
 *
 * Runs in: `pawl serve`.
 */
#include "runtime/metrics_http.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include "shm/error.h"

enum { BACKLOG = 64 };

static int refuse(char *why, const char *what)
{
    snprintf(why, PAWL_METRICS_WHY_BYTES, "%s", what);
    return PAWL_E_INVALID;
}

static bool read_port(const char *text, uint16_t *port_out)
{
    unsigned value = 0;
    if (text[0] == 0 || strlen(text) > 5)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        value = value * 10 + (unsigned)(*text - '0');
    }
    *port_out = (uint16_t)value;
    return value <= UINT16_MAX;
}

int pawl_metrics_address(const char *text, struct sockaddr_storage *address_out, socklen_t *bytes_out,
                         char why[PAWL_METRICS_WHY_BYTES])
{
    char host[PAWL_METRICS_ADDRESS_BYTES] = "127.0.0.1";
    const char *colon = strrchr(text, ':'), *port_text = colon ? colon + 1 : text;
    size_t host_bytes = colon ? (size_t)(colon - text) : 0;
    uint16_t port = 0;
    if (!read_port(port_text, &port))
        return refuse(why, "the port is a number from 0 to 65535");
    if (host_bytes >= sizeof host)
        return refuse(why, "the host is too long");
    bool brackets = host_bytes >= 2 && text[0] == '[' && text[host_bytes - 1] == ']';
    if (host_bytes > 0)
        snprintf(host, sizeof host, "%.*s", (int)host_bytes - 2 * brackets, text + brackets);
    if (strcmp(host, "localhost") == 0)
        strcpy(host, "127.0.0.1");
    memset(address_out, 0, sizeof *address_out);
    struct sockaddr_in *four = (struct sockaddr_in *)address_out;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)address_out;
    if (!brackets && inet_pton(AF_INET, host, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        *bytes_out = sizeof *four;
        return 0;
    }
    if (brackets && inet_pton(AF_INET6, host, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons(port);
        *bytes_out = sizeof *six;
        return 0;
    }
    if (!brackets && strchr(host, ':'))
        return refuse(why, "an IPv6 address stands in brackets: [::1]:9090");
    return refuse(why, "the host is a number (0.0.0.0: every interface) or localhost");
}

int pawl_metrics_http_listen(const char *text, char why[PAWL_METRICS_WHY_BYTES])
{
    struct sockaddr_storage address;
    socklen_t bytes;
    int error = pawl_metrics_address(text, &address, &bytes, why), on = 1;
    if (error)
        return error;
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool good = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0;
    if (good && address.ss_family == AF_INET6) /* [::] is not 0.0.0.0 as well */
        good = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0;
    good = good && bind(fd, (const struct sockaddr *)&address, bytes) == 0 && listen(fd, BACKLOG) == 0;
    if (good)
        return fd;
    error = -errno;
    snprintf(why, PAWL_METRICS_WHY_BYTES, "%s", pawl_error_text(error));
    if (fd >= 0)
        close(fd);
    return error;
}

const char *pawl_metrics_http_url(int fd, char text[PAWL_METRICS_ADDRESS_BYTES + 8])
{
    struct sockaddr_storage address = {0};
    socklen_t bytes = sizeof address;
    char host[INET6_ADDRSTRLEN] = "?";
    const struct sockaddr_in *four = (const struct sockaddr_in *)&address;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&address;
    (void)getsockname(fd, (struct sockaddr *)&address, &bytes);
    if (address.ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof host);
        snprintf(text, PAWL_METRICS_ADDRESS_BYTES + 8, "http://[%s]:%u", host, ntohs(six->sin6_port));
    } else {
        inet_ntop(AF_INET, &four->sin_addr, host, sizeof host);
        snprintf(text, PAWL_METRICS_ADDRESS_BYTES + 8, "http://%s:%u", host, ntohs(four->sin_port));
    }
    return text;
}
