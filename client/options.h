/* The command line: one table of options, from which parsing and --help are made. kubectl's habits. */
#ifndef KTVPN_CLIENT_OPTIONS_H
#define KTVPN_CLIENT_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "client/error.h"
#include "client/kube/placement.h"
#include "common/cidr.h"
#include "common/wire.h"

enum options_command {
    OPTIONS_UP = 1 << 0,
    OPTIONS_STATUS = 1 << 1,
    OPTIONS_DOWN = 1 << 2,
    OPTIONS_HELP = 1 << 3,
    OPTIONS_VERSION = 1 << 4,
    OPTIONS_KEY = 1 << 5,
};

#define OPTIONS_GROUPS_MAX 32
#define OPTIONS_CIDRS_MAX 64 /* of --also, and of --exclude */

struct options_cidrs {
    struct cidr cidr[OPTIONS_CIDRS_MAX];
    size_t count;
};

/* Texts point into argv. */
struct options {
    enum options_command command;
    enum options_command topic; /* `ktvpn help up`: what help is about; 0: everything */
    const char *name_space, *context, *kubeconfig;
    const char *as, *as_uid, *as_group[OPTIONS_GROUPS_MAX]; /* as whom to act; NULL: as the kubeconfig says */
    size_t as_groups;
    const char *agent_image;
    const char *key_file; /* --key */
    const char *name;     /* of this ktvpn: the argument of status and down, --name of up; NULL: the default */
    const char *output;   /* NULL or "json" */
    struct options_cidrs also, exclude;
    char agent_place[64], agent_name[64]; /* --agent [NAMESPACE/]NAME: an installed one; empty: not given */
    struct placement placement;           /* --agent-... */
    const char *why;                      /* a value was refused: the reason, or NULL */
    bool is_own_job;                      /* --agent job: no installed agent */
    bool places_job;                      /* --agent-image and what else only a Job of our own can have: nor then */
    struct address agent;                 /* --agent tcp://ADDRESS:PORT; family ADDRESS_NONE: not given */
    uint16_t agent_port;
    uint8_t agent_key[WIRE_KEY_SIZE]; /* --agent-key; valid with `agent` */
    bool has_agent_key;
    uint8_t carriers; /* at once; 0: the default */
    bool is_detached, is_verbose, is_for_all;
};

/* 0 or -EINVAL with EXIT_CODE_USAGE: what is wrong and which command tells more. */
KT_MUST_USE int options_parse(struct options *options, int argc, char **argv, struct error *error);
void options_help(FILE *out, enum options_command topic);

#endif
