#include "agent/agent.h"

#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <uv.h>

#include "agent/about.h"
#include "agent/guests.h"
#include "agent/listener.h"
#include "agent/resolver.h"
#include "common/log.h"
#include "common/mem.h"

#define DNS_PORT 53

static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
#define SIGNALS KT_ARRAY_LEN(signals)

struct agent {
    uv_loop_t *loop;
    const struct settings *settings;
    struct noise_keypair keys;
    struct listener *listener[SETTINGS_LISTENS_MAX];
    struct resolver *resolver;
    struct guests *guests;
    uv_signal_t signal[SIGNALS];
    size_t signals_open;
    bool is_closing, guests_closed;
    int conf_error; /* of reading resolv.conf, until it is told */
};

static void on_accept(void *context, int fd, const struct address *from, uint16_t from_port)
{
    struct agent *agent = context;
    if (agent->conf_error != 0) /* not earlier: the key has to be the first line of the pod's log */
        log_warning("agent: %s: %s", agent->settings->resolv_conf, strerror(-agent->conf_error));
    agent->conf_error = 0;
    guests_take(agent->guests, fd, from, from_port);
}

static void on_idle(void *context, const char *why)
{
    log_info("agent: leaves: %s", why);
    agent_close(context);
}

static void on_signal(uv_signal_t *handle, int number)
{
    log_info("agent: leaves: %s", strsignal(number));
    agent_close(handle->data);
}

static bool is_missing_family(int error)
{
    return error == -EADDRNOTAVAIL || error == -EAFNOSUPPORT;
}

/* 0 when it listens, or need not. */
static int listen_one(struct agent *agent, size_t i)
{
    const struct settings_listen *wish = &agent->settings->listen[i];
    char text[ADDRESS_STRLEN];
    (void)address_print_port(&wish->address, wish->port, text);
    int rc = listener_open(&agent->listener[i], agent->loop, &wish->address, wish->port, on_accept, agent);
    if (rc == 0) {
        log_debug("listener %u: created, on %s", listener_port(agent->listener[i]), text);
        return 0;
    }
    if (wish->is_default && is_missing_family(rc)) {
        log_debug("listener: none on %s: %s", text, strerror(-rc));
        return 0;
    }
    log_error("agent: cannot listen on %s: %s", text, strerror(-rc));
    return rc;
}

static int listen_all(struct agent *agent)
{
    size_t count = 0;
    for (size_t i = 0; i < agent->settings->listens; i++) {
        int rc = listen_one(agent, i);
        if (rc != 0)
            return rc;
        count += agent->listener[i] != NULL;
    }
    if (count > 0)
        return 0;
    log_error("agent: there is no loopback address to listen on");
    return -EADDRNOTAVAIL;
}

static int open_guests(struct agent *agent, const struct resolvconf *conf)
{
    const struct settings *settings = agent->settings;
    struct guests_setup setup = {.keys = &agent->keys,
                                 .allowed = settings->key,
                                 .allowed_count = settings->keys,
                                 .idle_first_ms = settings->idle_first_ms,
                                 .idle_ms = settings->idle_ms,
                                 .resolver = agent->resolver,
                                 .on_idle = on_idle,
                                 .context = agent};
    about_fill(&setup.about, conf);
    return guests_open(&agent->guests, agent->loop, &setup);
}

/* A file that cannot be read is as good as none: clients can still reach addresses. */
static int open_resolver(struct agent *agent, struct resolvconf *conf)
{
    agent->conf_error = resolvconf_read(conf, agent->settings->resolv_conf);
    if (agent->conf_error != 0)
        resolvconf_parse(conf, "", 0);
    return resolver_open(&agent->resolver, agent->loop, conf, DNS_PORT);
}

static void watch_signals(struct agent *agent)
{
    for (size_t i = 0; i < SIGNALS; i++) {
        if (uv_signal_init(agent->loop, &agent->signal[i]) != 0)
            continue;
        agent->signals_open++;
        agent->signal[i].data = agent;
        (void)uv_signal_start(&agent->signal[i], on_signal, signals[i]);
    }
}

static int open_parts(struct agent *agent)
{
    struct resolvconf *conf = kt_calloc(1, sizeof *conf);
    if (conf == NULL)
        return -ENOMEM;
    int rc = open_resolver(agent, conf);
    if (rc == 0)
        rc = open_guests(agent, conf);
    kt_free(conf);
    return rc == 0 ? listen_all(agent) : rc;
}

static void let_go(struct agent *agent)
{
    if (!agent->guests_closed || agent->signals_open > 0)
        return;
    resolver_close(agent->resolver);
    kt_free_secret(agent, sizeof *agent);
}

int agent_open(struct agent **out, struct uv_loop_s *loop, const struct settings *settings)
{
    struct agent *agent = kt_calloc(1, sizeof *agent);
    if (agent == NULL)
        return -ENOMEM;
    agent->loop = loop;
    agent->settings = settings;
    noise_keypair_generate(&agent->keys);
    int rc = open_parts(agent);
    if (rc != 0) {
        agent_close(agent);
        return rc;
    }
    watch_signals(agent);
    *out = agent;
    return 0;
}

static void on_guests_closed(void *context)
{
    struct agent *agent = context;
    agent->guests_closed = true;
    let_go(agent);
}

static void on_signal_closed(uv_handle_t *handle)
{
    struct agent *agent = handle->data;
    agent->signals_open--;
    let_go(agent);
}

void agent_close(struct agent *agent)
{
    if (agent->is_closing)
        return;
    agent->is_closing = true;
    for (size_t i = 0; i < agent->settings->listens; i++)
        listener_close(agent->listener[i]);
    for (size_t i = 0; i < SIGNALS; i++) {
        if (agent->signal[i].data == agent)
            uv_close((uv_handle_t *)&agent->signal[i], on_signal_closed);
    }
    if (agent->guests != NULL) {
        guests_close(agent->guests, on_guests_closed, agent);
        return;
    }
    agent->guests_closed = true;
    let_go(agent);
}

const uint8_t *agent_key(const struct agent *agent)
{
    return agent->keys.public_key;
}

uint16_t agent_port(const struct agent *agent, size_t i)
{
    return i < SETTINGS_LISTENS_MAX && agent->listener[i] != NULL ? listener_port(agent->listener[i]) : 0;
}
