/* The names of the steps and of the variables (s, e, rs, re, h, ck, MixKey, MixHash) are those of the Noise
 * specification, section 5; the pattern is IK of section 7.5:
 *
 *   <- s
 *   -> e, es, s, ss
 *   <- e, ee, se */
#include "common/noise.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define BLAKE2B_BLOCK_SIZE 128

_Static_assert(crypto_aead_aegis256_ABYTES == NOISE_TAG_MAX && crypto_aead_aegis256_KEYBYTES == NOISE_KEY_SIZE,
               "sizes of AEGIS-256");

static const char protocol_name[] = "Noise_IK_25519_ChaChaPoly_BLAKE2b";

void noise_keypair_generate(struct noise_keypair *pair)
{
    randombytes_buf(pair->secret_key, sizeof pair->secret_key);
    (void)crypto_scalarmult_base(pair->public_key, pair->secret_key);
}

static void hash2(uint8_t out[NOISE_HASH_SIZE], const void *a, size_t a_size, const void *b, size_t b_size)
{
    crypto_generichash_blake2b_state state;
    crypto_generichash_blake2b_init(&state, NULL, 0, NOISE_HASH_SIZE);
    crypto_generichash_blake2b_update(&state, a, a_size);
    if (b_size > 0)
        crypto_generichash_blake2b_update(&state, b, b_size);
    crypto_generichash_blake2b_final(&state, out, NOISE_HASH_SIZE);
    sodium_memzero(&state, sizeof state);
}

/* RFC 2104 with BLAKE2b as the hash, as Noise asks: not BLAKE2b's own keyed mode. */
static void hmac(uint8_t out[NOISE_HASH_SIZE], const uint8_t key[NOISE_HASH_SIZE], const uint8_t *data, size_t size)
{
    uint8_t inner[BLAKE2B_BLOCK_SIZE], outer[BLAKE2B_BLOCK_SIZE], digest[NOISE_HASH_SIZE];
    memset(inner, 0x36, sizeof inner);
    memset(outer, 0x5c, sizeof outer);
    for (size_t i = 0; i < NOISE_HASH_SIZE; i++) {
        inner[i] ^= key[i];
        outer[i] ^= key[i];
    }
    hash2(digest, inner, sizeof inner, data, size);
    hash2(out, outer, sizeof outer, digest, sizeof digest);
    sodium_memzero(inner, sizeof inner);
    sodium_memzero(outer, sizeof outer);
    sodium_memzero(digest, sizeof digest);
}

/* HKDF of section 4.3 with two outputs. `one` may be the chaining key itself. */
static void hkdf2(uint8_t one[NOISE_HASH_SIZE], uint8_t two[NOISE_HASH_SIZE], const uint8_t ck[NOISE_HASH_SIZE],
                  const uint8_t *material, size_t size)
{
    uint8_t temp[NOISE_HASH_SIZE], block[NOISE_HASH_SIZE + 1];
    hmac(temp, ck, material, size);
    const uint8_t first = 1;
    hmac(one, temp, &first, 1);
    memcpy(block, one, NOISE_HASH_SIZE);
    block[NOISE_HASH_SIZE] = 2;
    hmac(two, temp, block, sizeof block);
    sodium_memzero(temp, sizeof temp);
    sodium_memzero(block, sizeof block);
}

static void mix_hash(struct noise_handshake *hs, const void *data, size_t size)
{
    hash2(hs->h, hs->h, sizeof hs->h, data, size);
}

static void mix_key(struct noise_handshake *hs, const uint8_t material[NOISE_KEY_SIZE])
{
    uint8_t temp[NOISE_HASH_SIZE];
    hkdf2(hs->ck, temp, hs->ck, material, NOISE_KEY_SIZE);
    memcpy(hs->cipher.key, temp, NOISE_KEY_SIZE);
    hs->cipher.counter = 0;
    sodium_memzero(temp, sizeof temp);
}

static int mix_dh(struct noise_handshake *hs, const uint8_t secret[NOISE_KEY_SIZE], const uint8_t point[NOISE_KEY_SIZE])
{
    uint8_t shared[NOISE_KEY_SIZE];
    int rc = crypto_scalarmult(shared, secret, point) == 0 ? 0 : -EPROTO; /* a low-order point gives zeros */
    if (rc == 0)
        mix_key(hs, shared);
    sodium_memzero(shared, sizeof shared);
    return rc;
}

static void make_nonce(uint8_t nonce[static 12], uint64_t counter)
{
    memset(nonce, 0, 4);
    for (int i = 0; i < 8; i++)
        nonce[4 + i] = (uint8_t)(counter >> 8 * i);
}

static void seal(struct noise_cipher *cipher, uint8_t *out, const uint8_t *in, size_t size, const uint8_t *ad,
                 size_t ad_size)
{
    uint8_t nonce[12];
    make_nonce(nonce, cipher->counter++);
    (void)crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, in, size, ad, ad_size, NULL, nonce, cipher->key);
}

static int unseal(struct noise_cipher *cipher, uint8_t *out, const uint8_t *in, size_t size, const uint8_t *ad,
                  size_t ad_size)
{
    uint8_t nonce[12];
    make_nonce(nonce, cipher->counter);
    if (size < NOISE_TAG_SIZE ||
        crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, in, size, ad, ad_size, nonce, cipher->key) != 0)
        return -EBADMSG;
    cipher->counter++;
    return 0;
}

static void encrypt_and_hash(struct noise_handshake *hs, uint8_t *out, const void *in, size_t size)
{
    seal(&hs->cipher, out, in, size, hs->h, sizeof hs->h);
    mix_hash(hs, out, size + NOISE_TAG_SIZE);
}

/* `size` with the tag. */
static int decrypt_and_hash(struct noise_handshake *hs, uint8_t *out, const uint8_t *in, size_t size)
{
    uint8_t before[NOISE_HASH_SIZE];
    memcpy(before, hs->h, sizeof before);
    mix_hash(hs, in, size); /* before decrypting: `out` may be `in` */
    return unseal(&hs->cipher, out, in, size, before, sizeof before);
}

static void init(struct noise_handshake *hs, const struct noise_keypair *s, const void *prologue, size_t prologue_size)
{
    memset(hs, 0, sizeof *hs);
    hs->s = *s;
    memcpy(hs->h, protocol_name, sizeof protocol_name - 1); /* shorter than the hash: padded with zeros */
    memcpy(hs->ck, hs->h, sizeof hs->ck);
    mix_hash(hs, prologue, prologue_size);
    noise_keypair_generate(&hs->e);
}

void noise_initiator_init(struct noise_handshake *hs, const struct noise_keypair *s,
                          const uint8_t responder[static NOISE_KEY_SIZE], const void *prologue, size_t prologue_size)
{
    init(hs, s, prologue, prologue_size);
    memcpy(hs->rs, responder, sizeof hs->rs);
    mix_hash(hs, hs->rs, sizeof hs->rs);
}

void noise_responder_init(struct noise_handshake *hs, const struct noise_keypair *s, const void *prologue,
                          size_t prologue_size)
{
    init(hs, s, prologue, prologue_size);
    mix_hash(hs, hs->s.public_key, sizeof hs->s.public_key);
}

void noise_handshake_deinit(struct noise_handshake *hs)
{
    sodium_memzero(hs, sizeof *hs);
}

void noise_set_ephemeral(struct noise_handshake *hs, const struct noise_keypair *e)
{
    hs->e = *e;
}

int noise_write_init(struct noise_handshake *hs, uint8_t *message, const void *payload, size_t payload_size)
{
    memcpy(message, hs->e.public_key, NOISE_KEY_SIZE);
    mix_hash(hs, hs->e.public_key, NOISE_KEY_SIZE);
    int rc = mix_dh(hs, hs->e.secret_key, hs->rs); /* es */
    if (rc != 0)
        return rc;
    encrypt_and_hash(hs, message + NOISE_KEY_SIZE, hs->s.public_key, NOISE_KEY_SIZE);
    rc = mix_dh(hs, hs->s.secret_key, hs->rs); /* ss */
    if (rc != 0)
        return rc;
    encrypt_and_hash(hs, message + 2 * NOISE_KEY_SIZE + NOISE_TAG_SIZE, payload, payload_size);
    return 0;
}

int noise_read_init(struct noise_handshake *hs, const uint8_t *message, size_t size, uint8_t *payload)
{
    if (size < NOISE_INIT_SIZE)
        return -EMSGSIZE;
    memcpy(hs->re, message, NOISE_KEY_SIZE);
    mix_hash(hs, hs->re, NOISE_KEY_SIZE);
    int rc = mix_dh(hs, hs->s.secret_key, hs->re); /* es */
    if (rc == 0)
        rc = decrypt_and_hash(hs, hs->rs, message + NOISE_KEY_SIZE, NOISE_KEY_SIZE + NOISE_TAG_SIZE);
    if (rc == 0)
        rc = mix_dh(hs, hs->s.secret_key, hs->rs); /* ss */
    size_t at = 2 * NOISE_KEY_SIZE + NOISE_TAG_SIZE;
    return rc != 0 ? rc : decrypt_and_hash(hs, payload, message + at, size - at);
}

int noise_write_resp(struct noise_handshake *hs, uint8_t *message, const void *payload, size_t payload_size)
{
    memcpy(message, hs->e.public_key, NOISE_KEY_SIZE);
    mix_hash(hs, hs->e.public_key, NOISE_KEY_SIZE);
    int rc = mix_dh(hs, hs->e.secret_key, hs->re); /* ee */
    if (rc == 0)
        rc = mix_dh(hs, hs->e.secret_key, hs->rs); /* se */
    if (rc == 0)
        encrypt_and_hash(hs, message + NOISE_KEY_SIZE, payload, payload_size);
    return rc;
}

int noise_read_resp(struct noise_handshake *hs, const uint8_t *message, size_t size, uint8_t *payload)
{
    if (size < NOISE_RESP_SIZE)
        return -EMSGSIZE;
    memcpy(hs->re, message, NOISE_KEY_SIZE);
    mix_hash(hs, hs->re, NOISE_KEY_SIZE);
    int rc = mix_dh(hs, hs->e.secret_key, hs->re); /* ee */
    if (rc == 0)
        rc = mix_dh(hs, hs->s.secret_key, hs->re); /* se */
    return rc != 0 ? rc : decrypt_and_hash(hs, payload, message + NOISE_KEY_SIZE, size - NOISE_KEY_SIZE);
}

bool noise_has_aegis(void)
{
    return (sodium_runtime_has_aesni() && sodium_runtime_has_avx()) || sodium_runtime_has_armcrypto();
}

void noise_split(const struct noise_handshake *hs, enum noise_aead aead, struct noise_cipher *first,
                 struct noise_cipher *second)
{
    uint8_t one[NOISE_HASH_SIZE], two[NOISE_HASH_SIZE];
    hkdf2(one, two, hs->ck, NULL, 0);
    *first = (struct noise_cipher){.aead = aead};
    *second = (struct noise_cipher){.aead = aead};
    memcpy(first->key, one, NOISE_KEY_SIZE);
    memcpy(second->key, two, NOISE_KEY_SIZE);
    sodium_memzero(one, sizeof one);
    sodium_memzero(two, sizeof two);
}

size_t noise_tag_size(const struct noise_cipher *cipher)
{
    return cipher->aead == NOISE_AEGIS256 ? crypto_aead_aegis256_ABYTES : NOISE_TAG_SIZE;
}

/* The counter is placed as in ChaChaPoly's nonce, behind zeros: it never repeats under a key. */
static void make_aegis_nonce(uint8_t nonce[static crypto_aead_aegis256_NPUBBYTES], uint64_t counter)
{
    memset(nonce, 0, crypto_aead_aegis256_NPUBBYTES);
    make_nonce(nonce + crypto_aead_aegis256_NPUBBYTES - 12, counter);
}

static void seal_aegis(struct noise_cipher *cipher, uint8_t *out, const uint8_t *in, size_t size)
{
    uint8_t nonce[crypto_aead_aegis256_NPUBBYTES];
    make_aegis_nonce(nonce, cipher->counter++);
    (void)crypto_aead_aegis256_encrypt(out, NULL, in, size, NULL, 0, NULL, nonce, cipher->key);
}

static int unseal_aegis(struct noise_cipher *cipher, uint8_t *out, const uint8_t *in, size_t size)
{
    uint8_t nonce[crypto_aead_aegis256_NPUBBYTES];
    make_aegis_nonce(nonce, cipher->counter);
    if (size < crypto_aead_aegis256_ABYTES ||
        crypto_aead_aegis256_decrypt(out, NULL, NULL, in, size, NULL, 0, nonce, cipher->key) != 0)
        return -EBADMSG;
    cipher->counter++;
    return 0;
}

void noise_seal(struct noise_cipher *cipher, uint8_t *out, const uint8_t *in, size_t size)
{
    if (cipher->aead == NOISE_AEGIS256)
        seal_aegis(cipher, out, in, size);
    else
        seal(cipher, out, in, size, NULL, 0);
}

int noise_open(struct noise_cipher *cipher, uint8_t *out, const uint8_t *in, size_t size)
{
    if (cipher->aead == NOISE_AEGIS256)
        return unseal_aegis(cipher, out, in, size);
    return unseal(cipher, out, in, size, NULL, 0);
}

void noise_cipher_deinit(struct noise_cipher *cipher)
{
    sodium_memzero(cipher, sizeof *cipher);
}
