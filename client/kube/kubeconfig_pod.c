#include "client/kube/kubeconfig_pod.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "client/kube/header.h"
#include "common/mem.h"

static char *path_of(const struct kubeconfig_choice *choice, const char *name)
{
    return kt_asprintf("%s/%s", choice->pod_account, name);
}

bool kubeconfig_pod_is_possible(const struct kubeconfig_choice *choice)
{
    struct stat about;
    if (choice->pod_account == NULL || choice->pod_host == NULL || choice->pod_host[0] == '\0' ||
        choice->pod_port == NULL || choice->pod_port[0] == '\0')
        return false;
    char *path = path_of(choice, "token");
    bool is_there = path != NULL && stat(path, &about) == 0 && !S_ISDIR(about.st_mode);
    kt_free(path);
    return is_there;
}

static void cannot_read(struct kubeconfig_load_state *load, const char *path, int rc)
{
    if (rc == -ENOMEM)
        kubeconfig_no_memory(load);
    else if (load->rc == 0)
        load->rc = error_set(load->error, EXIT_CODE_KUBECONFIG, rc == -ENOENT ? rc : -EINVAL,
                             "cannot read the service account's %s: %s", path, strerror(-rc));
}

static void take_token(struct kubeconfig_load_state *load, struct kubeconfig *config)
{
    int rc = config->token_file == NULL ? -ENOMEM : kubeconfig_read_token(&config->token, config->token_file);
    if (rc != 0)
        cannot_read(load, config->token_file, rc);
    else if (!header_is_token(config->token))
        cannot_read(load, config->token_file, -EINVAL);
}

/* Without its CA the machine's are taken, as client-go does it. */
static void take_ca(struct kubeconfig_load_state *load, const struct kubeconfig_choice *choice,
                    struct kubeconfig *config)
{
    char *path = path_of(choice, "ca.crt");
    int rc = path == NULL ? -ENOMEM : kubeconfig_read_file(&config->ca, path);
    if (rc != 0 && rc != -ENOENT)
        cannot_read(load, path, rc);
    kt_free(path);
}

static void take_name_space(struct kubeconfig_load_state *load, const struct kubeconfig_choice *choice,
                            struct kubeconfig *config)
{
    char *path = path_of(choice, "namespace");
    int rc = path == NULL ? -ENOMEM : kubeconfig_read_token(&config->name_space, path);
    kt_free(path);
    if (rc == -ENOMEM)
        kubeconfig_no_memory(load);
    else if (rc != 0)
        config->name_space = kubeconfig_copy(load, "default");
}

void kubeconfig_take_pod(struct kubeconfig_load_state *load, const struct kubeconfig_choice *choice,
                         struct kubeconfig *config)
{
    bool is_v6 = strchr(choice->pod_host, ':') != NULL;
    config->server =
        kt_asprintf("https://%s%s%s:%s", is_v6 ? "[" : "", choice->pod_host, is_v6 ? "]" : "", choice->pod_port);
    if (config->server == NULL)
        kubeconfig_no_memory(load);
    config->context = kubeconfig_copy(load, "in-cluster");
    config->cluster = kubeconfig_copy(load, "in-cluster");
    config->user = kubeconfig_copy(load, "in-cluster");
    config->token_file = path_of(choice, "token");
    take_token(load, config);
    take_ca(load, choice, config);
    take_name_space(load, choice, config);
}
