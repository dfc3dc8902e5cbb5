/* An agent for tests, in the test's own loop: listens on loopback, speaks the carrier's protocol, and misbehaves on
 * request. */
#ifndef KTVPN_TESTS_FAKE_AGENT_H
#define KTVPN_TESTS_FAKE_AGENT_H

#include <uv.h>

#include "common/carrier.h"
#include "netstack/pump.h"

#define FAKE_AGENT_CONNECTIONS 64
#define FAKE_AGENT_SEQUENCES 65536

struct fake_agent;

struct fake_connection {
    struct fake_agent *agent;
    int fd; /* while it hangs */
    struct stream *stream;
    struct pump *pump; /* NULL: none, or gone */
    struct carrier carrier;
    bool is_open; /* had its ACCEPT */
    struct wire_open open;
};

struct fake_agent {
    uv_loop_t *loop;
    struct noise_keypair keys;
    uv_poll_t poll;
    int fd; /* -1: does not listen */
    uint16_t port;
    struct fake_connection connection[FAKE_AGENT_CONNECTIONS];
    size_t connections; /* so far */
    size_t accepted;    /* OPENs that were answered */

    /* Misbehaviour. */
    bool is_hanging;      /* new connections get no HELLO */
    bool has_odd_hello;   /* another version */
    bool is_mute_on_open; /* OPEN gets no answer */
    int refuse;           /* enum wire_reason of a REFUSE, 0: ACCEPT */
    unsigned refuse_times;

    /* What came. */
    size_t packets, duplicates, disorders, bad;
    uint32_t last;
    uint8_t seen[FAKE_AGENT_SEQUENCES];
    size_t closes;  /* CLOSE records */
    int last_close; /* enum wire_reason */
    size_t uses;    /* USE records */
    struct wire_use use;
};

/* Listens on 127.0.0.1, on a port that the kernel picks (or on the same again). */
void fake_agent_start(struct fake_agent *agent, uv_loop_t *loop);
/* Does not listen any more; new connections are refused. */
void fake_agent_stop(struct fake_agent *agent);
/* Ends every connection. */
void fake_agent_cut(struct fake_agent *agent);
void fake_agent_cut_one(struct fake_agent *agent, size_t connection);
/* Neither reads nor answers on the connections there are. */
void fake_agent_freeze(struct fake_agent *agent, bool is_frozen);
/* To every open connection. */
void fake_agent_send(struct fake_agent *agent, enum wire_type type, const void *body, size_t size);
void fake_agent_say_close(struct fake_agent *agent, enum wire_reason reason);
/* Connections that are open now. */
size_t fake_agent_live(const struct fake_agent *agent);

/* An IPv4 packet of `size` bytes that carries `sequence`. */
void fake_packet(uint8_t *out, size_t size, const struct address *source, const struct address *target,
                 uint32_t sequence);
uint32_t fake_packet_sequence(const uint8_t *packet);

#endif
