/* RFC 6455 framing for a client: heads of frames out, a bounded parser of the server's frames in. Knows no socket.
 *
 * Frames out are one message each (FIN), masked with the key 0: what is masked is TLS or Noise ciphertext that nobody
 * else can choose, so a random key would cost an XOR per byte and protect nothing. */
#ifndef KTVPN_CLIENT_KUBE_WEBSOCKET_H
#define KTVPN_CLIENT_KUBE_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/compiler.h"

#define WEBSOCKET_HEAD_MAX 14
#define WEBSOCKET_FRAME_MAX (64 * 1024) /* of a server's frame; Kubernetes sends at most 32 KiB + 1 */
#define WEBSOCKET_CONTROL_MAX 125
#define WEBSOCKET_KEY_SIZE 25    /* base64 of 16 bytes, with NUL */
#define WEBSOCKET_ACCEPT_SIZE 29 /* base64 of a SHA-1, with NUL */

enum websocket_opcode {
    WEBSOCKET_CONTINUATION = 0,
    WEBSOCKET_TEXT = 1,
    WEBSOCKET_BINARY = 2,
    WEBSOCKET_CLOSE = 8,
    WEBSOCKET_PING = 9,
    WEBSOCKET_PONG = 10
};

/* A random Sec-WebSocket-Key and the Sec-WebSocket-Accept that answers it (RFC 6455, 4.2.2). */
void websocket_new_key(char key[static WEBSOCKET_KEY_SIZE]);
void websocket_accept_of(char accept[static WEBSOCKET_ACCEPT_SIZE], const char *key);

/* The head of a masked frame of `size` payload bytes. Returns its size. */
size_t websocket_put_head(uint8_t out[static WEBSOCKET_HEAD_MAX], enum websocket_opcode opcode, uint64_t size);

struct websocket_frame {
    enum websocket_opcode opcode;
    bool is_final;          /* of its message: control frames always are */
    size_t head_size, size; /* payload; it follows the head */
};
/* Reads the head of a server's frame at the start of `data`. 1: complete (its payload may not be there yet); 0: more
 * bytes are needed; -EPROTO: masked, reserved bits, unknown opcode, a fragmented control frame, a length that is not
 * minimal, or too large. */
KT_MUST_USE int websocket_get_head(struct websocket_frame *frame, const uint8_t *data, size_t size);

#endif
