/* Moves bytes between one carrier and one open stream, on the loop: the same at both ends of the tunnel.
 *
 * Reads until the stream is dry, but at most PUMP_READ_MAX a turn; writes what the carrier has sealed, and waits for
 * WRITABLE only when the stream is full. Ticks the carrier. Does not own the stream or the carrier. */
#ifndef KTVPN_NETSTACK_PUMP_H
#define KTVPN_NETSTACK_PUMP_H

#include "common/carrier.h"
#include "netstack/stream.h"

#define PUMP_READ_MAX (1024 * 1024)
#define PUMP_TICK_MS 500

struct pump;

struct pump_ops {
    /* A record for the owner. Returning non-zero makes the pump stop: on_dead with that error. */
    int (*on_record)(void *context, const struct carrier_record *record);
    void (*on_batch)(void *context); /* after the records of one turn, before what they caused is written */
    void (*on_open)(void *context);  /* the handshake is done */
    void (*on_room)(void *context);  /* carrier_has_room() became true again after it was false */
    /* Once; nothing comes after it. The owner calls pump_close() and deinits the carrier. `text`: why, for people. */
    void (*on_dead)(void *context, int error, const char *text);
};

/* `stream` must be open (on_open came) and its callbacks become the pump's. 0, -ENOMEM or the loop's error. */
KT_MUST_USE int pump_open(struct pump **out, struct uv_loop_s *loop, struct stream *stream, struct carrier *carrier,
                          const struct pump_ops *ops, void *context);
/* Writes what the carrier has sealed: call after every batch of carrier_seal(). Never calls back inside. */
void pump_flush(struct pump *pump);
/* Stops reading (back-pressure); echo replies wait too, so not for long. */
void pump_pause(struct pump *pump, bool is_paused);
/* No callback comes after it; memory goes later, on the loop. Closes the stream too (its on_closed is the pump's
 * business). */
void pump_close(struct pump *pump);

#endif
