/* Any bytes as a YAML tree, whole and as a kubeconfig. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/kube/kubeconfig.h"
#include "client/kube/yaml_tree.h"
#include "common/log.h"

static void to_nowhere(void *context, enum log_level level, const char *line)
{
    (void)context;
    (void)level;
    (void)line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    struct yaml_node *root;
    struct yaml_problem problem;
    log_open(to_nowhere, NULL, LOG_LEVEL_ERROR);
    if (yaml_tree_parse(&root, data, size, &problem) != 0)
        return 0;
    yaml_tree_free(root);
    if (fd < 0)
        fd = memfd_create("kubeconfig", MFD_CLOEXEC);
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    struct kubeconfig *config;
    struct error error;
    const struct kubeconfig_choice choice = {.path = path};
    if (kubeconfig_load(&config, &choice, &error) == 0)
        kubeconfig_free(config);
    return 0;
}
