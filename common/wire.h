/* The wire protocol between client and agent, and every limit of it, on one page.
 *
 * A carrier is a reliable byte stream. Both sides send, in this order:
 *
 *   agent  -> client   HELLO   magic[6] "KTVPN\n", version u16, features u32, random[32]              44 bytes
 *   client -> agent    INIT    version u16, features u32, Noise_IK message 1 (e, s, empty payload)    6 + 96 bytes
 *   agent  -> client   RESP    Noise_IK message 2 (e, empty payload)                                  48 bytes
 *   both               records, for ever:   size u16, ciphertext[size]        the tag (16, AEGIS-256: 32) + 4 <= size
 * <= 65535
 *
 * All integers are big-endian. The Noise prologue is HELLO || version || features of INIT, so that neither a version
 * nor a feature can be taken away on the way, and a replayed INIT meets another HELLO. A record's plaintext is
 *
 *   type u8, zero u8, zero u16, body
 *
 * and the four bytes of head keep the IP header of a packet aligned. The client's first record is OPEN; the agent
 * answers ACCEPT or REFUSE; before that nothing else is allowed, except ECHO and REKEY.
 *
 * A PACKET's TCP and UDP checksums are not valid on the wire: the AEAD has authenticated the packet. Nobody checks
 * them; who hands a packet to a kernel puts the pseudo-header sum there and says so (VIRTIO_NET_HDR_F_NEEDS_CSUM). IPv4
 * header, ICMP and ICMPv6 checksums are valid, and so is that of a UDP datagram that comes in fragments of IPv6 (of
 * IPv4 it may be 0, "none").
 *
 * Rekey, in band, by the client every WIRE_REKEY_MS: REKEY_INIT (Noise message 1 of a new handshake whose prologue is
 * the running handshake's hash), REKEY_RESP (message 2): the agent sends with the new key from the record after RESP
 * on. REKEY_DONE: the client sends with the new key from the record after DONE on. */
#ifndef KTVPN_COMMON_WIRE_H
#define KTVPN_COMMON_WIRE_H

#include "common/address.h"
#include "common/compiler.h"

#define WIRE_MAGIC "KTVPN\n"
#define WIRE_MAGIC_SIZE 6
#define WIRE_VERSION 1
#define WIRE_RANDOM_SIZE 32
#define WIRE_HELLO_SIZE 44
#define WIRE_INIT_HEAD_SIZE 6

#define WIRE_KEY_SIZE 32 /* X25519, public or secret */
#define WIRE_TAG_SIZE 16 /* Poly1305 */
#define WIRE_TAG_MAX 32  /* AEGIS-256 */
#define WIRE_NOISE_INIT_SIZE (WIRE_KEY_SIZE + WIRE_KEY_SIZE + 2 * WIRE_TAG_SIZE)
#define WIRE_NOISE_RESP_SIZE (WIRE_KEY_SIZE + WIRE_TAG_SIZE)

#define WIRE_SIZE_SIZE 2                                                /* a record's length in front of it */
#define WIRE_RECORD_MAX 65535                                           /* ciphertext with tag: the limit of Noise */
#define WIRE_HEAD_SIZE 4                                                /* of the plaintext */
#define WIRE_BODY_MAX (WIRE_RECORD_MAX - WIRE_TAG_MAX - WIRE_HEAD_SIZE) /* 65499 */
#define WIRE_MTU 65000     /* of TUN and netstack: one packet is one record */
#define WIRE_PACKET_MIN 20 /* an IPv4 header */

/* Time, all in ms. Rekey as WireGuard does (its paper, section 6.1). */
#define WIRE_HANDSHAKE_MS 10000 /* HELLO to ACCEPT, else the carrier is closed */
#define WIRE_REKEY_MS 120000    /* a key this old is replaced by the client */
#define WIRE_REJECT_MS 180000   /* a key this old is no longer used: the carrier is dead */
#define WIRE_REKEY_RECORDS (1ull << 40)
#define WIRE_ECHO_MS 5000  /* the client's liveness echo */
#define WIRE_DEAD_MS 15000 /* no byte for this long: dead. Or WIRE_DEAD_RTTS x RTT if longer */
#define WIRE_DEAD_RTTS 8
#define WIRE_SESSION_MS 180000 /* a session without a carrier is kept this long */
#define WIRE_CARRIER_AGE_MS \
    (50 * 60 * 1000) /* the client replaces a carrier this old: proxies like to cut at an hour */

/* Memory. */
#define WIRE_CARRIERS_MAX 8       /* of one session ... */
#define WIRE_SLOTS_MAX 4          /* ... in use: the others are on their way in or out */
#define WIRE_RX_SIZE (256 * 1024) /* receive buffer of a carrier */
#define WIRE_TX_LOW (64 * 1024)   /* sealed and unsent bytes below which packets are sealed */
#define WIRE_TX_SMALL (24 * 1024) /* of tx, above WIRE_TX_LOW and a record: for small packets */
#define WIRE_TX_RESERVE 1280      /* of tx: only for echoes and rekeys, so that a full carrier stays alive */
#define WIRE_TX_SIZE                                                        \
    (WIRE_TX_LOW + 2 * (WIRE_SIZE_SIZE + WIRE_RECORD_MAX) + WIRE_TX_SMALL + \
     WIRE_TX_RESERVE)                     /* a packet and a control above it */
#define WIRE_QUEUE_SIZE (4 * 1024 * 1024) /* packets that wait in a link, bytes */
#define WIRE_SESSIONS_MAX 256             /* of one agent */

enum wire_type {
    WIRE_PACKET = 1,       /* an IP packet */
    WIRE_ECHO_REQUEST = 2, /* token u64 */
    WIRE_ECHO_REPLY = 3,   /* the same token */
    WIRE_OPEN = 4,         /* struct wire_open */
    WIRE_ACCEPT = 5,       /* struct wire_accept */
    WIRE_REFUSE = 6,       /* struct wire_refuse; the carrier is closed after it */
    WIRE_CLOSE = 7,        /* struct wire_close; the carrier is closed after it */
    WIRE_REKEY_INIT = 8,   /* Noise message 1, 96 bytes */
    WIRE_REKEY_RESP = 9,   /* Noise message 2, 48 bytes */
    WIRE_REKEY_DONE = 10,  /* empty */
    WIRE_DNS_QUERY = 11,   /* id u32, a DNS message: the agent asks the cluster's name server */
    WIRE_DNS_ANSWER = 12,  /* id u32, a DNS message; empty when no server answered */
    WIRE_USE = 13,         /* struct wire_use */
    WIRE_ACK = 14, /* total u64: bytes of records, with their sizes, that were opened so far (common/flight.h) */
};

/* Feature bits of HELLO (what the agent can) and INIT (what the client wants of it). */
#define WIRE_FEATURE_IPV4 (1u << 0)
#define WIRE_FEATURE_IPV6 (1u << 1)
#define WIRE_FEATURE_AEGIS256                                                              \
    (1u << 2) /* records are sealed with AEGIS-256, not ChaChaPoly; the handshake never is \
               */

/* A session has up to WIRE_SLOTS_MAX slots, and a flow belongs to one of them. The newest carrier of a slot takes the
 * place of the one before. The client's wish. A session's addresses follow from its key (session_addresses()); they
 * ride here so that the agent can check that both sides agree. */
#define WIRE_NAME_MAX 64
#define WIRE_RUN_SIZE 8
struct wire_open {
    uint16_t mtu;                 /* largest packet that the client takes, at most WIRE_MTU */
    struct address v4, v6;        /* family ADDRESS_NONE when not wanted */
    uint8_t run[WIRE_RUN_SIZE];   /* drawn by each running client: tells two that have the same key file apart */
    char name[WIRE_NAME_MAX + 1]; /* "user@host", for other users' eyes; printable ASCII */
    uint8_t slot;                 /* below WIRE_SLOTS_MAX */
    bool is_lost;                 /* the slot's carrier before is: what was under way on it is to be sent again */
};

/* The client: which slots' carriers answer. The agent sends on no other; of several that come, by different carriers,
 * the highest sequence (RFC 1982) counts. */
struct wire_use {
    uint32_t sequence;
    uint8_t slots; /* a bit for each; at least one */
};

#define WIRE_SERVERS_MAX 3 /* as in resolv.conf(5) */
#define WIRE_SEARCH_MAX 8
#define WIRE_DOMAIN_MAX 253
enum wire_ability {
    WIRE_CAN_PING_V4 = 1u << 0, /* the pod may open ping sockets */
    WIRE_CAN_PING_V6 = 1u << 1,
    WIRE_CAN_IPV6 = 1u << 2, /* the pod has an IPv6 address */
};
struct wire_accept {
    uint16_t mtu;
    uint32_t abilities;                      /* enum wire_ability */
    uint32_t idle_ms;                        /* the agent leaves when it has no carrier for this long */
    struct address pod;                      /* the agent's own address */
    struct address server[WIRE_SERVERS_MAX]; /* the pod's name servers */
    uint8_t servers;
    char search[WIRE_SEARCH_MAX][WIRE_DOMAIN_MAX + 1]; /* the pod's search list: ems.svc.cluster.local, ... */
    uint8_t searches;
};

#define WIRE_TEXT_MAX 200
enum wire_reason {
    WIRE_REASON_BYE = 1,     /* the user leaves: the session ends now */
    WIRE_REASON_CARRIER = 2, /* only this carrier */
    WIRE_REASON_LEAVING = 3, /* the agent is told to stop */
    WIRE_REASON_ADDRESS = 4, /* another key holds this address: pick a new key */
    WIRE_REASON_FULL = 5,    /* no room for another session or carrier */
    WIRE_REASON_KEY = 6,     /* this key is not on the list of allowed ones */
    WIRE_REASON_VERSION = 7,
    WIRE_REASON_INVALID = 8, /* what came makes no sense */
    WIRE_REASON_TAKEN = 9,   /* a newer client with the same key has taken the session's place */
};
struct wire_refuse {
    uint8_t reason;               /* enum wire_reason; same form for CLOSE */
    char text[WIRE_TEXT_MAX + 1]; /* printable ASCII */
};
#define wire_close wire_refuse

/* Encoders return the body's size, or -EMSGSIZE when `size` is too small; unprintable bytes of a text become "?".
 * Decoders return 0, or -EBADMSG when the body is short, long, or a field is out of its range; they check that text is
 * printable and lists fit. */
KT_MUST_USE int wire_put_open(uint8_t *out, size_t size, const struct wire_open *open);
KT_MUST_USE int wire_get_open(struct wire_open *open, const uint8_t *body, size_t size);
KT_MUST_USE int wire_put_use(uint8_t *out, size_t size, const struct wire_use *use);
KT_MUST_USE int wire_get_use(struct wire_use *use, const uint8_t *body, size_t size);
KT_MUST_USE int wire_put_accept(uint8_t *out, size_t size, const struct wire_accept *accept);
KT_MUST_USE int wire_get_accept(struct wire_accept *accept, const uint8_t *body, size_t size);
KT_MUST_USE int wire_put_refuse(uint8_t *out, size_t size, const struct wire_refuse *refuse);
KT_MUST_USE int wire_get_refuse(struct wire_refuse *refuse, const uint8_t *body, size_t size);

/* HELLO and the head of INIT. get_hello: -EPROTO (no ktvpn agent there) or -EPROTONOSUPPORT (another version). */
struct wire_hello {
    uint16_t version;
    uint32_t features;
    uint8_t random[WIRE_RANDOM_SIZE];
};
void wire_put_hello(uint8_t out[static WIRE_HELLO_SIZE], const struct wire_hello *hello);
KT_MUST_USE int wire_get_hello(struct wire_hello *hello, const uint8_t in[static WIRE_HELLO_SIZE]);

#endif
