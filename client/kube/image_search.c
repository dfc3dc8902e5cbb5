#include "client/kube/image_search.h"

#include <errno.h>
#include <stdio.h>

#include "client/agent_binary.h"

#define NODES_LIMIT 50 /* of a list: enough to find an image, small enough for a cluster of thousands */
#define PODS_LIMIT 100
#define PATH_SIZE 512

static int ask(struct image_search *search, struct api_call *call)
{
    call->method = "GET";
    call->context = search;
    search->request = api_send(search->api, call);
    return search->request != NULL ? 0 : -ENOMEM;
}

static void on_pods(void *context, const struct api_response *response)
{
    struct image_search *search = context;
    struct error error;
    search->request = NULL;
    if (response->status != 200) {
        search->done(search->context, &response->error);
        return;
    }
    if (image_pick_from_pods(search->pick, response->json, agent_binary_first_arch()) == 0) {
        search->done(search->context, NULL);
        return;
    }
    (void)error_set(&error, EXIT_CODE_AGENT, -ENOENT,
                    "found no image to run the agent in: no node that may be listed has one, and no pod runs in "
                    "namespace %s; give an image of the agent with --agent-image",
                    search->name_space);
    search->done(search->context, &error);
}

static void ask_pods(struct image_search *search)
{
    char path[PATH_SIZE];
    struct error error;
    (void)snprintf(path, sizeof path, "/api/v1/namespaces/%s/pods?fieldSelector=status.phase%%3DRunning&limit=%d",
                   search->name_space, PODS_LIMIT);
    struct api_call call = {.path = path, .what = "list the pods of the namespace", .done = on_pods};
    if (ask(search, &call) == 0)
        return;
    (void)error_set(&error, EXIT_CODE_AGENT, -ENOMEM, "no memory to start the agent");
    search->done(search->context, &error);
}

static bool is_carried(const char *arch)
{
    return agent_binary_find(arch) != NULL;
}

static void on_nodes(void *context, const struct api_response *response)
{
    struct image_search *search = context;
    search->request = NULL;
    if (response->status == 200 &&
        image_pick_from_nodes(search->pick, response->json, search->placement, is_carried) == 0)
        search->done(search->context, NULL);
    else if (response->status == 200 || response->status == 403)
        ask_pods(search);
    else
        search->done(search->context, &response->error);
}

int image_search_start(struct image_search *search)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "/api/v1/nodes?limit=%d", NODES_LIMIT);
    struct api_call call = {.path = path, .what = "list the nodes", .done = on_nodes};
    return ask(search, &call);
}

void image_search_cancel(struct image_search *search)
{
    if (search->request != NULL)
        api_cancel(search->request);
    search->request = NULL;
}
