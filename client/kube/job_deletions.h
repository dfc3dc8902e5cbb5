/* The deletions of the launcher's Jobs that are under way. A deletion outlives the Job's turn: a restart does not wait
 * for it. A Job that may be left behind is named in the log, with the command that removes it.
 *
 * The owner's memory; whoever started one waits until there are none, or gives up. */
#ifndef KTVPN_CLIENT_KUBE_JOB_DELETIONS_H
#define KTVPN_CLIENT_KUBE_JOB_DELETIONS_H

#include <stdbool.h>

#include "client/kube/api.h"

#define JOB_DELETIONS_NAME_MAX 63 /* bytes of a Job's name: a DNS label */

struct job_deletion;

struct job_deletions {
    struct api *api;
    const char *name_space;         /* the owner's */
    void (*on_done)(void *context); /* one of them had its answer, whatever it was; may be the last */
    void *context;
    struct job_deletion *first; /* NULL at the start */
};

/* Deletes the Job and what it owns. Without memory there is only a warning: the Job ends by itself. */
void job_deletions_start(struct job_deletions *deletions, const char *job);
bool job_deletions_are_done(const struct job_deletions *deletions);
/* Does not wait for their answers any more; no on_done follows. */
void job_deletions_give_up(struct job_deletions *deletions);

#endif
