/* An API server for tests of the port-forward, in the test's own loop: one port, plain or TLS, that answers an upgrade
 * with what the test says, byte for byte and in pieces of any size, then echoes data messages, floods, or falls silent.
 */
#ifndef KTVPN_TESTS_FAKE_API_SERVER_H
#define KTVPN_TESTS_FAKE_API_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define FAKE_API_IN_SIZE (4 * 1024 * 1024)
#define FAKE_API_OUT_SIZE (4 * 1024 * 1024)
#define FAKE_API_GOOD                                                                   \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
    "Sec-WebSocket-Accept: @ACCEPT@\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
#define FAKE_API_PORTS "\x82\x03\x00\x90\x1f\x82\x03\x01\x90\x1f" /* 8080 */

struct fake_api_tls;

struct fake_api_server {
    uv_loop_t *loop;
    uv_poll_t listener, poll; /* poll: of the one connection */
    int fd, connection;       /* -1: none */
    uint16_t port;
    struct fake_api_tls *tls; /* NULL: plain */
    size_t connections;

    /* What it does. */
    const char *answer; /* "@ACCEPT@" is replaced; then `answer_more`, raw */
    const void *answer_more;
    size_t answer_more_size;
    size_t piece;    /* bytes a turn; 0: all */
    bool ends;       /* closes after the answer */
    bool echoes;     /* data messages come back, in messages of up to 32 KiB */
    bool is_deaf;    /* reads nothing after the request */
    bool keeps_open; /* a Close frame is not answered by closing */

    /* What came. */
    char request[16 * 1024];
    size_t request_size;
    bool has_request, is_gone, has_close, has_broken_frame;
    size_t pongs, frames, data_size;
    int close_code;
    uint8_t *data, *in, *out; /* payload of the data channel; frames not taken apart yet; bytes to send */
    size_t in_size, out_start, out_end;
};

/* Listens on 127.0.0.1, on a port that the kernel picks. */
void fake_api_server_start(struct fake_api_server *server, uv_loop_t *loop, bool is_tls);
void fake_api_server_stop(struct fake_api_server *server);
/* Raw bytes, behind what waits. */
void fake_api_server_send(struct fake_api_server *server, const void *data, size_t size);
void fake_api_server_send_message(struct fake_api_server *server, uint8_t channel, const void *data, size_t size);
void fake_api_server_listen_again(struct fake_api_server *server); /* after is_deaf was taken away */
void fake_api_server_end(struct fake_api_server *server);          /* of the connection */
/* The certificate of the TLS server, PEM; it signs itself, for 127.0.0.1. */
const char *fake_api_server_certificate(const struct fake_api_server *server);

#endif
