/* The agent's settings, from its command line. */
#ifndef KTVPN_AGENT_SETTINGS_H
#define KTVPN_AGENT_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/address.h"
#include "common/log.h"
#include "common/wire.h"

#define SETTINGS_PORT 4789
#define SETTINGS_LISTENS_MAX 8
#define SETTINGS_KEYS_MAX 64
#define SETTINGS_IDLE_FIRST_MS 30000
#define SETTINGS_IDLE_MS 300000
#define SETTINGS_IDLE_LIMIT_MS (366ull * 24 * 3600 * 1000)
#define SETTINGS_ERROR_MAX 256
#define SETTINGS_RESOLV_CONF "/etc/resolv.conf"

enum settings_action { SETTINGS_RUN, SETTINGS_CHECK, SETTINGS_VERSION, SETTINGS_HELP };

struct settings_listen {
    struct address address;
    uint16_t port;
    bool is_default; /* not asked for: no error where the family is missing */
};

struct settings {
    enum settings_action action;
    struct settings_listen listen[SETTINGS_LISTENS_MAX];
    size_t listens; /* at least 1 */
    uint8_t key[SETTINGS_KEYS_MAX][WIRE_KEY_SIZE];
    size_t keys;            /* 0: any key may come; only with loopback listeners */
    uint64_t idle_first_ms; /* leave when no client came for this long; 0: never */
    uint64_t idle_ms;       /* leave when there was no carrier for this long; 0: never */
    enum log_level log_level;
    const char *resolv_conf; /* points into argv */
};

/* 0, or -EINVAL and one line for the user in `error`. */
KT_MUST_USE int settings_parse(struct settings *out, int argc, char *const argv[],
                               char error[static SETTINGS_ERROR_MAX]);

void settings_print_help(FILE *out);

/* "300s", "5m", "1h", "250ms", "300" (seconds), "0". -EINVAL. */
KT_MUST_USE int settings_parse_duration(uint64_t *out_ms, const char *text);

#endif
