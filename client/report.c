#include "client/report.h"

#include <unistd.h>

#include <cjson/cJSON.h>

#include "common/mem.h"

/* cJSON's adders return NULL without memory and take NULL: one check at the end, by printing, is enough. */
static void add_text(cJSON *object, const char *key, const char *text)
{
    if (text != NULL && text[0] != '\0')
        (void)cJSON_AddStringToObject(object, key, text);
}

static void add_number(cJSON *object, const char *key, double value)
{
    (void)cJSON_AddNumberToObject(object, key, value);
}

static void add_item(cJSON *array, const char *text)
{
    (void)cJSON_AddItemToArray(array, cJSON_CreateString(text));
}

static void add_carriers(cJSON *object, const struct tunnel_info *info)
{
    cJSON *carriers = cJSON_AddArrayToObject(object, "carriers");
    for (size_t i = 0; i < info->carriers; i++) {
        const struct tunnel_carrier_info *carrier = &info->carrier[i];
        cJSON *item = cJSON_CreateObject();
        add_number(item, "slot", carrier->slot);
        (void)cJSON_AddBoolToObject(item, "answers", carrier->is_used);
        add_number(item, "age_ms", (double)carrier->age_ms);
        add_number(item, "rtt_ms", (double)carrier->rtt_us / 1000);
        add_number(item, "silent_ms", (double)carrier->silent_ms);
        add_number(item, "bytes_in", (double)carrier->bytes_in);
        add_number(item, "bytes_out", (double)carrier->bytes_out);
        (void)cJSON_AddItemToArray(carriers, item);
    }
    if (info->carriers > 0)
        add_number(object, "rtt_ms", (double)info->carrier[0].rtt_us / 1000);
    add_number(object, "reconnects", info->reconnects);
    add_number(object, "queued_bytes", (double)info->queued_bytes);
}

static void add_addresses(cJSON *object, const struct report *report)
{
    char text[CIDR_STRLEN];
    cJSON *addresses = cJSON_AddArrayToObject(object, "addresses");
    if (report->v4 != NULL)
        add_item(addresses, address_print(report->v4, text));
    if (report->v6 != NULL && report->has_v6)
        add_item(addresses, address_print(report->v6, text));
    cJSON *ranges = cJSON_AddArrayToObject(object, "ranges");
    for (size_t i = 0; i < report->ranges->count; i++)
        add_item(ranges, cidr_print(&report->ranges->range[i], text));
    cJSON *servers = cJSON_AddArrayToObject(object, "nameservers");
    for (size_t i = 0; i < report->nameservers; i++)
        add_item(servers, address_print(&report->nameserver[i], text));
}

static void add_counters(cJSON *object, const struct report *report)
{
    cJSON *names = cJSON_AddObjectToObject(object, "queries");
    add_number(names, "cluster", (double)report->names.cluster);
    add_number(names, "outside", (double)report->names.outside);
    add_number(names, "failed", (double)report->names.failed);
    cJSON *packets = cJSON_AddObjectToObject(object, "packets");
    add_number(packets, "out", (double)report->tun.packets_in);
    add_number(packets, "in", (double)report->tun.packets_out);
    add_number(packets, "dropped", (double)report->tun.dropped);
    add_number(packets, "ignored", (double)report->tun.ignored);
}

char *report_json(const struct report *report)
{
    cJSON *object = cJSON_CreateObject();
    add_text(object, "name", report->name);
    add_number(object, "pid", getpid());
    add_text(object, "state", report->state);
    add_text(object, "since", report->since);
    add_text(object, "context", report->context);
    add_text(object, "cluster", report->cluster);
    add_text(object, "namespace", report->name_space);
    cJSON *agent = cJSON_AddObjectToObject(object, "agent");
    add_text(agent, "pod", report->pod);
    add_text(agent, "node", report->node);
    add_text(object, "device", report->device);
    add_addresses(object, report);
    add_text(object, "services_from", report->services_from);
    add_text(object, "pods_from", report->pods_from);
    add_text(object, "cluster_domain", report->cluster_domain);
    add_carriers(object, &report->tunnel);
    add_counters(object, report);
    cJSON *warnings = cJSON_AddArrayToObject(object, "warnings");
    for (size_t i = 0; i < report->warnings; i++)
        add_item(warnings, report->warning[i]);
    char *printed = cJSON_PrintUnformatted(object);
    char *text = printed == NULL ? NULL : kt_asprintf("%s\n", printed);
    cJSON_free(printed);
    cJSON_Delete(object);
    return text;
}
