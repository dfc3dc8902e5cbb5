#include "client/identity.h"

#include <errno.h>
#include <pwd.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/key_file.h"

#define SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount" /* as Kubernetes mounts it */

static void set_owner(struct identity *identity)
{
    char host[64] = "localhost";
    (void)gethostname(host, sizeof host - 1);
    const struct passwd *user = getpwuid(getuid());
    (void)snprintf(identity->owner, sizeof identity->owner, "%.31s@%.31s", user != NULL ? user->pw_name : "user", host);
}

static int load_config(struct identity *identity, const struct options *options, struct error *error)
{
    struct kubeconfig_choice choice = {.path = options->kubeconfig,
                                       .list = getenv("KUBECONFIG"),
                                       .home = getenv("HOME"),
                                       .context = options->context,
                                       .as = options->as,
                                       .as_uid = options->as_uid,
                                       .as_groups = options->as_group,
                                       .as_groups_count = options->as_groups,
                                       .pod_host = getenv("KUBERNETES_SERVICE_HOST"),
                                       .pod_port = getenv("KUBERNETES_SERVICE_PORT"),
                                       .pod_account = SERVICE_ACCOUNT};
    return options->agent.family != ADDRESS_NONE ? 0 : kubeconfig_load(&identity->config, &choice, error);
}

/* A directly reachable agent knows its clients by their keys; every other session draws one. */
static int load_keys(struct identity *identity, const struct options *options, struct error *error)
{
    char path[KEY_FILE_PATH_MAX];
    struct error ignored;
    bool may_be_missing = options->key_file == NULL;
    if (may_be_missing && (options->agent.family == ADDRESS_NONE || key_file_default(path, &ignored) != 0))
        return 0;
    int rc = key_file_read(&identity->keys, may_be_missing ? path : options->key_file, error);
    identity->has_keys = rc == 0;
    return rc == -ENOENT && may_be_missing ? 0 : rc;
}

/* Whether it is a name, and whether there is such a namespace, the cluster says; here it only must not be cut. */
static int set_name_space(struct identity *identity, const char *wish, struct error *error)
{
    const char *name = wish != NULL ? wish : identity->config != NULL ? identity->config->name_space : "default";
    if (strlen(name) >= sizeof identity->name_space)
        return error_set(error, EXIT_CODE_USAGE, -EINVAL, "the namespace's name is longer than %d characters: '%.100s'",
                         IDENTITY_NAMESPACE_MAX - 1, name);
    (void)snprintf(identity->name_space, sizeof identity->name_space, "%s", name);
    return 0;
}

static int take_name(struct identity *identity, const char *wish, struct error *error)
{
    char name[INSTANCE_NAME_MAX];
    instance_name_of(name, wish != NULL ? wish : identity->config != NULL ? identity->config->context : "agent");
    return instance_acquire(&identity->instance, name, error);
}

int identity_find(struct identity *identity, const struct options *options, struct error *error)
{
    *identity = (struct identity){.instance = {.lock_fd = -1}};
    set_owner(identity);
    int rc = load_keys(identity, options, error);
    if (rc == 0)
        rc = load_config(identity, options, error);
    if (rc == 0)
        rc = set_name_space(identity, options->name_space, error);
    return rc != 0 ? rc : take_name(identity, options->name, error);
}

void identity_forget_keys(struct identity *identity)
{
    sodium_memzero(&identity->keys, sizeof identity->keys);
    identity->has_keys = false;
}

void identity_release(struct identity *identity)
{
    identity_forget_keys(identity);
    instance_release(&identity->instance);
    kubeconfig_free(identity->config);
    identity->config = NULL;
}
