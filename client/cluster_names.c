#include "client/cluster_names.h"

#include <stdio.h>

#include "client/kube/json_path.h"
#include "common/log.h"

static void tell(const struct cluster_names *names, enum names_kind kind, const struct cJSON *object, bool is_there)
{
    const char *name = json_path_text(object, "metadata.name");
    if (*name != '\0')
        names->options.on_name(names->options.context, kind, name, is_there);
}

static void on_service(void *context, enum watch_event event, const struct cJSON *object)
{
    tell(context, NAMES_SERVICE, object, event != WATCH_DELETED);
}

static void on_namespace(void *context, enum watch_event event, const struct cJSON *object)
{
    tell(context, NAMES_NAMESPACE, object, event != WATCH_DELETED);
}

static void on_services_synced(void *context)
{
    struct cluster_names *names = context;
    if (!names->are_known)
        names->options.on_known(names->options.context);
    names->are_known = true;
}

static void on_services_error(void *context, const struct error *error)
{
    log_info("names: %s", error->text); /* the watch goes on by itself */
    on_services_synced(context);
}

static void on_namespaces_error(void *context KT_UNUSED, const struct error *error)
{
    log_info("names: %s", error->text);
}

int cluster_names_open(struct cluster_names *names, struct api *api, const char *name_space,
                       const struct cluster_names_options *options)
{
    static const struct watch_ops services = {
        .on_object = on_service, .on_synced = on_services_synced, .on_error = on_services_error};
    static const struct watch_ops namespaces = {.on_object = on_namespace, .on_error = on_namespaces_error};
    char path[128];
    names->options = *options;
    (void)snprintf(path, sizeof path, "/api/v1/namespaces/%s/services", name_space);
    struct watch_options wish = {.path = path, .what = "list the Services"};
    int rc = watch_open(&names->services, api, &wish, &services, names);
    wish = (struct watch_options){.path = "/api/v1/namespaces", .what = "list the namespaces"};
    if (rc == 0 && options->sees_namespaces)
        rc = watch_open(&names->namespaces, api, &wish, &namespaces, names);
    return rc;
}

void cluster_names_close(struct cluster_names *names)
{
    watch_close(names->services);
    watch_close(names->namespaces);
    names->services = names->namespaces = NULL;
}
