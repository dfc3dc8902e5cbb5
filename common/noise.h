/* Noise_IK_25519_ChaChaPoly_BLAKE2b (noiseprotocol.org, revision 34) with libsodium; the transport's messages may use
 * AEGIS-256 (draft-irtf-cfrg-aegis-aead) instead, which takes a seventh of the time where the CPU has AES. Who uses
 * it must have agreed on that in the prologue, so that the keys are bound to the choice.
 *
 * Holds secrets: every deinit wipes them. Never logs. Knows nothing of carriers or records. */
#ifndef KTVPN_COMMON_NOISE_H
#define KTVPN_COMMON_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/compiler.h"

#define NOISE_KEY_SIZE 32
#define NOISE_HASH_SIZE 64 /* BLAKE2b */
#define NOISE_TAG_SIZE 16  /* of the handshake, and of ChaChaPoly */
#define NOISE_TAG_MAX 32   /* AEGIS-256's, in libsodium */
#define NOISE_INIT_SIZE 96 /* message 1 with an empty payload: e, encrypted s, tag of the payload */
#define NOISE_RESP_SIZE 48 /* message 2 with an empty payload: e, tag of the payload */

struct noise_keypair {
    uint8_t public_key[NOISE_KEY_SIZE];
    uint8_t secret_key[NOISE_KEY_SIZE];
};

enum noise_aead { NOISE_CHACHAPOLY, NOISE_AEGIS256 };

/* One direction's key and the count of messages sealed or opened with it. */
struct noise_cipher {
    enum noise_aead aead;
    uint8_t key[NOISE_KEY_SIZE];
    uint64_t counter;
};

struct noise_handshake {
    struct noise_keypair s, e;
    uint8_t rs[NOISE_KEY_SIZE], re[NOISE_KEY_SIZE];
    uint8_t h[NOISE_HASH_SIZE], ck[NOISE_HASH_SIZE];
    struct noise_cipher cipher;
};

void noise_keypair_generate(struct noise_keypair *pair);

void noise_initiator_init(struct noise_handshake *handshake, const struct noise_keypair *s,
                          const uint8_t responder[static NOISE_KEY_SIZE], const void *prologue, size_t prologue_size);
void noise_responder_init(struct noise_handshake *handshake, const struct noise_keypair *s, const void *prologue,
                          size_t prologue_size);
void noise_handshake_deinit(struct noise_handshake *handshake);

/* Tests: the ephemeral key that the next write uses instead of a random one. */
void noise_set_ephemeral(struct noise_handshake *handshake, const struct noise_keypair *e);

/* Each writes or reads one message whose payload is `payload_size` bytes (0 in ktvpn; vectors have more); the message
 * is NOISE_INIT_SIZE or NOISE_RESP_SIZE longer. Errors: -EBADMSG (a tag does not fit), -EPROTO (a low-order point: the
 * handshake is of no further use), -EMSGSIZE (message too short). After read_init, handshake->rs is the peer. */
KT_MUST_USE int noise_write_init(struct noise_handshake *handshake, uint8_t *message, const void *payload,
                                 size_t payload_size);
KT_MUST_USE int noise_read_init(struct noise_handshake *handshake, const uint8_t *message, size_t size,
                                uint8_t *payload);
KT_MUST_USE int noise_write_resp(struct noise_handshake *handshake, uint8_t *message, const void *payload,
                                 size_t payload_size);
KT_MUST_USE int noise_read_resp(struct noise_handshake *handshake, const uint8_t *message, size_t size,
                                uint8_t *payload);

/* Is AEGIS-256 fast here: does the CPU have AES? */
bool noise_has_aegis(void);

/* The keys of the transport: `first` is initiator to responder. */
void noise_split(const struct noise_handshake *handshake, enum noise_aead aead, struct noise_cipher *first,
                 struct noise_cipher *second);

size_t noise_tag_size(const struct noise_cipher *cipher);

/* `out` has size + noise_tag_size() bytes; out == in is fine. The counter grows by one. */
void noise_seal(struct noise_cipher *cipher, uint8_t *out, const uint8_t *in, size_t size);
/* `size` is the ciphertext with its tag; `out` (may be == in) gets size - noise_tag_size() bytes. -EBADMSG leaves the
 * counter as it was. */
KT_MUST_USE int noise_open(struct noise_cipher *cipher, uint8_t *out, const uint8_t *in, size_t size);
void noise_cipher_deinit(struct noise_cipher *cipher);

#endif
