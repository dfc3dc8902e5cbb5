/* ktvpn: the client's program. Here is only the order in which it starts; everything else is a noun of its own.
 *
 * For `up` the privileged helper is forked before anything but the command line is parsed: see client/host/helper.h. */
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include <curl/curl.h>

#include "client/detach.h"
#include "client/host/helper.h"
#include "client/host/privilege.h"
#include "client/key_file.h"
#include "client/options.h"
#include "client/status.h"
#include "client/up.h"
#include "common/log.h"

static int up(const struct options *options, struct error *error)
{
    struct detach detach = {.ready_fd = -1};
    struct helper helper = {.fd = -1};
    int rc = options->is_detached ? detach_start(&detach) : 0;
    if (rc != 0)
        return error_set(error, EXIT_CODE_FAILED, rc, "cannot go to the background");
    rc = helper_start(&helper, error);
    if (rc != 0)
        return rc;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return error_set(error, EXIT_CODE_FAILED, -1, "cannot initialise libcurl");
    rc = up_run(options, &helper, &detach, error);
    curl_global_cleanup();
    return rc;
}

/* With sudo it is the user's key, not root's. */
static int key(const struct options *options, struct error *error)
{
    struct privilege_user user;
    int rc = privilege_find_user(&user);
    if (rc == 0)
        rc = privilege_drop(&user);
    if (rc != 0)
        return error_set(error, EXIT_CODE_MACHINE, rc, "cannot become the user who called sudo: %s", strerror(-rc));
    return key_file_run(options->key_file, stdout, error);
}

static int run(const struct options *options, struct error *error)
{
    switch (options->command) {
    case OPTIONS_UP:
        return up(options, error);
    case OPTIONS_STATUS:
        return status_run(options, stdout, error);
    case OPTIONS_DOWN:
        return down_run(options, stdout, error);
    case OPTIONS_KEY:
        return key(options, error);
    case OPTIONS_VERSION:
        (void)printf("ktvpn %s\n", KTVPN_VERSION);
        return 0;
    case OPTIONS_HELP:
        options_help(stdout, options->topic);
        return 0;
    }
    return error_set(error, EXIT_CODE_FAILED, -1, "no such command");
}

int main(int argc, char **argv)
{
    struct options options;
    struct error error = {.code = EXIT_CODE_FAILED};
    (void)signal(SIGPIPE, SIG_IGN);
    if (sodium_init() < 0) {
        (void)fputs("ktvpn: cannot initialise libsodium\n", stderr);
        return EXIT_CODE_FAILED;
    }
    int rc = options_parse(&options, argc, argv, &error);
    if (rc == 0) {
        log_open(NULL, NULL, options.is_verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING);
        rc = run(&options, &error);
    }
    if (rc == 0)
        return EXIT_CODE_OK;
    (void)fprintf(stderr, "ktvpn: %s\n", error.text);
    return (int)error.code;
}
