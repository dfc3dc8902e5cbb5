#include "client/up.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "client/cluster.h"
#include "client/control.h"
#include "client/identity.h"
#include "client/machine.h"
#include "client/progress.h"
#include "client/report.h"
#include "client/tunnel.h"
#include "common/log.h"
#include "common/mem.h"

#define UP_PEERS_MAX 16 /* addresses of the API server */
#define LEAVE_MS 8000   /* at most this long, then what is left is named */
#define DIAL_MS 60000   /* without a first session it gives up */

enum up_state { UP_CHECKING, UP_LAUNCHING, UP_DIALLING, UP_VERIFYING, UP_READY, UP_LEAVING };

static const int leave_signals[] = {SIGINT, SIGTERM, SIGHUP};

struct up {
    enum up_state state;
    const struct options *options;
    struct helper *helper;
    struct detach *detach;
    struct error *error;
    int result;

    uv_loop_t loop;
    uv_signal_t signal[KT_ARRAY_LEN(leave_signals)];
    uv_timer_t leave_timer;
    unsigned leave_signals;
    struct progress progress;
    uint64_t began_ms, dial_ms;
    char since[32];

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

static void on_handle_closed(uv_handle_t *handle KT_UNUSED)
{
}

/* Everything has ended: what waits for our end (`ktvpn down`) sees it now, with nothing left behind. */
static void finish(struct up *up)
{
    helper_stop(up->helper);
    instance_release(&up->who.instance);
    control_close(up->control);
    for (size_t i = 0; i < KT_ARRAY_LEN(leave_signals); i++)
        uv_close((uv_handle_t *)&up->signal[i], on_handle_closed);
    uv_close((uv_handle_t *)&up->leave_timer, on_handle_closed);
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

/* What stays when it leaves at once, with the command that removes it. */
static void name_what_stays(const struct up *up)
{
    if (up->may_stay)
        log_warning("left at once: the agent's Job in namespace %s stays for a few minutes and then removes itself; "
                    "`kubectl -n %s delete job -l app.kubernetes.io/managed-by=ktvpn` removes it now",
                    up->who.name_space, up->who.name_space);
}

static void on_leave_timer(uv_timer_t *timer)
{
    struct up *up = timer->data;
    log_warning("leaving takes longer than %d s", LEAVE_MS / 1000);
    name_what_stays(up);
    uv_stop(&up->loop);
}

static void leave(struct up *up)
{
    if (up->state == UP_LEAVING)
        return;
    progress_done(&up->progress, now_ms(up));
    up->state = UP_LEAVING;
    (void)uv_timer_start(&up->leave_timer, on_leave_timer, LEAVE_MS, 0);
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

static void on_signal(uv_signal_t *signal, int number KT_UNUSED)
{
    struct up *up = signal->data;
    if (up->leave_signals++ > 0) {
        name_what_stays(up);
        up->result = error_set(up->error, EXIT_CODE_INTERRUPTED, -EINTR, "left at once");
        uv_stop(&up->loop);
        return;
    }
    leave_on_request(up, "");
}

/* --- status ------------------------------------------------------------------------------------------------------- */

static const char *state_name(const struct up *up, const struct tunnel_info *info)
{
    if (up->state == UP_LEAVING)
        return "leaving";
    if (up->state != UP_READY)
        return "starting";
    return info->state == TUNNEL_UP ? "connected" : "stalled";
}

static char *on_status(void *context)
{
    struct up *up = context;
    struct report report = {
        .name = up->who.instance.name,
        .context = up->who.config != NULL ? up->who.config->context : "",
        .cluster = up->who.config != NULL ? up->who.config->server : "",
        .name_space = up->who.name_space,
        .pod = up->agent.pod,
        .node = up->agent.node,
        .services_from = up->found.services_from,
        .pods_from = up->found.pods_from,
        .since = up->since,
    };
    machine_report(&up->machine, &report);
    if (up->tunnel != NULL) {
        report.v4 = tunnel_v4(up->tunnel);
        report.v6 = tunnel_v6(up->tunnel);
        tunnel_info(up->tunnel, &report.tunnel);
        const struct wire_accept *accept = tunnel_accept(up->tunnel);
        if (accept != NULL && (accept->abilities & WIRE_CAN_PING_V4) == 0)
            report.warning[report.warnings++] = "no ping: the node's runtime does not let pods open ping sockets";
    }
    report.state = state_name(up, &report.tunnel);
    return report_json(&report);
}

static void on_down(void *context)
{
    leave_on_request(context, " (ktvpn down)");
}

/* --- the machine -------------------------------------------------------------------------------------------------- */

static int plan(struct up *up, const struct cluster_ranges *found, struct error *error)
{
    struct address peer[UP_PEERS_MAX];
    struct machine_plan wish = {.name = up->who.instance.name,
                                .services = &found->services,
                                .pods = &found->pods,
                                .options = up->options,
                                .peers = peer};
    if (up->cluster != NULL)
        wish.peers_count = api_peers(cluster_api(up->cluster), peer, UP_PEERS_MAX);
    return machine_plan(&up->machine, &wish, error);
}

static void ready(struct up *up)
{
    progress_done(&up->progress, now_ms(up));
    up->state = UP_READY;
    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc) != NULL)
        (void)strftime(up->since, sizeof up->since, "%Y-%m-%dT%H:%M:%SZ", &utc);
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

static void on_machine_failed(void *context, const struct error *error)
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
    int rc = cluster_ranges_learn_pod(&up->found, &up->agent.pod_address);
    for (size_t i = 0; rc == 0 && i < accept->servers; i++)
        rc = cluster_ranges_learn(&up->found, &accept->server[i]);
    return rc != 0 ? error_set(error, EXIT_CODE_FAILED, rc, "too many ranges") : plan(up, &up->found, error);
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
    const struct address *agent = &up->options->agent;
    return stream_dial_tcp_by(out, &up->loop, agent, up->options->agent_port, machine_device_of(&up->machine, agent));
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

/* Without a cluster there is nobody to ask for another agent: what does not work at the start will not work later. */
static void on_no_agent(struct up *up, int error)
{
    bool is_silent = error == -ECONNREFUSED || error == -ETIMEDOUT || error == -EHOSTUNREACH || error == -ENETUNREACH;
    char text[ADDRESS_STRLEN];
    struct error failure;
    (void)address_print_port(&up->options->agent, up->options->agent_port, text);
    if (is_silent)
        (void)error_set(&failure, EXIT_CODE_AGENT, error, "no agent answers at %s: %s", text, strerror(-error));
    else
        (void)error_set(&failure, EXIT_CODE_AGENT, error,
                        "what answers at %s is not the agent of this --agent-key: its key is the first line of its log",
                        text);
    fail(up, &failure);
}

static void on_doubt(void *context, int error)
{
    struct up *up = context;
    if (up->cluster != NULL && up->state != UP_LEAVING)
        cluster_doubt(up->cluster);
    else if (up->cluster == NULL && up->state == UP_DIALLING)
        on_no_agent(up, error);
}

static void on_packet(void *context, uint8_t *packet, size_t size)
{
    struct up *up = context;
    if (up->machine.datapath != NULL)
        datapath_on_packet(up->machine.datapath, packet, size);
}

static void on_room(void *context)
{
    struct up *up = context;
    if (up->machine.datapath != NULL)
        datapath_on_room(up->machine.datapath);
}

static void on_dns_answer(void *context, uint32_t id, const uint8_t *message, size_t size)
{
    struct up *up = context;
    if (up->machine.names != NULL)
        names_answer(up->machine.names, id, message, size);
}

static int open_tunnel(struct up *up)
{
    static const struct tunnel_ops ops = {.dial = on_dial,
                                          .on_state = on_tunnel_state,
                                          .on_doubt = on_doubt,
                                          .on_packet = on_packet,
                                          .on_room = on_room,
                                          .on_dns_answer = on_dns_answer};
    struct tunnel_options options = {.mtu = WIRE_MTU, .name = up->who.owner, .carriers = up->options->carriers};
    return tunnel_open(&up->tunnel, &up->loop, &options, &ops, up);
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
    if (plan(up, ranges, &error) != 0) {
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

static void on_cluster_failed(void *context, const struct error *error)
{
    fail(context, error);
}

static void on_name(void *context, enum names_kind kind, const char *name, bool is_there)
{
    struct up *up = context;
    if (up->machine.names == NULL)
        return;
    if (!is_there)
        names_remove(up->machine.names, kind, name);
    else if (names_add(up->machine.names, kind, name) != 0)
        log_debug("names: no room for %s", name);
}

static const char *text_or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static int open_cluster(struct up *up, struct error *error)
{
    static const struct cluster_ops ops = {.on_checked = on_checked,
                                           .on_step = on_step,
                                           .on_agent = on_agent,
                                           .on_failed = on_cluster_failed,
                                           .on_name = on_name,
                                           .on_names_known = on_names_known};
    struct cluster_options options = {.config = up->who.config,
                                      .name_space = up->who.name_space,
                                      .image = up->options->agent_image,
                                      .owner = up->who.owner,
                                      .agent_place = text_or_null(up->options->agent_place),
                                      .agent_name = text_or_null(up->options->agent_name),
                                      .is_own_job = up->options->is_own_job || up->options->agent_image != NULL};
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
    struct cluster_ranges *none = kt_calloc(1, sizeof *none);
    rc = none == NULL ? error_set(error, EXIT_CODE_FAILED, -ENOMEM, "out of memory") : plan(up, none, error);
    kt_free(none);
    if (rc != 0)
        return rc;
    up->state = UP_LAUNCHING;
    dial(up, up->options->agent_key);
    return 0;
}

/* What needs no loop; nothing has to be undone when it fails but the lock. */
static int prepare(struct up *up, struct error *error)
{
    int rc = identity_find(&up->who, up->options, error);
    return rc != 0 ? rc : machine_look(&up->machine, error);
}

static int open_loop(struct up *up)
{
    int rc = uv_loop_init(&up->loop);
    if (rc != 0)
        return rc;
    up->leave_timer.data = up;
    (void)uv_timer_init(&up->loop, &up->leave_timer);
    for (size_t i = 0; i < KT_ARRAY_LEN(leave_signals); i++) {
        up->signal[i].data = up;
        (void)uv_signal_init(&up->loop, &up->signal[i]);
        (void)uv_signal_start(&up->signal[i], on_signal, leave_signals[i]);
    }
    up->began_ms = now_ms(up);
    progress_init(&up->progress, stderr, isatty(STDERR_FILENO) == 1, up->began_ms);
    return 0;
}

static int run(struct up *up, struct error *error)
{
    int rc = prepare(up, error);
    if (rc != 0)
        return rc;
    rc = open_loop(up);
    if (rc != 0)
        return error_set(error, EXIT_CODE_FAILED, rc, "cannot make an event loop: %s", strerror(-rc));
    struct error start_error;
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
    up->machine.on_failed = on_machine_failed;
    up->machine.context = up;
    int rc = run(up, error);
    helper_stop(helper);
    identity_release(&up->who);
    kt_free(up);
    return rc;
}
