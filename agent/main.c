#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

#include "agent/agent.h"
#include "agent/check.h"

#define EXIT_FAILED 1
#define EXIT_USAGE 2

/* Each flow has a socket. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* The client reads this line from the pod's log: it is the first one, and it says that the agent listens. Standard
 * error goes to the same log by another pipe, so nothing but an error that ends the agent is written there before. */
static void print_key(const struct agent *agent)
{
    char text[sodium_base64_ENCODED_LEN(WIRE_KEY_SIZE, sodium_base64_VARIANT_ORIGINAL)];
    (void)sodium_bin2base64(text, sizeof text, agent_key(agent), WIRE_KEY_SIZE, sodium_base64_VARIANT_ORIGINAL);
    (void)printf("ktvpn-agent %s key %s\n", KTVPN_VERSION, text);
    (void)fflush(stdout);
}

static int run(const struct settings *settings)
{
    uv_loop_t loop;
    struct agent *agent = NULL;
    if (uv_loop_init(&loop) != 0)
        return EXIT_FAILED;
    raise_descriptor_limit();
    (void)signal(SIGPIPE, SIG_IGN);
    int rc = agent_open(&agent, &loop, settings);
    if (rc == 0)
        print_key(agent);
    log_open(NULL, NULL, settings->log_level);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&loop);
    return rc == 0 ? 0 : EXIT_FAILED;
}

static int check(const struct settings *settings)
{
    int rc = check_agent(settings);
    if (rc != 0)
        (void)fprintf(stderr, "ktvpn-agent: not well: %s\n", strerror(-rc));
    return rc == 0 ? 0 : EXIT_FAILED;
}

int main(int argc, char **argv)
{
    struct settings settings;
    char error[SETTINGS_ERROR_MAX];
    if (sodium_init() < 0)
        return EXIT_FAILED;
    if (settings_parse(&settings, argc, argv, error) != 0) {
        (void)fprintf(stderr, "ktvpn-agent: %s\n", error);
        return EXIT_USAGE;
    }
    log_open(NULL, NULL, LOG_LEVEL_ERROR);
    switch (settings.action) {
    case SETTINGS_RUN:
        return run(&settings);
    case SETTINGS_CHECK:
        return check(&settings);
    case SETTINGS_VERSION:
        (void)puts("ktvpn-agent " KTVPN_VERSION);
        return 0;
    case SETTINGS_HELP:
        settings_print_help(stdout);
        return 0;
    }
    return EXIT_FAILED;
}
