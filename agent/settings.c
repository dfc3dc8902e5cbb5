#include "agent/settings.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define HOST_MAX ADDRESS_STRLEN

struct option {
    const char *name;  /* with the dashes */
    const char *value; /* what follows, for the help; NULL: a flag */
    const char *help;
    int (*set)(struct settings *settings, const char *value);
};

static int set_listen(struct settings *settings, const char *value);
static int set_key(struct settings *settings, const char *value);

static int set_idle_first(struct settings *settings, const char *value)
{
    return settings_parse_duration(&settings->idle_first_ms, value);
}

static int set_idle(struct settings *settings, const char *value)
{
    return settings_parse_duration(&settings->idle_ms, value);
}

static int set_log_level(struct settings *settings, const char *value)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    for (size_t i = 0; i < KT_ARRAY_LEN(names); i++) {
        if (strcmp(value, names[i]) != 0)
            continue;
        settings->log_level = (enum log_level)i;
        return 0;
    }
    return -EINVAL;
}

static int set_resolv_conf(struct settings *settings, const char *value)
{
    settings->resolv_conf = value;
    return *value == '\0' ? -EINVAL : 0;
}

static int set_check(struct settings *settings, const char *value KT_UNUSED)
{
    settings->action = SETTINGS_CHECK;
    return 0;
}

static int set_version(struct settings *settings, const char *value KT_UNUSED)
{
    settings->action = SETTINGS_VERSION;
    return 0;
}

static int set_help(struct settings *settings, const char *value KT_UNUSED)
{
    settings->action = SETTINGS_HELP;
    return 0;
}

static const struct option options[] = {
    {"--listen", "ADDRESS:PORT", "listen here instead of 127.0.0.1:4789 and [::1]:4789; may be repeated", set_listen},
    {"--allow-key", "KEY",
     "base64 of a client's public key that may connect; may be repeated;\n"
     "needed when listening on anything but loopback",
     set_key},
    {"--idle-first", "TIME", "leave when no client came for this long (30s; 0: never)", set_idle_first},
    {"--idle", "TIME", "leave when no client was connected for this long (300s; 0: never)", set_idle},
    {"--log-level", "LEVEL", "error, warning, info (the default) or debug", set_log_level},
    {"--resolv-conf", "FILE", "the name servers and search list that clients use (" SETTINGS_RESOLV_CONF ")",
     set_resolv_conf},
    {"--check", NULL, "ask a running agent whether it is well: exit code 0 or 1", set_check},
    {"--version", NULL, "print the version", set_version},
    {"--help", NULL, "print this", set_help},
};

int settings_parse_duration(uint64_t *out_ms, const char *text)
{
    static const struct unit {
        const char *name;
        uint64_t ms;
    } units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    uint64_t value = 0;
    size_t digits = 0;
    for (; text[digits] >= '0' && text[digits] <= '9'; digits++) {
        value = value * 10 + (uint64_t)(text[digits] - '0');
        if (value > SETTINGS_IDLE_LIMIT_MS)
            return -EINVAL;
    }
    if (digits == 0)
        return -EINVAL;
    for (size_t i = 0; i < KT_ARRAY_LEN(units); i++) {
        if (strcmp(text + digits, units[i].name) != 0)
            continue;
        *out_ms = value * units[i].ms;
        return *out_ms > SETTINGS_IDLE_LIMIT_MS ? -EINVAL : 0;
    }
    return -EINVAL;
}

static int parse_port(uint16_t *out, const char *text)
{
    uint32_t value = 0;
    size_t digits = 0;
    for (; digits < 6 && text[digits] >= '0' && text[digits] <= '9'; digits++)
        value = value * 10 + (uint32_t)(text[digits] - '0');
    if (digits == 0 || text[digits] != '\0' || value > UINT16_MAX)
        return -EINVAL;
    *out = (uint16_t)value;
    return 0;
}

/* "1.2.3.4:80" or "[::1]:80"; port 0: the kernel picks one. */
static int set_listen(struct settings *settings, const char *value)
{
    const char *colon = strrchr(value, ':');
    char host[HOST_MAX];
    if (colon == NULL || (size_t)(colon - value) >= sizeof host || settings->listens == SETTINGS_LISTENS_MAX)
        return -EINVAL;
    size_t size = (size_t)(colon - value);
    bool has_brackets = size >= 2 && value[0] == '[' && value[size - 1] == ']';
    memcpy(host, value + has_brackets, size - 2 * has_brackets);
    host[size - 2 * has_brackets] = '\0';
    struct settings_listen *listen = &settings->listen[settings->listens];
    *listen = (struct settings_listen){0};
    if (address_parse(&listen->address, host) != 0 || parse_port(&listen->port, colon + 1) != 0)
        return -EINVAL;
    if (has_brackets != (listen->address.family == ADDRESS_V6))
        return -EINVAL;
    settings->listens++;
    return 0;
}

static int set_key(struct settings *settings, const char *value)
{
    size_t size = 0;
    if (settings->keys == SETTINGS_KEYS_MAX)
        return -EINVAL;
    int rc = sodium_base642bin(settings->key[settings->keys], WIRE_KEY_SIZE, value, strlen(value), NULL, &size, NULL,
                               sodium_base64_VARIANT_ORIGINAL);
    if (rc != 0 || size != WIRE_KEY_SIZE)
        return -EINVAL;
    settings->keys++;
    return 0;
}

static const struct option *find(const char *name, size_t size)
{
    for (size_t i = 0; i < KT_ARRAY_LEN(options); i++) {
        if (strlen(options[i].name) == size && strncmp(options[i].name, name, size) == 0)
            return &options[i];
    }
    return NULL;
}

/* One option and its value, "--name value" or "--name=value". Returns how many arguments it took, or -EINVAL. */
static int parse_one(struct settings *out, int argc, char *const argv[], char *error)
{
    const char *equals = strchr(argv[0], '=');
    size_t size = equals != NULL ? (size_t)(equals - argv[0]) : strlen(argv[0]);
    const struct option *option = find(argv[0], size);
    if (option == NULL) {
        (void)snprintf(error, SETTINGS_ERROR_MAX, "unknown option '%s'; ktvpn-agent --help lists them", argv[0]);
        return -EINVAL;
    }
    bool takes_next = option->value != NULL && equals == NULL;
    if ((takes_next && argc < 2) || (option->value == NULL && equals != NULL)) {
        (void)snprintf(error, SETTINGS_ERROR_MAX, "%s takes %s", option->name, takes_next ? option->value : "no value");
        return -EINVAL;
    }
    const char *value = equals != NULL ? equals + 1 : takes_next ? argv[1] : "";
    if (option->set(out, value) != 0) {
        (void)snprintf(error, SETTINGS_ERROR_MAX, "%s: '%s' is no %s, or one too many", option->name, value,
                       option->value);
        return -EINVAL;
    }
    return takes_next ? 2 : 1;
}

static void listen_on_loopback(struct settings *out)
{
    out->listen[0] = (struct settings_listen){.address = address_v4(0x7f000001), .port = SETTINGS_PORT};
    out->listen[1] = (struct settings_listen){.port = SETTINGS_PORT};
    out->listen[1].address = (struct address){.family = ADDRESS_V6, .bytes = {[15] = 1}};
    out->listen[0].is_default = out->listen[1].is_default = true;
    out->listens = 2;
}

/* Who reaches a loopback port of a pod has passed the API server's RBAC; anywhere else only a key can tell friend from
 * foe. */
static int check_exposure(const struct settings *settings, char *error)
{
    if (settings->keys > 0)
        return 0;
    for (size_t i = 0; i < settings->listens; i++) {
        char text[ADDRESS_STRLEN];
        if (address_is_loopback(&settings->listen[i].address))
            continue;
        (void)snprintf(error, SETTINGS_ERROR_MAX,
                       "will not listen on %s for everybody: name the clients that may connect with --allow-key KEY",
                       address_print_port(&settings->listen[i].address, settings->listen[i].port, text));
        return -EINVAL;
    }
    return 0;
}

int settings_parse(struct settings *out, int argc, char *const argv[], char error[static SETTINGS_ERROR_MAX])
{
    *out = (struct settings){.idle_first_ms = SETTINGS_IDLE_FIRST_MS,
                             .idle_ms = SETTINGS_IDLE_MS,
                             .log_level = LOG_LEVEL_INFO,
                             .resolv_conf = SETTINGS_RESOLV_CONF};
    for (int i = 1; i < argc;) {
        int taken = parse_one(out, argc - i, argv + i, error);
        if (taken < 0)
            return taken;
        i += taken;
    }
    if (out->listens == 0)
        listen_on_loopback(out);
    return out->action == SETTINGS_RUN ? check_exposure(out, error) : 0;
}

static void print_option(FILE *out, const struct option *option)
{
    char head[40];
    (void)snprintf(head, sizeof head, "%s %s", option->name, option->value != NULL ? option->value : "");
    const char *line = option->help;
    for (size_t size; *line != '\0'; line += size + (line[size] == '\n')) {
        size = strcspn(line, "\n");
        (void)fprintf(out, "  %-24s %.*s\n", line == option->help ? head : "", (int)size, line);
    }
}

void settings_print_help(FILE *out)
{
    (void)fputs("ktvpn-agent: the end of ktvpn's tunnel that runs in a cluster. It needs no privilege.\n\n", out);
    (void)fputs("Its first line of output is 'ktvpn-agent VERSION key BASE64': the public key that clients need.\n\n",
                out);
    for (size_t i = 0; i < KT_ARRAY_LEN(options); i++)
        print_option(out, &options[i]);
}
