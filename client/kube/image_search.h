/* Finds an image that can run the agent, by asking the API: the nodes' pause image; where nodes may not be listed or
 * none has one, the image of a pod of the namespace (image_pick decides). */
#ifndef KTVPN_CLIENT_KUBE_IMAGE_SEARCH_H
#define KTVPN_CLIENT_KUBE_IMAGE_SEARCH_H

#include "client/kube/api.h"
#include "client/kube/image_pick.h"

typedef void image_search_done(void *context, const struct error *error);

/* The owner's memory: all but `request`, which is NULL, is set by it, and what is pointed to must outlive the search.
 */
struct image_search {
    struct api *api;
    const char *name_space;
    struct image_pick *pick; /* gets the choice */
    const struct placement *placement;
    image_search_done *done;
    void *context;
    struct api_request *request;
};

/* Ends in done(), whose `error` is NULL when there is a choice. 0 or -ENOMEM. */
KT_MUST_USE int image_search_start(struct image_search *search);
/* Fine when none is under way. */
void image_search_cancel(struct image_search *search);

#endif
