/* DNS messages for tests, and a client of a name server on 127.0.0.1 with plain sockets that never block: the test
 * turns the loop. */
#ifndef KTVPN_TESTS_FAKE_DNS_WIRE_H
#define KTVPN_TESTS_FAKE_DNS_WIRE_H

#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "common/dns.h"

#define WIRE_TURNS_MAX 20000

/* The answer to `query`: its question, `rcode`, and an A record of 192.0.2.`last` when that is not 0. Returns its size.
 */
KT_UNUSED static size_t wire_answer(uint8_t *out, const uint8_t *query, size_t size, int rcode, uint8_t last)
{
    struct dns_question question;
    assert_int_equal(dns_parse_query(&question, query, size), 0);
    memcpy(out, query, question.end);
    out[2] |= 0x80;
    out[3] = (uint8_t)(0x80 | rcode);
    memset(out + 6, 0, 6);
    if (last == 0)
        return question.end;
    const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 192, 0, 2, last};
    out[7] = 1;
    memcpy(out + question.end, record, sizeof record);
    return question.end + sizeof record;
}

KT_UNUSED static int wire_socket(int type, uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* Turns the loop until a datagram, or `size` bytes of a stream, are there; 0 at the stream's end. */
KT_UNUSED static size_t wire_receive(uv_loop_t *loop, int fd, uint8_t *out, size_t size, bool is_stream)
{
    size_t have = 0;
    for (int turn = 0; turn < WIRE_TURNS_MAX; turn++) {
        ssize_t got = recv(fd, out + have, size - have, MSG_DONTWAIT);
        if (got > 0)
            have += (size_t)got;
        if (got >= 0 && (!is_stream || got == 0 || have == size))
            return have;
        if (got < 0 && errno == ECONNRESET)
            return 0;
        (void)uv_run(loop, UV_RUN_NOWAIT);
        if (got < 0)
            (void)usleep(200);
    }
    fail_msg("nothing came");
    return 0;
}

KT_UNUSED static void wire_send_tcp(int fd, const uint8_t *message, size_t size)
{
    uint8_t prefix[2] = {(uint8_t)(size >> 8), (uint8_t)size};
    assert_int_equal(send(fd, prefix, 2, MSG_NOSIGNAL), 2);
    assert_int_equal(send(fd, message, size, MSG_NOSIGNAL), (ssize_t)size);
}

/* One message; 0: the connection has ended. */
KT_UNUSED static size_t wire_receive_tcp(uv_loop_t *loop, int fd, uint8_t *out)
{
    uint8_t prefix[2];
    if (wire_receive(loop, fd, prefix, 2, true) != 2)
        return 0;
    size_t size = (size_t)prefix[0] << 8 | prefix[1];
    return wire_receive(loop, fd, out, size, true);
}

#endif
