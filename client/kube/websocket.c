#include "client/kube/websocket.h"

#include <assert.h>
#include <errno.h>
#include <openssl/sha.h>
#include <sodium.h>
#include <string.h>

#include "common/cursor.h"

#define FIN 0x80
#define RESERVED 0x70
#define OPCODE 0x0f
#define MASKED 0x80
#define LENGTH 0x7f
#define LENGTH_16 126 /* the length follows in 2 bytes */
#define LENGTH_64 127 /* ... in 8 bytes */
#define CONTROL 0x08  /* the bit that all opcodes of control frames have */
#define NONCE_SIZE 16
#define MASK_SIZE 4

/* RFC 6455, 1.3. */
static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

void websocket_new_key(char key[static WEBSOCKET_KEY_SIZE])
{
    uint8_t nonce[NONCE_SIZE];
    randombytes_buf(nonce, sizeof nonce);
    (void)sodium_bin2base64(key, WEBSOCKET_KEY_SIZE, nonce, sizeof nonce, sodium_base64_VARIANT_ORIGINAL);
}

void websocket_accept_of(char accept[static WEBSOCKET_ACCEPT_SIZE], const char *key)
{
    uint8_t text[WEBSOCKET_KEY_SIZE + sizeof guid], hash[SHA_DIGEST_LENGTH];
    size_t size = strnlen(key, WEBSOCKET_KEY_SIZE - 1);
    memcpy(text, key, size);
    memcpy(text + size, guid, sizeof guid - 1);
    (void)SHA1(text, size + sizeof guid - 1, hash); /* RFC 6455 asks for it; it protects nothing here */
    (void)sodium_bin2base64(accept, WEBSOCKET_ACCEPT_SIZE, hash, sizeof hash, sodium_base64_VARIANT_ORIGINAL);
}

size_t websocket_put_head(uint8_t out[static WEBSOCKET_HEAD_MAX], enum websocket_opcode opcode, uint64_t size)
{
    struct cursor cursor = cursor_writer(out, WEBSOCKET_HEAD_MAX);
    cursor_put_u8(&cursor, (uint8_t)(FIN | opcode));
    if (size < LENGTH_16) {
        cursor_put_u8(&cursor, (uint8_t)(MASKED | size));
    } else if (size <= UINT16_MAX) {
        cursor_put_u8(&cursor, MASKED | LENGTH_16);
        cursor_put_u16(&cursor, (uint16_t)size);
    } else {
        cursor_put_u8(&cursor, MASKED | LENGTH_64);
        cursor_put_u64(&cursor, size);
    }
    cursor_put_u32(&cursor, 0); /* the key: see websocket.h */
    assert(cursor_ok(&cursor));
    return cursor.at;
}

static bool is_known(unsigned opcode)
{
    return opcode <= WEBSOCKET_BINARY || (opcode >= WEBSOCKET_CLOSE && opcode <= WEBSOCKET_PONG);
}

/* RFC 6455, 5.2: "the minimal number of bytes MUST be used to encode the length". */
static bool is_length_fine(uint8_t first, uint64_t size, unsigned opcode)
{
    if ((opcode & CONTROL) != 0)
        return first < LENGTH_16;
    if (first == LENGTH_16)
        return size >= LENGTH_16;
    if (first == LENGTH_64)
        return size > UINT16_MAX && size <= WEBSOCKET_FRAME_MAX;
    return true;
}

int websocket_get_head(struct websocket_frame *frame, const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct cursor cursor = cursor_reader(data, size);
    uint8_t first = cursor_u8(&cursor);
    unsigned opcode = first & OPCODE;
    bool is_final = (first & FIN) != 0;
    if ((first & RESERVED) != 0 || !is_known(opcode) || (!is_final && (opcode & CONTROL) != 0))
        return -EPROTO;
    uint8_t length = cursor_u8(&cursor);
    if ((length & MASKED) != 0) /* 5.1: a server never masks */
        return -EPROTO;
    if ((opcode & CONTROL) != 0 && length > WEBSOCKET_CONTROL_MAX)
        return -EPROTO;
    uint64_t payload = length;
    if (length == LENGTH_16)
        payload = cursor_u16(&cursor);
    else if (length == LENGTH_64)
        payload = cursor_u64(&cursor);
    if (!cursor_ok(&cursor))
        return 0;
    if (!is_length_fine(length, payload, opcode))
        return -EPROTO;
    *frame = (struct websocket_frame){(enum websocket_opcode)opcode, is_final, cursor.at, (size_t)payload};
    return 1;
}
