/* A path: one stream to the agent with its pump and carrier, from the dial to the end.
 *
 *   DIALLING ─► HANDSHAKE ─► OPENING ─► ACCEPTED ─► DRAINING      in any of them: on_failed once, and path_close()
 *     stream      Noise       OPEN is out  packets flow   our CLOSE is out; the agent's last packets still come
 *
 * Decides nothing about other paths: that is the tunnel's. Told by the tunnel's clock. */
#ifndef KTVPN_CLIENT_PATH_H
#define KTVPN_CLIENT_PATH_H

#include "common/carrier.h"
#include "netstack/pump.h"

#define PATH_ANSWER_MS 2000 /* (+ PATH_ANSWER_RTTS x RTT) with bytes out and none in: it is suspected */
#define PATH_ANSWER_RTTS 4
#define PATH_PROBE_MS 1000    /* (+ the same) with bytes out and none in: an echo is asked for */
#define PATH_TICK_MAX_MS 1500 /* a longer gap between two looks was ours (a stopped process), not the network's */

struct path_times {
    uint32_t answer_ms, probe_ms, tick_max_ms;
};
#define PATH_TIMES                                                                              \
    {                                                                                           \
        .answer_ms = PATH_ANSWER_MS, .probe_ms = PATH_PROBE_MS, .tick_max_ms = PATH_TICK_MAX_MS \
    }

enum path_state { PATH_DIALLING, PATH_HANDSHAKE, PATH_OPENING, PATH_ACCEPTED, PATH_DRAINING };

struct path;

/* Each may close any path, this one too. */
struct path_ops {
    void (*on_accept)(void *context, struct path *path, const struct wire_accept *accept);
    /* The agent refused the session, or closes the carrier. It ends by itself soon; close it. */
    void (*on_end)(void *context, struct path *path, const struct wire_refuse *end);
    void (*on_packet)(void *context, uint8_t *packet, size_t size);
    void (*on_batch)(void *context);
    void (*on_room)(void *context, struct path *path);
    void (*on_dns_answer)(void *context, uint32_t id, const uint8_t *message, size_t size);
    /* Once. `text` is one line, or "". `state` is where it was; `carrier` how far the handshake came. */
    void (*on_failed)(void *context, struct path *path, int error, const char *text);
};

struct path {
    enum path_state state;
    struct carrier carrier;           /* valid from HANDSHAKE on */
    uint64_t started_ms, deadline_ms; /* the tunnel's: until ACCEPTED, and while DRAINING */
    bool is_attached;                 /* the tunnel's: the link may use the carrier */
    bool is_renewal;                  /* the tunnel's: it was dialled to replace one that is old, not lost */
    struct stream *stream;
    struct pump *pump;
    const struct noise_keypair *keys; /* of the tunnel */
    uint8_t agent[WIRE_KEY_SIZE];
    struct wire_open open;
    const struct path_ops *ops;
    void *context;
    struct uv_loop_s *loop;
    struct path_times times;
    uint64_t seen_in, seen_out; /* the carrier's counters at the last look */
    uint64_t looked_ms, unanswered_ms;
    bool is_unanswered, is_probed;
};

/* What a path is made from; copied but for `keys`, which must outlive it. */
struct path_options {
    struct uv_loop_s *loop;
    const struct noise_keypair *keys;
    const uint8_t *agent;
    const struct wire_open *open;
    const struct path_times *times;
    const struct path_ops *ops;
    void *context;
};

/* Takes over a stream that is being dialled: closes it also on error. 0 or -ENOMEM. */
KT_MUST_USE int path_open(struct path **out, struct stream *stream, const struct path_options *options,
                          uint64_t now_ms);
/* No callback comes after it; the memory is gone. Bytes that wait in the carrier are lost. */
void path_close(struct path *path);

/* What the OPEN shall say of the slot's carrier before; looked at until OPENING. */
void path_set_lost(struct path *path, bool is_lost);
/* An ACCEPTED one whose work another has taken over: DRAINING until `deadline_ms`. */
void path_drain(struct path *path, uint64_t deadline_ms);
/* Seals CLOSE with this reason (if ACCEPTED) and writes what it can. */
void path_say_close(struct path *path, enum wire_reason reason);
/* Has all that was sealed left for the stream? */
bool path_is_flushed(const struct path *path);
void path_flush(struct path *path);

/* What a REFUSE or CLOSE means, for the user. */
const char *path_end_text(enum wire_reason reason);
/* Is it the session's end, or only this path's? `was_up`: some path was accepted before. */
bool path_end_is_final(enum wire_reason reason, bool was_up);
/* It failed with `error`: did the other side prove that it is not the agent whose key we have? */
bool path_is_stranger(const struct path *path, int error);

enum path_health { PATH_FINE, PATH_SUSPECT };
/* Looks at an ACCEPTED path, at least every tick_max_ms; asks for an echo when its silence gets odd. */
enum path_health path_look(struct path *path, uint64_t now_ms);

#endif
