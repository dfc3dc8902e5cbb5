/* Noise against public vectors (cacophony, public domain), and against a hostile peer. */
#include "common/noise.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "tests/unit/unit.h"

#include "tests/data/noise_ik.h"

static size_t unhex(uint8_t *out, size_t size, const char *hex)
{
    size_t n = 0;
    assert_int_equal(sodium_hex2bin(out, size, hex, strlen(hex), NULL, &n, NULL), 0);
    return n;
}

static struct noise_keypair pair_of(const char *secret)
{
    struct noise_keypair pair;
    assert_int_equal(unhex(pair.secret_key, 32, secret), 32);
    crypto_scalarmult_base(pair.public_key, pair.secret_key);
    return pair;
}

static void expect_hex(const uint8_t *data, size_t size, const char *hex)
{
    uint8_t want[512];
    assert_int_equal(unhex(want, sizeof want, hex), size);
    assert_memory_equal(data, want, size);
}

static void check_vector(const struct noise_ik_vector *v)
{
    struct noise_handshake i, r;
    struct noise_keypair is = pair_of(v->init_static), ie = pair_of(v->init_ephemeral);
    struct noise_keypair rs = pair_of(v->resp_static), re = pair_of(v->resp_ephemeral);
    uint8_t prologue[64], payload[256], message[512], opened[256];
    size_t prologue_size = unhex(prologue, sizeof prologue, v->prologue);
    noise_initiator_init(&i, &is, rs.public_key, prologue, prologue_size);
    noise_responder_init(&r, &rs, prologue, prologue_size);
    noise_set_ephemeral(&i, &ie);
    noise_set_ephemeral(&r, &re);

    size_t n = unhex(payload, sizeof payload, v->payload[0]);
    assert_int_equal(noise_write_init(&i, message, payload, n), 0);
    expect_hex(message, n + NOISE_INIT_SIZE, v->ciphertext[0]);
    assert_int_equal(noise_read_init(&r, message, n + NOISE_INIT_SIZE, opened), 0);
    assert_memory_equal(opened, payload, n);
    assert_memory_equal(r.rs, is.public_key, NOISE_KEY_SIZE);

    n = unhex(payload, sizeof payload, v->payload[1]);
    assert_int_equal(noise_write_resp(&r, message, payload, n), 0);
    expect_hex(message, n + NOISE_RESP_SIZE, v->ciphertext[1]);
    assert_int_equal(noise_read_resp(&i, message, n + NOISE_RESP_SIZE, opened), 0);
    expect_hex(i.h, sizeof i.h, v->handshake_hash);
    assert_memory_equal(i.h, r.h, sizeof i.h);

    struct noise_cipher up[2], down[2];
    noise_split(&i, NOISE_CHACHAPOLY, &up[0], &down[0]);
    noise_split(&r, NOISE_CHACHAPOLY, &up[1], &down[1]);
    for (int k = 2; k < v->messages; k++) {
        n = unhex(payload, sizeof payload, v->payload[k]);
        noise_seal(k % 2 == 0 ? &up[0] : &down[1], message, payload, n);
        expect_hex(message, n + NOISE_TAG_SIZE, v->ciphertext[k]);
        assert_int_equal(noise_open(k % 2 == 0 ? &up[1] : &down[0], opened, message, n + NOISE_TAG_SIZE), 0);
    }
}

static void public_vectors_agree(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_ARRAY_LEN(noise_ik_vectors); i++)
        check_vector(&noise_ik_vectors[i]);
}

static void every_flipped_bit_of_init_is_refused(void **state)
{
    (void)state;
    struct noise_keypair is, rs;
    noise_keypair_generate(&is);
    noise_keypair_generate(&rs);
    struct noise_handshake i, r;
    uint8_t message[NOISE_INIT_SIZE], nothing[1];
    noise_initiator_init(&i, &is, rs.public_key, "p", 1);
    assert_int_equal(noise_write_init(&i, message, NULL, 0), 0);
    for (size_t byte = 0; byte < sizeof message; byte++) {
        /* X25519 ignores the top bit of a point, but the hash does not. */
        message[byte] ^= 0x80;
        noise_responder_init(&r, &rs, "p", 1);
        assert_int_not_equal(noise_read_init(&r, message, sizeof message, nothing), 0);
        message[byte] ^= 0x80;
    }
    noise_responder_init(&r, &rs, "p", 1);
    assert_int_equal(noise_read_init(&r, message, sizeof message, nothing), 0);
    noise_responder_init(&r, &rs, "q", 1);
    assert_int_equal(noise_read_init(&r, message, sizeof message, nothing), -EBADMSG);
    assert_int_equal(noise_read_init(&r, message, sizeof message - 1, nothing), -EMSGSIZE);
}

static void low_order_point_is_refused(void **state)
{
    (void)state;
    struct noise_keypair rs;
    noise_keypair_generate(&rs);
    struct noise_handshake r;
    uint8_t message[NOISE_INIT_SIZE] = {0}, nothing[1];
    noise_responder_init(&r, &rs, "", 0);
    assert_int_equal(noise_read_init(&r, message, sizeof message, nothing), -EPROTO);
}

static void expect_in_order_only(enum noise_aead aead)
{
    struct noise_cipher tx = {.aead = aead, .key = {1}}, rx = tx;
    uint8_t one[4 + NOISE_TAG_MAX], two[4 + NOISE_TAG_MAX];
    size_t size = 4 + noise_tag_size(&tx);
    noise_seal(&tx, one, (const uint8_t *)"abcd", 4);
    noise_seal(&tx, two, (const uint8_t *)"abcd", 4);
    assert_memory_not_equal(one, two, size);
    uint8_t out[4];
    assert_int_equal(noise_open(&rx, out, two, size), -EBADMSG);
    assert_int_equal(noise_open(&rx, out, one, size), 0);
    assert_memory_equal(out, "abcd", 4);
    assert_int_equal(noise_open(&rx, out, one, size), -EBADMSG);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        two[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(noise_open(&rx, out, two, size), -EBADMSG);
        two[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(noise_open(&rx, out, two, size), 0);
    assert_int_equal(noise_open(&rx, out, two, 3), -EBADMSG);
}

static void opened_in_order_only(void **state)
{
    (void)state;
    expect_in_order_only(NOISE_CHACHAPOLY);
    expect_in_order_only(NOISE_AEGIS256);
}

static void aegis_nonce_ends_with_the_counter(void **state)
{
    (void)state;
    struct noise_cipher tx = {.aead = NOISE_AEGIS256, .key = {1}, .counter = 0x0102};
    uint8_t ours[3 + NOISE_TAG_MAX], theirs[3 + NOISE_TAG_MAX], nonce[crypto_aead_aegis256_NPUBBYTES] = {0};
    nonce[24] = 2;
    nonce[25] = 1;
    noise_seal(&tx, ours, (const uint8_t *)"abc", 3);
    crypto_aead_aegis256_encrypt(theirs, NULL, (const uint8_t *)"abc", 3, NULL, 0, NULL, nonce, tx.key);
    assert_memory_equal(ours, theirs, sizeof ours);
    assert_true(tx.counter == 0x0103);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(public_vectors_agree),
        cmocka_unit_test(every_flipped_bit_of_init_is_refused),
        cmocka_unit_test(low_order_point_is_refused),
        cmocka_unit_test(opened_in_order_only),
        cmocka_unit_test(aegis_nonce_ends_with_the_counter),
    };
    return unit_run(tests);
}
