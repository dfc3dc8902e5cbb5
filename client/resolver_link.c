/* What systemd-resolved is told of ktvpn0:
 *
 *   server          an address of ours behind the device, where client/names answers
 *   default route   no: it is asked for nothing else
 *   domains         the pod's search list (ems.svc.cluster.local, svc.cluster.local, cluster.local): these names come
 *                   here, and short ones are tried with them; ~svc, ~ems and the reverse zones of the ranges: names
 *                   below them come here
 *
 * Without one, a short name of several labels ("web.other") is found by who reads systemd-resolved's resolv.conf, as
 * glibc does, and not by nss-resolve: systemd-resolved appends search domains to single labels only. */
#include "client/resolver_link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "common/log.h"
#include "common/mem.h"

struct resolver_link {
    uv_poll_t poll;
    struct resolved *resolved;
    struct resolved_request request;
    unsigned waiting;                           /* results that are still to come */
    void (*on_done)(void *context, int result); /* NULL: called */
    void *context;
};

static void done(struct resolver_link *link, int result)
{
    void (*on_done)(void *, int) = link->on_done;
    link->on_done = NULL;
    if (result != 0)
        log_warning("systemd-resolved: cannot set the name server of %s: %s", link->request.device, strerror(-result));
    else
        log_debug("systemd-resolved: %s has its name server and %u domains", link->request.device,
                  link->request.domains);
    if (on_done != NULL)
        on_done(link->context, result);
}

static void take_result(struct resolver_link *link)
{
    int result = resolved_result(link->resolved);
    if (result == -EAGAIN)
        return;
    if (result == -EPIPE || --link->waiting == 0)
        (void)uv_poll_stop(&link->poll);
    done(link, result);
}

static void on_poll(uv_poll_t *poll, int status KT_UNUSED, int events KT_UNUSED)
{
    take_result(poll->data);
}

static int send_request(struct resolver_link *link)
{
    int rc = resolved_set(link->resolved, &link->request);
    if (rc == 0 && link->waiting++ == 0)
        rc = uv_poll_start(&link->poll, UV_READABLE, on_poll);
    return rc;
}

void resolver_link_refresh(struct resolver_link *link)
{
    int rc = link->waiting == 0 ? send_request(link) : 0;
    if (rc != 0)
        log_debug("systemd-resolved: %s", strerror(-rc));
}

static void make_request(struct resolved_request *request, const struct resolver_link_options *options)
{
    char domain[2 * RESOLVED_DOMAIN_MAX];
    (void)snprintf(request->device, sizeof request->device, "%s", options->device);
    request->server = options->server;
    (void)snprintf(domain, sizeof domain, "%s.svc.%s", options->name_space, options->cluster_domain);
    resolved_request_add(request, "", domain);
    (void)snprintf(domain, sizeof domain, "svc.%s", options->cluster_domain);
    resolved_request_add(request, "", domain);
    resolved_request_add(request, "", options->cluster_domain);
    resolved_request_add(request, "~", "svc");
    resolved_request_add(request, "~", options->name_space);
    for (size_t i = 0; i < options->ranges->count; i++)
        resolved_request_add_reverse(request, &options->ranges->range[i]);
}

static void on_closed(uv_handle_t *handle)
{
    kt_free(handle->data);
}

int resolver_link_open(struct resolver_link **out, struct uv_loop_s *loop, struct resolved *resolved,
                       const struct resolver_link_options *options, void (*on_done)(void *context, int result),
                       void *context)
{
    if (resolved->pid <= 0)
        return -EPERM;
    struct resolver_link *link = kt_calloc(1, sizeof *link);
    if (link == NULL)
        return -ENOMEM;
    link->resolved = resolved;
    link->on_done = on_done;
    link->context = context;
    make_request(&link->request, options);
    int rc = uv_poll_init(loop, &link->poll, resolved->fd);
    if (rc != 0) {
        kt_free(link);
        return rc;
    }
    link->poll.data = link;
    rc = send_request(link);
    if (rc != 0)
        resolver_link_close(link);
    else
        *out = link;
    return rc;
}

void resolver_link_close(struct resolver_link *link)
{
    if (link != NULL)
        uv_close((uv_handle_t *)&link->poll, on_closed);
}
