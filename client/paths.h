/* The paths of one tunnel, in the order of their dials: those that were accepted, the tries of others, and the old ones
 * that only drain. Each is for one slot. Knows which of them the session's link may use; does not decide it. Owns the
 * paths: what is dropped is closed. */
#ifndef KTVPN_CLIENT_PATHS_H
#define KTVPN_CLIENT_PATHS_H

#include "client/path.h"
#include "common/session.h"

#define PATHS_TRIES_MAX 6 /* at once */
#define PATHS_MAX (PATHS_TRIES_MAX + 2)

_Static_assert(PATHS_MAX <= WIRE_CARRIERS_MAX, "tunnel_info has room for each path, and the agent too");

struct paths {
    struct session *session; /* the tunnel's */
    struct path *path[PATHS_MAX];
    size_t count;
};

/* Takes it over. There is room: paths_can_try(). */
void paths_add(struct paths *paths, struct path *path);
bool paths_have(const struct paths *paths, const struct path *path);
/* Paths that were not accepted yet; all, or those of one slot. */
size_t paths_tries(const struct paths *paths);
size_t paths_tries_of(const struct paths *paths, uint8_t slot);
bool paths_can_try(const struct paths *paths);

/* The slot's path that the link uses; a try, or a draining one, whose time is over; NULL. */
struct path *paths_find_used(const struct paths *paths, uint8_t slot);
struct path *paths_find_late(const struct paths *paths, uint64_t now_ms);

/* The link may use it: 0, or the error of session_attach(). Fine when it does already. */
KT_MUST_USE int paths_attach(struct paths *paths, struct path *path);
/* Fine when the link does not use it. */
void paths_detach(struct paths *paths, struct path *path, uint64_t now_ms);

/* Closes it and forgets it. */
void paths_drop(struct paths *paths, struct path *path, uint64_t now_ms);
/* All but `kept`, which may be NULL; with a CLOSE(CARRIER) to the accepted ones. */
void paths_drop_others(struct paths *paths, const struct path *kept, uint64_t now_ms);
/* `winner` answers: the slot is its own. Its rivals are closed; one that the link still used drains until
 * `deadline_ms`.
 */
void paths_win(struct paths *paths, struct path *winner, uint64_t deadline_ms, uint64_t now_ms);
/* Tells the agent which slots' carriers are used; by each of them. */
void paths_tell_use(const struct paths *paths, uint32_t sequence);
/* The session ends: a CLOSE(BYE) to the accepted ones, which stay until it is out; the others are dropped. */
void paths_say_bye(struct paths *paths, uint64_t now_ms);
/* Has everything that was sealed left for the streams? */
bool paths_are_flushed(const struct paths *paths);
/* Writes what the link has put into its carriers. */
void paths_flush(const struct paths *paths);

#endif
