#include "client/kube/exec_plugin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/host/privilege.h"
#include "client/kube/child.h"
#include "common/log.h"
#include "common/mem.h"

#define INFO_VARIABLE "KUBERNETES_EXEC_INFO"

struct exec_plugin {
    const struct kubeconfig *config;
    struct child *child;
    exec_plugin_done *done;
    void (*on_closed)(void *context);
    void *context;
};

/* ---- the command line and environment ---- */

static bool is_program(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISREG(about.st_mode) && access(path, X_OK) == 0;
}

/* By PATH, but never from the current directory (Go's exec.ErrDot). Freed by the caller; NULL: none, or no memory. */
static char *find_program(const char *command)
{
    const char *path = getenv("PATH");
    if (strchr(command, '/') != NULL)
        return kt_strdup(command);
    for (const char *at = path != NULL ? path : ""; *at != '\0';) {
        size_t size = strcspn(at, ":");
        char *full = at[0] == '/' ? kt_asprintf("%.*s/%s", (int)size, at, command) : NULL;
        if (full != NULL && is_program(full))
            return full;
        kt_free(full);
        at += size + (at[size] == ':');
    }
    return NULL;
}

/* Is "NAME=value" of our environment set anew? */
static bool is_replaced(const char *entry, const struct kubeconfig_exec *exec)
{
    size_t size = strcspn(entry, "=");
    if (size == sizeof INFO_VARIABLE - 1 && memcmp(entry, INFO_VARIABLE, size) == 0)
        return true;
    for (size_t i = 0; i < exec->env.count; i++) {
        if (strncmp(exec->env.text[i], entry, size) == 0 && exec->env.text[i][size] == '=')
            return true;
    }
    return false;
}

/* An array of pointers into our environment and the kubeconfig's; freed with kt_free(). `info` goes last. */
static char **make_environment(const struct kubeconfig_exec *exec, char *info)
{
    extern char **environ;
    size_t count = 0;
    while (environ[count] != NULL)
        count++;
    char **env = kt_calloc(count + exec->env.count + 2, sizeof *env);
    if (env == NULL)
        return NULL;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (!is_replaced(environ[i], exec))
            env[used++] = environ[i];
    }
    for (size_t i = 0; i < exec->env.count; i++)
        env[used++] = exec->env.text[i];
    env[used] = info;
    return env;
}

static char **make_arguments(const struct kubeconfig_exec *exec)
{
    char **argv = kt_calloc(exec->arguments.count + 2, sizeof *argv);
    if (argv == NULL)
        return NULL;
    argv[0] = exec->command;
    for (size_t i = 0; i < exec->arguments.count; i++)
        argv[i + 1] = exec->arguments.text[i];
    return argv;
}

/* ---- what became of it ---- */

/* Also of a text of the kubeconfig: it may be somebody else's. */
static int set_error(const struct kubeconfig *config, int rc, const char *what, struct error *error)
{
    char command[256], text[512];
    (void)log_escape(command, sizeof command, config->exec->command, strlen(config->exec->command));
    (void)log_escape(text, sizeof text, what, strlen(what));
    return error_set(error, rc == -ENOMEM ? EXIT_CODE_FAILED : EXIT_CODE_UNAUTHORIZED, rc,
                     "the credential plugin %s of user %s %s", command, config->user, text);
}

static int not_started(const struct kubeconfig *config, int rc, struct error *error)
{
    char text[256];
    const char *hint = config->exec->install_hint;
    if (rc != -ENOENT) {
        (void)snprintf(text, sizeof text, "cannot be started: %s", strerror(-rc));
        return set_error(config, rc, text, error);
    }
    (void)set_error(config, rc, "is not installed", error);
    size_t used = strlen(error->text);
    if (hint == NULL || used + 3 >= sizeof error->text)
        return rc;
    char *out = error->text + used;
    (void)snprintf(out, sizeof error->text - used, ": %s", hint);
    for (; *out != '\0'; out++) { /* a hint may have lines; nothing else for a terminal */
        if (((unsigned char)*out < ' ' && *out != '\n') || *out == 0x7f)
            *out = '?';
    }
    return rc;
}

static void describe(char *out, size_t size, const struct child_result *result)
{
    switch (result->end) {
    case CHILD_EXITED:
        (void)snprintf(out, size, "failed with exit code %d", result->number);
        return;
    case CHILD_KILLED:
        (void)snprintf(out, size, "was ended by signal %d", result->number);
        return;
    case CHILD_TOO_LATE:
        (void)snprintf(out, size, "did not answer within %d s", EXEC_PLUGIN_LIMIT_MS / 1000);
        return;
    case CHILD_TOO_LONG:
        (void)snprintf(out, size, "wrote more than %d bytes", EXEC_CREDENTIAL_MAX);
        return;
    }
}

static void on_end(void *context, const struct child_result *result)
{
    struct exec_plugin *plugin = context;
    struct exec_credential credential;
    struct error error;
    char text[128];
    const char *why = text;
    int rc = -EREMOTEIO;
    if (result->end == CHILD_EXITED && result->number == 0)
        rc = exec_credential_parse(&credential, (const char *)result->output, result->size,
                                   plugin->config->exec->api_version, &why);
    else
        describe(text, sizeof text, result);
    if (rc == 0) {
        plugin->done(plugin->context, &credential, NULL);
        return;
    }
    (void)set_error(plugin->config, rc, rc == -ENOMEM ? "could not be understood: no memory" : why, &error);
    plugin->done(plugin->context, NULL, &error);
}

/* ---- life ---- */

/* Whoever calls us by sudo has privileges that are not the plugin's business; they are gone long before this. */
static bool is_user(void)
{
    struct privilege_user user;
    return privilege_find_user(&user) == 0 && user.uid == geteuid() && user.uid == getuid();
}

static int decide_interactive(const struct kubeconfig *config, bool *out, struct error *error)
{
    bool has_terminal = isatty(STDIN_FILENO) == 1;
    *out = has_terminal && config->exec->mode != KUBECONFIG_EXEC_NEVER;
    if (config->exec->mode == KUBECONFIG_EXEC_ALWAYS && !has_terminal)
        return set_error(config, -ENOTTY, "needs a terminal, and standard input is none", error);
    return 0;
}

static int run(struct exec_plugin *plugin, struct uv_loop_s *loop, bool is_interactive, const char *program)
{
    const struct kubeconfig_exec *exec = plugin->config->exec;
    char *question = exec_credential_info(plugin->config, is_interactive);
    char *info = question == NULL ? NULL : kt_asprintf(INFO_VARIABLE "=%s", question);
    char **argv = make_arguments(exec), **env = info == NULL ? NULL : make_environment(exec, info);
    struct child_options options = {.file = program,
                                    .argv = argv,
                                    .env = env,
                                    .is_interactive = is_interactive,
                                    .output_max = EXEC_CREDENTIAL_MAX,
                                    .limit_ms = EXEC_PLUGIN_LIMIT_MS};
    int rc = argv == NULL || env == NULL ? -ENOMEM : child_open(&plugin->child, loop, &options, on_end, plugin);
    kt_free(question);
    kt_free(info);
    kt_free(argv);
    kt_free(env);
    return rc;
}

int exec_plugin_open(struct exec_plugin **out, struct uv_loop_s *loop, const struct kubeconfig *config,
                     exec_plugin_done *done, void *context, struct error *error)
{
    bool is_interactive;
    int rc = decide_interactive(config, &is_interactive, error);
    if (rc != 0)
        return rc;
    if (!is_user())
        return set_error(config, -EPERM, "is not run: ktvpn still has rights that are not the user's", error);
    struct exec_plugin *plugin = kt_calloc(1, sizeof *plugin);
    char *program = find_program(config->exec->command);
    if (plugin != NULL)
        *plugin = (struct exec_plugin){.config = config, .done = done, .context = context};
    rc = plugin == NULL ? -ENOMEM : program == NULL ? -ENOENT : run(plugin, loop, is_interactive, program);
    kt_free(program);
    if (rc == 0) {
        *out = plugin;
        return 0;
    }
    kt_free(plugin);
    return not_started(config, rc, error);
}

static void on_child_closed(void *context)
{
    struct exec_plugin *plugin = context;
    void (*on_closed)(void *context) = plugin->on_closed;
    context = plugin->context;
    kt_free(plugin);
    on_closed(context);
}

void exec_plugin_close(struct exec_plugin *plugin, void (*on_closed)(void *context))
{
    plugin->on_closed = on_closed;
    child_close(plugin->child, on_child_closed);
}
