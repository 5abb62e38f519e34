/*
 * runtime_metrics_address.c - where the figures may be had, as people write it.
 */
#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "runtime/metrics_http.h"
#include "shm/error.h"

static struct sockaddr_storage address;
static socklen_t bytes;
static char why[PAWL_METRICS_WHY_BYTES];

static void expect_four(const char *text, const char *host, unsigned port)
{
    const struct sockaddr_in *four = (const struct sockaddr_in *)&address;
    char found[INET_ADDRSTRLEN];
    cr_assert(eq(int, pawl_metrics_address(text, &address, &bytes, why), 0), "%s: %s", text, why);
    cr_assert(eq(int, address.ss_family, AF_INET), "%s", text);
    inet_ntop(AF_INET, &four->sin_addr, found, sizeof found);
    cr_expect(eq(str, found, (char *)(uintptr_t)host), "%s", text);
    cr_expect(eq(uint, ntohs(four->sin_port), port), "%s", text);
}

Test(metrics_address, without_a_host_it_is_loopback)
{
    expect_four("9187", "127.0.0.1", 9187);
    expect_four(":9187", "127.0.0.1", 9187);
    expect_four("localhost:9187", "127.0.0.1", 9187);
    expect_four("0", "127.0.0.1", 0);
    expect_four("65535", "127.0.0.1", 65535);
}

Test(metrics_address, another_address_is_taken_when_it_is_named)
{
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&address;
    expect_four("0.0.0.0:80", "0.0.0.0", 80);
    expect_four("10.1.2.3:80", "10.1.2.3", 80);
    cr_assert(eq(int, pawl_metrics_address("[::1]:81", &address, &bytes, why), 0));
    cr_assert(eq(int, address.ss_family, AF_INET6));
    cr_expect(eq(int, memcmp(&six->sin6_addr, &in6addr_loopback, sizeof in6addr_loopback), 0));
    cr_expect(eq(uint, ntohs(six->sin6_port), 81));
}

Test(metrics_address, what_may_lead_anywhere_or_nowhere_is_refused)
{
    static const char *const bad[] = {"",         ":",          "65536",          ":-1",
                                      "+1",       "1x",         "host:80",        "*:80",
                                      "::1:80",   "[::1]",      "[127.0.0.1]:80", "127.0.0.1",
                                      "1.2.3:80", "127.0.0.1:", "[]:80",          "http://127.0.0.1:80",
                                      "999999"};
    char longest[300];
    memset(longest, 'a', sizeof longest);
    strcpy(longest + 290, ":80");
    cr_expect(eq(int, pawl_metrics_address(longest, &address, &bytes, why), PAWL_E_INVALID));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        why[0] = 0;
        cr_expect(eq(int, pawl_metrics_address(bad[i], &address, &bytes, why), PAWL_E_INVALID), "'%s'",
                  bad[i]);
        cr_expect(ge(sz, strlen(why), 1), "'%s'", bad[i]);
    }
}

Test(metrics_address, a_socket_says_where_it_listens)
{
    char url[PAWL_METRICS_ADDRESS_BYTES + 8];
    int fd = pawl_metrics_http_listen("0", why);
    cr_assert(ge(int, fd, 0));
    cr_expect(eq(int, strncmp(pawl_metrics_http_url(fd, url), "http://127.0.0.1:", 17), 0));
    cr_expect(ne(str, url + 17, "0"));
    /* A second one there is refused. */
    cr_expect(lt(int, pawl_metrics_http_listen(url + 7, why), 0));
    cr_expect(ge(sz, strlen(why), 1));
    close(fd);
}
