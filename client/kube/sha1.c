#include "client/kube/sha1.h"

#include <assert.h>
#include <string.h>

#include "common/cursor.h"

#define BLOCK 64
#define ROUNDS 80

static uint32_t rotate(uint32_t x, unsigned bits)
{
    return x << bits | x >> (32 - bits);
}

struct word_state {
    uint32_t a, b, c, d, e;
};

/* FIPS 180-4, 4.1.1 and 4.2.1: the function and the constant of round t. */
static uint32_t mix(const struct word_state *s, int t)
{
    if (t < 20)
        return ((s->b & s->c) | (~s->b & s->d)) + 0x5a827999;
    if (t < 40)
        return (s->b ^ s->c ^ s->d) + 0x6ed9eba1;
    if (t < 60)
        return ((s->b & s->c) | (s->b & s->d) | (s->c & s->d)) + 0x8f1bbcdc;
    return (s->b ^ s->c ^ s->d) + 0xca62c1d6;
}

static void add_block(struct word_state *hash, const uint8_t block[static BLOCK])
{
    uint32_t w[ROUNDS];
    struct cursor cursor = cursor_reader(block, BLOCK);
    for (int t = 0; t < 16; t++)
        w[t] = cursor_u32(&cursor);
    for (int t = 16; t < ROUNDS; t++)
        w[t] = rotate(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    struct word_state s = *hash;
    for (int t = 0; t < ROUNDS; t++) {
        uint32_t next = rotate(s.a, 5) + mix(&s, t) + s.e + w[t];
        s = (struct word_state){.a = next, .b = s.a, .c = rotate(s.b, 30), .d = s.c, .e = s.d};
    }
    hash->a += s.a;
    hash->b += s.b;
    hash->c += s.c;
    hash->d += s.d;
    hash->e += s.e;
}

void sha1(uint8_t out[static SHA1_SIZE], const void *data, size_t size)
{
    assert(size <= SHA1_INPUT_MAX);
    uint8_t padded[2 * BLOCK] = {0};
    memcpy(padded, data, size);
    padded[size] = 0x80;
    size_t blocks = size + 9 <= BLOCK ? 1 : 2;
    struct cursor cursor = cursor_writer(padded, sizeof padded);
    cursor_seek(&cursor, blocks * BLOCK - 8);
    cursor_put_u64(&cursor, size * 8);

    struct word_state hash = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    for (size_t i = 0; i < blocks; i++)
        add_block(&hash, padded + i * BLOCK);
    cursor = cursor_writer(out, SHA1_SIZE);
    cursor_put_u32(&cursor, hash.a);
    cursor_put_u32(&cursor, hash.b);
    cursor_put_u32(&cursor, hash.c);
    cursor_put_u32(&cursor, hash.d);
    cursor_put_u32(&cursor, hash.e);
}
