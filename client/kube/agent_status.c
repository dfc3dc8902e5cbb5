#include "client/kube/agent_status.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "client/kube/json_path.h"
#include "common/log.h"

#define KEY_LINE_MAX 256 /* of the key line */

/* A pod's name goes into the paths of requests. */
static bool copy_name(char *out, size_t size, const char *name)
{
    size_t length = strnlen(name, size);
    if (length == 0 || length == size || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") != length)
        return false;
    memcpy(out, name, length + 1);
    return true;
}

/* "REASON: MESSAGE", or what there is of it. */
static void put_reason(char out[static AGENT_STATUS_REASON_MAX], const char *reason, const char *message)
{
    char text[AGENT_STATUS_REASON_MAX];
    const char *colon = *reason && *message ? ": " : "";
    (void)snprintf(text, sizeof text, "%s%s%s", reason, colon, message);
    (void)log_escape(out, AGENT_STATUS_REASON_MAX, text, strlen(text));
}

static void read_terminated(struct agent_status *out, const cJSON *terminated)
{
    char reason[128];
    (void)snprintf(reason, sizeof reason, "%.64s, exit code %d", json_path_text(terminated, "reason"),
                   json_path_int(terminated, "exitCode", -1));
    out->state = AGENT_ENDED;
    out->has_crashed = json_path_int(terminated, "exitCode", -1) != 0;
    put_reason(out->reason, reason, json_path_text(terminated, "message"));
}

/* ContainerCreating is what every container goes through; each other reason to wait is an error that the kubelet tries
 * again. */
static void read_waiting(struct agent_status *out, const cJSON *waiting)
{
    const char *reason = json_path_text(waiting, "reason");
    out->is_troubled = *reason && strcmp(reason, "ContainerCreating") != 0 && strcmp(reason, "PodInitializing") != 0;
    if (out->is_troubled)
        put_reason(out->reason, reason, json_path_text(waiting, "message"));
}

static void read_running(struct agent_status *out, const cJSON *status)
{
    out->state = AGENT_RUNNING;
    out->is_ready = json_path_is_true(status, "ready");
}

static void read_container(struct agent_status *out, const cJSON *pod)
{
    const cJSON *status;
    cJSON_ArrayForEach(status, json_path_get(pod, "status.containerStatuses"))
    {
        if (strcmp(json_path_text(status, "name"), AGENT_CONTAINER) != 0)
            continue;
        const cJSON *state = json_path_get(status, "state");
        out->starts = (unsigned)json_path_int(status, "restartCount", 0) + 1;
        if (json_path_get(state, "terminated"))
            read_terminated(out, json_path_get(state, "terminated"));
        else if (json_path_get(state, "running"))
            read_running(out, status);
        else
            read_waiting(out, json_path_get(state, "waiting"));
    }
}

static void read_scheduling(struct agent_status *out, const cJSON *pod)
{
    const cJSON *condition;
    cJSON_ArrayForEach(condition, json_path_get(pod, "status.conditions"))
    {
        if (strcmp(json_path_text(condition, "type"), "PodScheduled") != 0 ||
            strcmp(json_path_text(condition, "status"), "False") != 0)
            continue;
        out->is_troubled = true;
        put_reason(out->reason, json_path_text(condition, "reason"), json_path_text(condition, "message"));
    }
}

/* Evicted, out of a resource on the node, past its deadline: the pod itself has the reason then. */
static void read_phase(struct agent_status *out, const cJSON *pod)
{
    const char *phase = json_path_text(pod, "status.phase");
    bool is_over = strcmp(phase, "Failed") == 0 || strcmp(phase, "Succeeded") == 0;
    const char *reason = json_path_text(pod, "status.reason");
    if (!is_over || (out->state == AGENT_ENDED && !*reason))
        return;
    out->state = AGENT_ENDED;
    out->has_crashed = false; /* somebody ended it */
    put_reason(out->reason, *reason ? reason : phase, json_path_text(pod, "status.message"));
}

int agent_status_read(struct agent_status *out, const struct cJSON *pod)
{
    *out = (struct agent_status){.state = AGENT_PENDING};
    if (!copy_name(out->pod, sizeof out->pod, json_path_text(pod, "metadata.name")))
        return -EBADMSG;
    if (address_parse(&out->address, json_path_text(pod, "status.podIP")) != 0)
        out->address = (struct address){.family = ADDRESS_NONE};
    if (copy_name(out->node, sizeof out->node, json_path_text(pod, "spec.nodeName"))) {
        out->state = AGENT_STARTING;
        read_container(out, pod);
    } else {
        read_scheduling(out, pod);
    }
    read_phase(out, pod);
    if (out->state != AGENT_ENDED && json_path_get(pod, "metadata.deletionTimestamp")) {
        out->state = AGENT_LEAVING;
        out->is_troubled = out->is_ready = false;
        put_reason(out->reason, "", "somebody deletes the pod");
    }
    return 0;
}

/* RFC 3339 in UTC, as the API writes them, order as text; events.k8s.io has eventTime instead. */
static const char *time_of(const cJSON *event)
{
    const char *last = json_path_text(event, "lastTimestamp");
    return *last ? last : json_path_text(event, "eventTime");
}

/* "Error: ErrImagePull": the kubelet says the state's name after it has said what is wrong, in the same second. */
static bool is_echo(const cJSON *event)
{
    static const char start[] = "Error: ";
    return strncmp(json_path_text(event, "message"), start, sizeof start - 1) == 0;
}

static const cJSON *newest_event(const struct cJSON *list, bool with_echoes)
{
    const cJSON *event, *newest = NULL;
    cJSON_ArrayForEach(event, json_path_get(list, "items"))
    {
        if ((with_echoes || !is_echo(event)) && (!newest || strcmp(time_of(event), time_of(newest)) >= 0))
            newest = event;
    }
    return newest;
}

int agent_status_warning(char out[static AGENT_STATUS_REASON_MAX], const struct cJSON *list)
{
    const cJSON *newest = newest_event(list, true), *other = newest_event(list, false);
    if (newest && is_echo(newest) && other && strcmp(json_path_text(other, "type"), "Warning") == 0)
        newest = other;
    if (strcmp(json_path_text(newest, "type"), "Warning") != 0)
        return -ENOENT;
    put_reason(out, json_path_text(newest, "reason"), json_path_text(newest, "message"));
    return 0;
}

/* Of "MAJOR.MINOR.PATCH": the bytes up to the second dot. */
static size_t minor_size(const char *version)
{
    size_t major = strcspn(version, ".");
    return version[major] ? major + 1 + strcspn(version + major + 1, ".") : major;
}

static bool is_same_version(const char *theirs)
{
    size_t size = minor_size(KTVPN_VERSION);
    return minor_size(theirs) == size && strncmp(theirs, KTVPN_VERSION, size) == 0;
}

static int no_agent(const char *line, size_t size, struct error *error)
{
    char text[KEY_LINE_MAX];
    return error_set(error, EXIT_CODE_AGENT, -EBADMSG,
                     "what runs in the agent's pod is no ktvpn-agent: its log begins with \"%s\"",
                     log_escape(text, sizeof text, line, size));
}

int agent_status_key(uint8_t key[static WIRE_KEY_SIZE], const char *line, size_t size, struct error *error)
{
    char text[KEY_LINE_MAX], again[KEY_LINE_MAX], version[33], base64[65];
    if (size >= sizeof text || memchr(line, '\0', size))
        return no_agent(line, size, error);
    memcpy(text, line, size);
    text[size] = '\0';
    if (sscanf(text, "ktvpn-agent %32[0-9A-Za-z.+-] key %64[0-9A-Za-z+/=]", version, base64) != 2)
        return no_agent(line, size, error);
    (void)snprintf(again, sizeof again, "ktvpn-agent %s key %s", version, base64);
    if (strcmp(again, text) != 0) /* scanf's blank is any white space, or none */
        return no_agent(line, size, error);
    if (!is_same_version(version))
        return error_set(error, EXIT_CODE_AGENT, -EPROTONOSUPPORT,
                         "the agent's version is %s, this is ktvpn " KTVPN_VERSION
                         ": take an --agent-image of the same version",
                         version);
    size_t got;
    const char *end;
    if (sodium_base642bin(key, WIRE_KEY_SIZE, base64, strlen(base64), NULL, &got, &end,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        got != WIRE_KEY_SIZE || *end != '\0')
        return no_agent(line, size, error);
    return 0;
}
