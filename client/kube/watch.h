/* What there is of one kind, kept up to date: lists a path, watches it from the list's resourceVersion, and lists again
 * when the watch ends with 410 Gone or breaks, with back-off.
 *
 * Keeps names, not objects: what vanished while nobody watched is told as WATCH_DELETED after the next list. */
#ifndef KTVPN_CLIENT_KUBE_WATCH_H
#define KTVPN_CLIENT_KUBE_WATCH_H

#include "client/kube/api.h"

#define WATCH_OBJECTS_MAX 16384 /* more are told, but their end during an interruption is not */
#define WATCH_BACKOFF_MIN_MS 200
#define WATCH_BACKOFF_MAX_MS 10000
#define WATCH_TIMEOUT_S 300 /* the server ends a watch after this long; the next one starts at once */

struct watch;
enum watch_event { WATCH_ADDED, WATCH_MODIFIED, WATCH_DELETED };

struct watch_ops {
    /* `object` is valid during the callback. After a new list, objects that are known come as MODIFIED, and those that
     * are gone as DELETED with metadata.name and .namespace only. */
    void (*on_object)(void *context, enum watch_event event, const struct cJSON *object);
    /* After each complete list: everything that is there has been told. May be NULL. */
    void (*on_synced)(void *context);
    /* A list or a watch failed; it is tried again until watch_close(), which may be called here. May be NULL. */
    void (*on_error)(void *context, const struct error *error);
};

struct watch_options {
    const char *path; /* "/api/v1/namespaces/ems/services", maybe with "?labelSelector=...": as in struct api_call */
    const char *what; /* "list the Services of namespace ems" */
};

/* Starts. 0 or -ENOMEM. `api` must outlive the watch. */
KT_MUST_USE int watch_open(struct watch **out, struct api *api, const struct watch_options *options,
                           const struct watch_ops *ops, void *context);
/* No callback comes any more. Memory goes later, on the loop. NULL is fine. */
void watch_close(struct watch *watch);

#endif
