#include "client/situation.h"

#include <time.h>

#include "client/report.h"

void situation_print_now(char out[static SITUATION_TIME_MAX])
{
    time_t now = time(NULL);
    struct tm utc;
    out[0] = '\0';
    if (gmtime_r(&now, &utc) != NULL)
        (void)strftime(out, SITUATION_TIME_MAX, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

static const char *state_name(const struct situation *situation, const struct tunnel_info *info)
{
    if (situation->is_leaving)
        return "leaving";
    if (!situation->is_ready)
        return "starting";
    return info->state == TUNNEL_UP ? "connected" : "stalled";
}

char *situation_json(const struct situation *situation)
{
    const struct kubeconfig *config = situation->who->config;
    struct report report = {
        .name = situation->who->instance.name,
        .context = config != NULL ? config->context : "",
        .cluster = config != NULL ? config->server : "",
        .name_space = situation->who->name_space,
        .pod = situation->agent->pod,
        .node = situation->agent->node,
        .services_from = situation->found->services_from,
        .pods_from = situation->found->pods_from,
        .since = situation->since,
    };
    machine_report(situation->machine, &report);
    if (situation->tunnel != NULL) {
        report.v4 = tunnel_v4(situation->tunnel);
        report.v6 = tunnel_v6(situation->tunnel);
        tunnel_info(situation->tunnel, &report.tunnel);
        const struct wire_accept *accept = tunnel_accept(situation->tunnel);
        if (accept != NULL && (accept->abilities & WIRE_CAN_PING_V4) == 0)
            report.warning[report.warnings++] = "no ping: the node's runtime does not let pods open ping sockets";
    }
    report.state = state_name(situation, &report.tunnel);
    return report_json(&report);
}
