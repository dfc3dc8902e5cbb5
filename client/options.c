#include "client/options.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

struct command {
    const char *name;
    enum options_command command;
    const char *arguments, *summary;
    bool takes_name;
};

static const struct command commands[] = {
    {"up", OPTIONS_UP, "[options]", "join the cluster's network, until Ctrl-C or `ktvpn down`", false},
    {"status", OPTIONS_STATUS, "[NAME] [options]", "what runs here: cluster, ranges, carriers, round trip", true},
    {"down", OPTIONS_DOWN, "[NAME] [options]", "leave: end a running `ktvpn up`", true},
    {"key", OPTIONS_KEY, "[options]",
     "print the public key that an agent's --allow-key takes; make it if there is none", false},
    {"help", OPTIONS_HELP, "[COMMAND]", "this text, or that of one command", false},
    {"version", OPTIONS_VERSION, "", "the version", false},
};

/* Each takes the option's value ("" for a flag); -EINVAL when it makes no sense. */
typedef int take_value(struct options *options, const char *value);

struct option {
    const char *name;
    char letter;       /* 0: none */
    const char *value; /* NULL: a flag */
    unsigned commands;
    take_value *take;
    const char *help;
};

static int take_namespace(struct options *options, const char *value)
{
    options->name_space = value;
    return 0;
}

static int take_context(struct options *options, const char *value)
{
    options->context = value;
    return 0;
}

static int take_kubeconfig(struct options *options, const char *value)
{
    options->kubeconfig = value;
    return 0;
}

static int take_as(struct options *options, const char *value)
{
    options->as = value;
    return value[0] != '\0' ? 0 : -EINVAL;
}

static int take_as_uid(struct options *options, const char *value)
{
    options->as_uid = value;
    return value[0] != '\0' ? 0 : -EINVAL;
}

static int take_as_group(struct options *options, const char *value)
{
    if (options->as_groups == OPTIONS_GROUPS_MAX)
        return -EINVAL;
    options->as_group[options->as_groups++] = value;
    return 0;
}

static int take_image(struct options *options, const char *value)
{
    options->agent_image = value;
    options->places_job = true;
    return 0;
}

static int take_key_file(struct options *options, const char *value)
{
    options->key_file = value;
    return *value != '\0' ? 0 : -EINVAL;
}

/* It speaks of a Job of ours, so no installed agent will do. */
static int place(struct options *options, enum placement_kind kind, const char *value)
{
    options->places_job = true;
    options->why = placement_add(&options->placement, kind, value);
    return options->why == NULL ? 0 : -EINVAL;
}

static int take_node_selector(struct options *options, const char *value)
{
    return place(options, PLACEMENT_NODE_SELECTOR, value);
}

static int take_toleration(struct options *options, const char *value)
{
    return place(options, PLACEMENT_TOLERATION, value);
}

static int take_pull_secret(struct options *options, const char *value)
{
    return place(options, PLACEMENT_PULL_SECRET, value);
}

static int take_requests(struct options *options, const char *value)
{
    return place(options, PLACEMENT_REQUESTS, value);
}

static int take_limits(struct options *options, const char *value)
{
    return place(options, PLACEMENT_LIMITS, value);
}

static int take_label(struct options *options, const char *value)
{
    return place(options, PLACEMENT_LABEL, value);
}

static int take_annotation(struct options *options, const char *value)
{
    return place(options, PLACEMENT_ANNOTATION, value);
}

/* Becomes a file's name. */
static int take_name(struct options *options, const char *value)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    if (value[0] == '.' || value[strspn(value, allowed)] != '\0' || strlen(value) > 63)
        return -EINVAL;
    options->name = value;
    return 0;
}

static int take_output(struct options *options, const char *value)
{
    options->output = value;
    return strcmp(value, "json") == 0 ? 0 : -EINVAL;
}

static int add_cidr(struct options_cidrs *cidrs, const char *value)
{
    if (cidrs->count == OPTIONS_CIDRS_MAX)
        return -EINVAL;
    return cidr_parse(&cidrs->cidr[cidrs->count++], value);
}

static int take_also(struct options *options, const char *value)
{
    return add_cidr(&options->also, value);
}

static int take_exclude(struct options *options, const char *value)
{
    return add_cidr(&options->exclude, value);
}

static int parse_port(uint16_t *port, const char *text)
{
    char *end = NULL;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || errno != 0 || *end != '\0' || value == 0 || value > 65535)
        return -EINVAL;
    *port = (uint16_t)value;
    return 0;
}

/* 10.1.2.3:4789 or [fd00::1]:4789 */
static int take_agent_address(struct options *options, const char *host)
{
    const char *colon = strrchr(host, ':');
    if (colon == NULL || (size_t)(colon - host) >= ADDRESS_STRLEN)
        return -EINVAL;
    size_t size = (size_t)(colon - host);
    bool has_brackets = size >= 2 && host[0] == '[' && host[size - 1] == ']';
    if (has_brackets) {
        host++;
        size -= 2;
    }
    char text[ADDRESS_STRLEN] = "";
    memcpy(text, host, size);
    int rc = address_parse(&options->agent, text);
    return rc != 0 ? rc : parse_port(&options->agent_port, colon + 1);
}

/* A label of RFC 1123, so that it may stand in a path. */
static int copy_label(char out[static 64], const char *text, size_t size)
{
    if (size == 0 || size > 63 || strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") < size)
        return -EINVAL;
    memcpy(out, text, size);
    out[size] = '\0';
    return 0;
}

/* tcp://ADDRESS:PORT, job, NAME or NAMESPACE/NAME; the last one counts */
static int take_agent(struct options *options, const char *value)
{
    static const char scheme[] = "tcp://";
    options->is_own_job = strcmp(value, "job") == 0;
    options->agent_place[0] = options->agent_name[0] = '\0';
    options->agent.family = ADDRESS_NONE;
    if (options->is_own_job)
        return 0;
    if (strncmp(value, scheme, sizeof scheme - 1) == 0)
        return take_agent_address(options, value + sizeof scheme - 1);
    const char *slash = strchr(value, '/'), *name = slash != NULL ? slash + 1 : value;
    if (slash != NULL && copy_label(options->agent_place, value, (size_t)(slash - value)) != 0)
        return -EINVAL;
    return copy_label(options->agent_name, name, strlen(name));
}

static int take_agent_key(struct options *options, const char *value)
{
    size_t size = 0;
    int rc = sodium_base642bin(options->agent_key, sizeof options->agent_key, value, strlen(value), NULL, &size, NULL,
                               sodium_base64_VARIANT_ORIGINAL);
    options->has_agent_key = true;
    return rc == 0 && size == WIRE_KEY_SIZE ? 0 : -EINVAL;
}

static int take_carriers(struct options *options, const char *value)
{
    if (value[0] < '1' || value[0] > '0' + WIRE_SLOTS_MAX || value[1] != '\0')
        return -EINVAL;
    options->carriers = (uint8_t)(value[0] - '0');
    return 0;
}

static int take_detach(struct options *options, const char *value KT_UNUSED)
{
    options->is_detached = true;
    return 0;
}

static int take_verbose(struct options *options, const char *value KT_UNUSED)
{
    options->is_verbose = true;
    return 0;
}

static int take_all(struct options *options, const char *value KT_UNUSED)
{
    options->is_for_all = true;
    return 0;
}

/* The command is not known yet when this comes first: options_parse() looks at the topic afterwards. */
static int take_help(struct options *options, const char *value KT_UNUSED)
{
    options->topic = options->command;
    options->command = OPTIONS_HELP;
    return 0;
}

static int take_version(struct options *options, const char *value KT_UNUSED)
{
    options->command = OPTIONS_VERSION;
    return 0;
}

#define ANY 0xffffu

static const struct option table[] = {
    {"namespace", 'n', "NAMESPACE", OPTIONS_UP, take_namespace,
     "the namespace whose short names resolve (default: the context's)"},
    {"context", 0, "CONTEXT", OPTIONS_UP, take_context, "context of the kubeconfig (default: current-context)"},
    {"kubeconfig", 0, "FILE", OPTIONS_UP, take_kubeconfig,
     "kubeconfig file (default: KUBECONFIG, then ~/.kube/config)"},
    {"as", 0, "USER", OPTIONS_UP, take_as, "act as this user towards the cluster (impersonation)"},
    {"as-group", 0, "GROUP", OPTIONS_UP, take_as_group, "with --as: as a member of this group; may be repeated"},
    {"as-uid", 0, "UID", OPTIONS_UP, take_as_uid, "with --as: as the user with this uid"},
    {"detach", 'd', NULL, OPTIONS_UP, take_detach, "go to the background once the cluster is joined"},
    {"also", 0, "CIDR", OPTIONS_UP, take_also, "send this range into the tunnel too; may be repeated"},
    {"exclude", 0, "CIDR", OPTIONS_UP, take_exclude, "keep this range out of the tunnel; may be repeated"},
    {"agent-image", 0, "IMAGE", OPTIONS_UP, take_image,
     "image of the agent (default: none; the program travels in a ConfigMap)"},
    {"agent-node-selector", 0, "KEY=VALUE", OPTIONS_UP, take_node_selector,
     "run the agent on nodes with this label; this one and the next may be repeated"},
    {"agent-toleration", 0, "KEY[=VALUE][:EFFECT]", OPTIONS_UP, take_toleration, "let it run on nodes with this taint"},
    {"agent-pull-secret", 0, "NAME", OPTIONS_UP, take_pull_secret, "a Secret to pull its image with"},
    {"agent-requests", 0, "cpu=CPU,memory=MEMORY", OPTIONS_UP, take_requests,
     "what it asks for (default: cpu=50m,memory=32Mi)"},
    {"agent-limits", 0, "cpu=CPU,memory=MEMORY", OPTIONS_UP, take_limits,
     "and at most gets (default: cpu=2,memory=256Mi)"},
    {"agent-label", 0, "KEY=VALUE", OPTIONS_UP, take_label, "a label on its Job and pod"},
    {"agent-annotation", 0, "KEY=VALUE", OPTIONS_UP, take_annotation, "an annotation on its Job and pod"},
    {"agent", 0, "AGENT", OPTIONS_UP, take_agent,
     "[NAMESPACE/]NAME: this installed agent; job: one of our own, even where one is installed;\n"
     "tcp://ADDRESS:PORT: this one, by plain TCP, without the Kubernetes API\n"
     "(default: an installed one in the namespace or in namespace ktvpn, else one of our own)"},
    {"agent-key", 0, "KEY", OPTIONS_UP, take_agent_key, "that agent's public key, as its first log line says"},
    {"carriers", 0, "NUMBER", OPTIONS_UP, take_carriers, "connections to the agent at once, 1 to 4 (default: 2)"},
    {"key", 0, "FILE", OPTIONS_UP | OPTIONS_KEY, take_key_file,
     "this machine's own key, by which an agent with --allow-key knows it (default: for tcp:// agents\n"
     "~/.config/ktvpn/key, if `ktvpn key` has made it; else a new key for each session)"},
    {"name", 0, "NAME", OPTIONS_UP, take_name, "name of this ktvpn for status and down (default: the context's)"},
    {"all", 'A', NULL, OPTIONS_DOWN, take_all, "end every ktvpn of this user"},
    {"output", 'o', "json", OPTIONS_STATUS, take_output, "print JSON"},
    {"verbose", 'v', NULL, OPTIONS_UP, take_verbose, "log what happens"},
    {"help", 'h', NULL, ANY, take_help, "help for the command"},
    {"version", 0, NULL, ANY, take_version, "the version"},
};

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < KT_ARRAY_LEN(commands); i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

static const struct option *find_option(const char *name, size_t size)
{
    for (size_t i = 0; i < KT_ARRAY_LEN(table); i++) {
        if (strlen(table[i].name) == size && memcmp(table[i].name, name, size) == 0)
            return &table[i];
    }
    return NULL;
}

static const struct option *find_letter(char letter)
{
    for (size_t i = 0; i < KT_ARRAY_LEN(table); i++) {
        if (letter != '\0' && table[i].letter == letter)
            return &table[i];
    }
    return NULL;
}

struct parser {
    struct options *options;
    const struct command *command;
    int argc, at;
    char **argv;
    struct error *error;
};

static int usage(struct parser *parser, const char *what, const char *argument)
{
    return error_set(parser->error, EXIT_CODE_USAGE, -EINVAL, "%s: %s; see `ktvpn help%s%s`", argument, what,
                     parser->command != NULL ? " " : "", parser->command != NULL ? parser->command->name : "");
}

static int apply(struct parser *parser, const struct option *option, const char *value)
{
    if (option->take == take_help || option->take == take_version)
        return option->take(parser->options, "");
    if (parser->command == NULL || (option->commands & (unsigned)parser->command->command) == 0)
        return usage(parser, "no option of this command", parser->argv[parser->at]);
    if (option->value == NULL && value != NULL)
        return usage(parser, "takes no value", parser->argv[parser->at]);
    if (option->value != NULL && value == NULL) {
        if (parser->at + 1 == parser->argc)
            return usage(parser, "needs a value", parser->argv[parser->at]);
        value = parser->argv[++parser->at];
    }
    if (option->take(parser->options, value != NULL ? value : "") == 0)
        return 0;
    const char *why = parser->options->why;
    return error_set(parser->error, EXIT_CODE_USAGE, -EINVAL, "--%s: '%.200s' is no valid %s%s%s", option->name, value,
                     option->value, why != NULL ? ": " : "", why != NULL ? why : "");
}

/* --name VALUE, --name=VALUE, -n VALUE, -nVALUE */
static int parse_option(struct parser *parser)
{
    const char *text = parser->argv[parser->at];
    if (text[1] != '-') {
        const struct option *option = find_letter(text[1]);
        if (option == NULL)
            return usage(parser, "unknown option", text);
        return apply(parser, option, text[2] == '\0' ? NULL : text[2] == '=' ? text + 3 : text + 2);
    }
    const char *equals = strchr(text, '=');
    const struct option *option =
        find_option(text + 2, equals != NULL ? (size_t)(equals - text) - 2 : strlen(text + 2));
    if (option == NULL)
        return usage(parser, "unknown option", text);
    return apply(parser, option, equals != NULL ? equals + 1 : NULL);
}

static int parse_word(struct parser *parser)
{
    const char *word = parser->argv[parser->at];
    if (parser->command == NULL) {
        parser->command = find_command(word);
        if (parser->command == NULL)
            return usage(parser, "unknown command", word);
        parser->options->command = parser->command->command;
        return 0;
    }
    if (parser->command->command == OPTIONS_HELP && find_command(word) != NULL) {
        parser->options->topic = find_command(word)->command;
        return 0;
    }
    if (parser->command->takes_name && parser->options->name == NULL && take_name(parser->options, word) == 0)
        return 0;
    return usage(parser, "unexpected argument", word);
}

static int check(struct parser *parser)
{
    const struct options *options = parser->options;
    bool has_agent = options->agent.family != ADDRESS_NONE;
    if (has_agent != options->has_agent_key)
        return usage(parser, "needs the other of --agent and --agent-key", has_agent ? "--agent" : "--agent-key");
    if (has_agent && options->also.count == 0)
        return usage(parser, "needs --also: without the Kubernetes API no range is known", "--agent");
    if (options->places_job && (has_agent || options->agent_name[0] != '\0'))
        return usage(parser, "not together with --agent-image and what else places a Job of our own", "--agent");
    if (options->name != NULL && options->is_for_all)
        return usage(parser, "not together with a NAME", "--all");
    return 0;
}

int options_parse(struct options *options, int argc, char **argv, struct error *error)
{
    *options = (struct options){0};
    struct parser parser = {.options = options, .argc = argc, .argv = argv, .error = error};
    for (parser.at = 1; parser.at < argc; parser.at++) {
        const char *text = argv[parser.at];
        int rc = text[0] == '-' && text[1] != '\0' ? parse_option(&parser) : parse_word(&parser);
        if (rc != 0)
            return rc;
        if (options->command == OPTIONS_VERSION || (options->command == OPTIONS_HELP && options->topic != 0))
            return 0;
    }
    if (options->command == 0)
        options->command = OPTIONS_HELP;
    return check(&parser);
}

static void print_lines(FILE *out, const char *head, const char *help)
{
    for (size_t size; *help != '\0'; help += size + (help[size] == '\n'), head = "") {
        size = strcspn(help, "\n");
        (void)fprintf(out, "  %-32s %.*s\n", head, (int)size, help);
    }
}

static void help_of_command(FILE *out, const struct command *command)
{
    (void)fprintf(out, "ktvpn %s %s\n  %s\n\n", command->name, command->arguments, command->summary);
    for (size_t i = 0; i < KT_ARRAY_LEN(table); i++) {
        const struct option *option = &table[i];
        if ((option->commands & (unsigned)command->command) == 0)
            continue;
        char head[64];
        (void)snprintf(head, sizeof head, "%c%c%s --%s %s", option->letter != 0 ? '-' : ' ',
                       option->letter != 0 ? option->letter : ' ', option->letter != 0 ? "," : " ", option->name,
                       option->value != NULL ? option->value : "");
        print_lines(out, head, option->help);
    }
}

static const char overview[] = "ktvpn joins this machine to a Kubernetes cluster's network.\n\n"
                               "Usage: ktvpn COMMAND [options]\n\n";
static const char more[] =
    "\nStart with:  ktvpn up --namespace NAMESPACE\n"
    "`ktvpn help COMMAND` tells a command's options. Making the network device needs root or CAP_NET_ADMIN: use sudo;\n"
    "ktvpn keeps the privilege only in a small helper and does everything else as you.\n\n"
    "Exit codes: 0 done, 1 other failure, 2 command line, 3 kubeconfig, 4 API server not reachable, 5 TLS, 6 not "
    "authenticated,\n"
    "  7 a right is missing, 8 agent, 9 this machine (TUN, privilege), 10 conflict (ranges, names), 11 not running, 12 "
    "not found\n"
    "  in the cluster, 130 left at once by a second Ctrl-C\n";

void options_help(FILE *out, enum options_command topic)
{
    for (size_t i = 0; i < KT_ARRAY_LEN(commands); i++) {
        if (commands[i].command == topic) {
            help_of_command(out, &commands[i]);
            return;
        }
    }
    (void)fputs(overview, out);
    for (size_t i = 0; i < KT_ARRAY_LEN(commands); i++)
        (void)fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].summary);
    (void)fputs(more, out);
}
