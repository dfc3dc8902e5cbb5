#include "client/up.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "client/cluster.h"
#include "client/control.h"
#include "client/departure.h"
#include "client/direct_agent.h"
#include "client/identity.h"
#include "client/machine.h"
#include "client/progress.h"
#include "client/situation.h"
#include "client/tunnel.h"
#include "common/log.h"
#include "common/mem.h"

#define UP_PEERS_MAX 16 /* addresses of the API server */
#define DIAL_MS 60000   /* without a first session it gives up */

enum up_state { UP_CHECKING, UP_LAUNCHING, UP_DIALLING, UP_VERIFYING, UP_READY, UP_LEAVING };

struct up {
    enum up_state state;
    const struct options *options;
    struct helper *helper;
    struct detach *detach;
    struct error *error;
    int result;

    uv_loop_t loop;
    struct departure departure;
    struct progress progress;
    uint64_t began_ms, dial_ms;
    char since[SITUATION_TIME_MAX];

    struct identity who;
    struct control *control;
    struct cluster *cluster; /* NULL with --agent */
    struct cluster_ranges found;
    struct launcher_agent agent;
    struct tunnel *tunnel;

    struct machine machine;
    bool is_verified, names_are_known; /* what VERIFYING waits for */
    bool has_said_why, may_stay;       /* may_stay: something of ours, in the cluster */
    int open_parts;                    /* tunnel, cluster: still leaving */
};

static void leave(struct up *up);

static uint64_t now_ms(const struct up *up)
{
    return uv_now(&up->loop);
}

/* Remembers the first error and leaves. */
static void fail(struct up *up, const struct error *error)
{
    if (up->state == UP_LEAVING)
        return;
    progress_abort(&up->progress);
    *up->error = *error;
    up->result = -ECANCELED;
    leave(up);
}

/* --- leaving ------------------------------------------------------------------------------------------------------ */

/* Everything has ended: what waits for our end (`ktvpn down`) sees it now, with nothing left behind. */
static void finish(struct up *up)
{
    helper_stop(up->helper);
    instance_release(&up->who.instance);
    control_close(up->control);
    departure_close(&up->departure);
}

static void part_closed(struct up *up)
{
    if (--up->open_parts == 0)
        finish(up);
}

static void on_cluster_closed(void *context)
{
    struct up *up = context;
    up->may_stay = false;
    part_closed(up);
}

static void on_tunnel_closed(void *context)
{
    struct up *up = context;
    up->tunnel = NULL;
    cluster_close(up->cluster, on_cluster_closed);
    if (up->cluster == NULL)
        part_closed(up);
    up->cluster = NULL;
}

/* What stays when it leaves at once, with the command that removes it: only it, as others may have theirs beside it. A
 * pod of a Job has the Job's name and five letters. */
static void name_what_stays(const struct up *up)
{
    static const char what[] = "left at once: the agent's Job in namespace %s stays for a few minutes and then removes "
                               "itself; `kubectl -n %s %s%.*s` %s";
    const char *space = up->who.name_space, *pod = up->agent.pod, *end = strrchr(pod, '-');
    if (up->may_stay && end != NULL)
        log_warning(what, space, space, "delete job ", (int)(end - pod), pod, "removes it now");
    else if (up->may_stay)
        log_warning(what, space, space, "get jobs", 0, "", "lists it and those of others");
}

static void on_cut(void *context, bool is_wanted)
{
    struct up *up = context;
    if (is_wanted)
        up->result = error_set(up->error, EXIT_CODE_INTERRUPTED, -EINTR, "left at once");
    else
        log_warning("leaving takes longer than %d s", DEPARTURE_MS / 1000);
    name_what_stays(up);
}

static void leave(struct up *up)
{
    if (up->state == UP_LEAVING)
        return;
    progress_done(&up->progress, now_ms(up));
    up->state = UP_LEAVING;
    departure_begin(&up->departure);
    machine_leave(&up->machine);
    up->open_parts = 1;
    if (up->tunnel != NULL)
        tunnel_close(up->tunnel, on_tunnel_closed);
    else
        on_tunnel_closed(up);
}

/* The user wants it: no error once the cluster is joined; before it, scripts must not think that it is. */
static void leave_on_request(struct up *up, const char *how)
{
    if (up->state != UP_READY && up->state != UP_LEAVING)
        up->result = error_set(up->error, EXIT_CODE_INTERRUPTED, -EINTR, "interrupted before the cluster was joined");
    progress_abort(&up->progress);
    progress_say(&up->progress, "leaving%s", how);
    leave(up);
}

static void on_first_signal(void *context)
{
    leave_on_request(context, "");
}

/* --- status ------------------------------------------------------------------------------------------------------- */

static char *on_status(void *context)
{
    struct up *up = context;
    struct situation situation = {.who = &up->who,
                                  .agent = &up->agent,
                                  .found = &up->found,
                                  .machine = &up->machine,
                                  .tunnel = up->tunnel,
                                  .since = up->since,
                                  .is_ready = up->state == UP_READY,
                                  .is_leaving = up->state == UP_LEAVING};
    return situation_json(&situation);
}

static void on_down(void *context)
{
    leave_on_request(context, " (ktvpn down)");
}

/* --- the machine -------------------------------------------------------------------------------------------------- */

static int plan(struct up *up, struct error *error)
{
    struct address peer[UP_PEERS_MAX];
    struct machine_plan wish = {.name = up->who.instance.name, .options = up->options, .peers = peer};
    wish.services = &up->found.services;
    wish.pods = &up->found.pods;
    if (up->cluster != NULL)
        wish.peers_count = api_peers(cluster_api(up->cluster), peer, UP_PEERS_MAX);
    return machine_plan(&up->machine, &wish, error);
}

static void ready(struct up *up)
{
    progress_done(&up->progress, now_ms(up));
    up->state = UP_READY;
    situation_print_now(up->since);
    double seconds = (double)(now_ms(up) - up->began_ms) / 1000;
    progress_say(&up->progress, "ready after %.2f s: namespace %s on %s; %s", seconds, up->who.name_space,
                 up->machine.device.name, up->detach->ready_fd >= 0 ? "`ktvpn down` leaves" : "Ctrl-C leaves");
    detach_ready(up->detach, up->who.instance.log_path);
}

/* Ready for the next command of a script: a cluster name was resolved, and the short names are known. */
static void ready_if_all_is(struct up *up)
{
    if (up->state == UP_VERIFYING && up->is_verified && up->names_are_known)
        ready(up);
}

static void on_names_known(void *context)
{
    struct up *up = context;
    up->names_are_known = true;
    ready_if_all_is(up);
}

static void on_verified(void *context, int result)
{
    struct up *up = context;
    up->is_verified = true;
    if (result != 0)
        progress_say(&up->progress, "warning: cluster names do not resolve: %s",
                     result == -ENOENT ? "the cluster's DNS does not know kubernetes.default" : strerror(-result));
    ready_if_all_is(up);
}

static void on_part_failed(void *context, const struct error *error)
{
    fail(context, error);
}

/* A guessed Service range takes in the cluster's name servers, which the agent has told of now; pods that nobody may
 * list are guessed from the agent's. */
static int learn_ranges(struct up *up, struct error *error)
{
    const struct wire_accept *accept = tunnel_accept(up->tunnel);
    if (accept == NULL || (!up->found.is_guess && up->found.pods.count > 0))
        return 0;
    int rc = cluster_ranges_learn_all(&up->found, &up->agent.pod_address, accept->server, accept->servers);
    return rc != 0 ? error_set(error, EXIT_CODE_FAILED, rc, "too many ranges") : plan(up, error);
}

/* The session is open for the first time: only now this machine is touched. */
static void on_session(struct up *up)
{
    struct error error;
    progress_step(&up->progress, now_ms(up), "network device and routes");
    struct machine_join join = {.loop = &up->loop,
                                .helper = up->helper,
                                .tunnel = up->tunnel,
                                .name = up->who.instance.name,
                                .name_space = up->who.name_space};
    if (learn_ranges(up, &error) != 0 || machine_join(&up->machine, &join, &error) != 0) {
        fail(up, &error);
        return;
    }
    int rc = up->cluster != NULL ? cluster_watch_names(up->cluster) : 0;
    if (rc != 0)
        progress_say(&up->progress, "warning: short names will not resolve: %s", strerror(-rc));
    up->names_are_known = up->cluster == NULL || rc != 0;
    if (up->machine.without_v6 != NULL)
        progress_say(&up->progress, "warning: %s", up->machine.without_v6);
    progress_rename(&up->progress, "%s: %zu ranges routed", up->machine.device.name, up->machine.ranges.count);
    up->state = UP_VERIFYING;
    progress_step(&up->progress, now_ms(up), "names: a live query to this machine's name server");
    rc = machine_verify(&up->machine);
    if (rc == 0)
        return;
    if (rc == -ENOTSUP)
        progress_say(&up->progress, "warning: %s", up->machine.no_names);
    else
        progress_say(&up->progress, "warning: cluster names are not verified: %s", strerror(-rc));
    up->is_verified = true;
    ready_if_all_is(up);
}

/* --- the tunnel --------------------------------------------------------------------------------------------------- */

static int on_dial(void *context, struct stream **out)
{
    struct up *up = context;
    if (up->cluster != NULL)
        return cluster_dial(up->cluster, out);
    const char *device = machine_device_of(&up->machine, &up->options->agent);
    return stream_dial_tcp_by(out, &up->loop, &up->options->agent, up->options->agent_port, device);
}

/* Before the first session: not for ever, and not without a word. */
static void on_dial_failed(struct up *up, const struct error *why)
{
    struct error error;
    if (!up->has_said_why)
        progress_say(&up->progress, "no session with the agent yet, dialling on: %s", why->text);
    up->has_said_why = true;
    if (now_ms(up) - up->dial_ms < DIAL_MS)
        return;
    (void)error_set(&error, why->code, -ETIMEDOUT, "no session with the agent within %d s: %.900s", DIAL_MS / 1000,
                    why->text);
    fail(up, &error);
}

static void on_tunnel_state(void *context, enum tunnel_state state, const struct error *error)
{
    struct up *up = context;
    if (state == TUNNEL_ENDED && error != NULL)
        fail(up, error);
    else if (state == TUNNEL_UP && up->state == UP_DIALLING)
        on_session(up);
    else if (state == TUNNEL_STALLED && up->state == UP_READY)
        progress_say(&up->progress, "connection lost, dialling again: %s", error != NULL ? error->text : "no answer");
    else if (state == TUNNEL_UP && up->state == UP_READY)
        progress_say(&up->progress, "connection is back");
    else if (state == TUNNEL_DIALLING && error != NULL && up->state == UP_DIALLING)
        on_dial_failed(up, error);
    else if (error != NULL)
        log_debug("tunnel: %s", error->text);
}

static void on_doubt(void *context, int error)
{
    struct up *up = context;
    if (up->cluster != NULL && up->state != UP_LEAVING)
        cluster_doubt(up->cluster);
    else if (up->cluster == NULL && up->state == UP_DIALLING)
        fail(up, direct_agent_error(up->options, error, &(struct error){0}));
}

static void on_packet(void *context, uint8_t *packet, size_t size)
{
    struct up *up = context;
    machine_packet(&up->machine, packet, size);
}

static void on_room(void *context)
{
    struct up *up = context;
    machine_room(&up->machine);
}

static void on_dns_answer(void *context, uint32_t id, const uint8_t *message, size_t size)
{
    struct up *up = context;
    machine_dns_answer(&up->machine, id, message, size);
}

static int open_tunnel(struct up *up)
{
    static const struct tunnel_ops ops = {.dial = on_dial,
                                          .on_state = on_tunnel_state,
                                          .on_doubt = on_doubt,
                                          .on_packet = on_packet,
                                          .on_room = on_room,
                                          .on_dns_answer = on_dns_answer};
    struct tunnel_options options = {.mtu = WIRE_MTU,
                                     .name = up->who.owner,
                                     .carriers = up->options->carriers,
                                     .keys = up->who.has_keys ? &up->who.keys : NULL};
    int rc = tunnel_open(&up->tunnel, &up->loop, &options, &ops, up);
    identity_forget_keys(&up->who);
    return rc;
}

static void dial(struct up *up, const uint8_t key[static WIRE_KEY_SIZE])
{
    if (up->state == UP_LAUNCHING) {
        progress_step(&up->progress, now_ms(up), "session with the agent");
        up->state = UP_DIALLING;
    }
    up->dial_ms = now_ms(up);
    tunnel_set_agent(up->tunnel, key);
}

/* --- the cluster -------------------------------------------------------------------------------------------------- */

static void on_checked(void *context, const struct cluster_ranges *ranges)
{
    struct up *up = context;
    struct error error;
    if (up->state != UP_CHECKING)
        return;
    up->found = *ranges;
    if (plan(up, &error) != 0) {
        fail(up, &error);
        return;
    }
    progress_rename(&up->progress, "cluster checked: rights, and %zu ranges (services by %s, pods by %s)",
                    up->machine.ranges.count, ranges->services_from, ranges->pods_from);
    progress_step(&up->progress, now_ms(up), "agent");
    up->state = UP_LAUNCHING;
    cluster_launch(up->cluster);
    up->may_stay = cluster_has_job(up->cluster);
}

static void on_step(void *context, const char *text)
{
    struct up *up = context;
    if (up->state == UP_LAUNCHING)
        progress_rename(&up->progress, "agent: %s", text);
    else
        log_info("agent: %s", text);
}

static void on_agent(void *context, const struct launcher_agent *agent)
{
    struct up *up = context;
    if (up->state == UP_LEAVING)
        return;
    up->agent = *agent;
    up->may_stay = !agent->is_installed;
    const char *kind = agent->is_installed ? "installed agent" : "agent";
    if (up->state == UP_LAUNCHING)
        progress_rename(&up->progress, "%s %s on %s", kind, agent->pod, agent->node);
    else
        progress_say(&up->progress, "new %s %s on %s", kind, agent->pod, agent->node);
    dial(up, agent->key);
}

static void on_name(void *context, enum names_kind kind, const char *name, bool is_there)
{
    struct up *up = context;
    machine_name(&up->machine, kind, name, is_there);
}

static int open_cluster(struct up *up, struct error *error)
{
    static const struct cluster_ops ops = {.on_checked = on_checked,
                                           .on_step = on_step,
                                           .on_agent = on_agent,
                                           .on_failed = on_part_failed,
                                           .on_name = on_name,
                                           .on_names_known = on_names_known};
    struct cluster_options options = cluster_options_of(up->options, &up->who);
    progress_step(&up->progress, now_ms(up), "cluster %s", up->who.config->server);
    int rc = cluster_open(&up->cluster, &up->loop, &options, &ops, up, error);
    if (up->cluster != NULL)
        api_set_device_of(cluster_api(up->cluster), machine_device_of, &up->machine);
    return rc;
}

/* --- the start ---------------------------------------------------------------------------------------------------- */

static int start(struct up *up, struct error *error)
{
    static const struct control_ops control_ops = {.on_status = on_status, .on_down = on_down};
    int rc = control_open(&up->control, &up->loop, up->who.instance.socket_path, &control_ops, up);
    if (rc != 0)
        return error_set(error, EXIT_CODE_MACHINE, rc, "cannot open the control socket %s: %s",
                         up->who.instance.socket_path, strerror(-rc));
    rc = open_tunnel(up);
    if (rc != 0)
        return error_set(error, EXIT_CODE_FAILED, rc, "cannot prepare the session: %s", strerror(-rc));
    if (up->who.config != NULL)
        return open_cluster(up, error);
    rc = plan(up, error); /* nothing was found: --also alone */
    if (rc != 0)
        return rc;
    up->state = UP_LAUNCHING;
    dial(up, up->options->agent_key);
    return 0;
}

static int run(struct up *up, struct error *error)
{
    struct error start_error;
    int rc = identity_find(&up->who, up->options, error);
    if (rc == 0)
        rc = machine_look(&up->machine, error);
    if (rc != 0)
        return rc; /* nothing has to be undone but the lock */
    rc = uv_loop_init(&up->loop);
    if (rc != 0)
        return error_set(error, EXIT_CODE_FAILED, rc, "cannot make an event loop: %s", strerror(-rc));
    departure_init(&up->departure, &up->loop, on_first_signal, on_cut, up);
    up->began_ms = now_ms(up);
    progress_init(&up->progress, stderr, isatty(STDERR_FILENO) == 1, up->began_ms);
    if (start(up, &start_error) != 0)
        fail(up, &start_error);
    (void)uv_run(&up->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&up->loop); /* -EBUSY only when it left at once; the process ends */
    return up->result;
}

int up_run(const struct options *options, struct helper *helper, struct detach *detach, struct error *error)
{
    struct up *up = kt_calloc(1, sizeof *up);
    if (up == NULL)
        return error_set(error, EXIT_CODE_FAILED, -ENOMEM, "out of memory");
    *up =
        (struct up){.options = options, .helper = helper, .detach = detach, .error = error, .who.instance.lock_fd = -1};
    up->machine.on_verified = on_verified;
    up->machine.on_failed = on_part_failed;
    up->machine.context = up;
    int rc = run(up, error);
    helper_stop(helper);
    identity_release(&up->who);
    kt_free(up);
    return rc;
}
