/* A reliable byte stream that is being dialled or is open, on the loop: what a carrier's bytes travel on.
 *
 * Kinds: plain TCP (here), port-forward (client/kube/portforward.h). Lives in this room because both ends use it and
 * common knows no loop. Its user sets `context` and the callbacks right after opening it.
 *
 *   DIALLING --on_open--> OPEN --on_failed (once, also from DIALLING)--> FAILED
 *   in any of them: stream_close(), after which only on_closed comes, later; then the memory is gone. */
#ifndef KTVPN_NETSTACK_STREAM_H
#define KTVPN_NETSTACK_STREAM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/address.h"
#include "common/compiler.h"

#define STREAM_READABLE 1
#define STREAM_WRITABLE 2
#define STREAM_TEXT_MAX 512

struct uv_loop_s;
struct stream;

struct stream_ops {
    ssize_t (*read)(struct stream *stream, void *out, size_t size);
    ssize_t (*write)(struct stream *stream, const void *data, size_t size);
    void (*want)(struct stream *stream, int events);
    void (*close)(struct stream *stream);
};

struct stream {
    const struct stream_ops *ops;
    void *context;
    void (*on_open)(struct stream *stream);
    void (*on_ready)(struct stream *stream, int events);
    /* `text`: one line for the user, or ""; `error` a negative errno. */
    void (*on_failed)(struct stream *stream, int error, const char *text);
    void (*on_closed)(struct stream *stream);
};

/* > 0: bytes; 0: the other end closed; -EAGAIN; another negative errno: broken. (No on_failed for what was returned
 * here.) */
static inline ssize_t stream_read(struct stream *stream, void *out, size_t size)
{
    return stream->ops->read(stream, out, size);
}
/* > 0: bytes taken, maybe fewer; -EAGAIN: nothing now, wait for WRITABLE. */
static inline ssize_t stream_write(struct stream *stream, const void *data, size_t size)
{
    return stream->ops->write(stream, data, size);
}
/* Of which events on_ready shall tell, from now on; 0: none. An open stream starts with none. */
static inline void stream_want(struct stream *stream, int events)
{
    stream->ops->want(stream, events);
}
static inline void stream_close(struct stream *stream)
{
    stream->ops->close(stream);
}

/* Plain TCP: dials `to`, or takes over a connected, non-blocking `fd` (which is closed with it). 0, -ENOMEM, or the
 * loop's error; then a given fd is still the caller's. A refused dial is told by on_failed, a given fd is OPEN at once,
 * without on_open. The dial has no time-out of its own but the kernel's. TCP_NODELAY, TCP_NOTSENT_LOWAT are set. */
KT_MUST_USE int stream_dial_tcp(struct stream **out, struct uv_loop_s *loop, const struct address *to, uint16_t port);
/* By this device, whatever the routes say (SO_BINDTODEVICE); NULL or "": as they say. A device that is not there fails
 * the dial. */
KT_MUST_USE int stream_dial_tcp_by(struct stream **out, struct uv_loop_s *loop, const struct address *to, uint16_t port,
                                   const char *device);
KT_MUST_USE int stream_from_fd(struct stream **out, struct uv_loop_s *loop, int fd);

#endif
