#include "client/status.h"

#include <errno.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "client/control.h"
#include "client/instance.h"
#include "common/mem.h"

struct selection {
    struct instance instance[INSTANCES_MAX];
    int count;
};

/* The instances that run, or the one that was named. */
static int select_instances(struct selection *selection, const char *name, struct error *error)
{
    selection->count = instance_list(selection->instance, INSTANCES_MAX, error);
    if (selection->count < 0)
        return selection->count;
    if (name == NULL)
        return 0;
    for (int i = 0; i < selection->count; i++) {
        if (strcmp(selection->instance[i].name, name) != 0)
            continue;
        selection->instance[0] = selection->instance[i];
        selection->count = 1;
        return 0;
    }
    return error_set(error, EXIT_CODE_NOT_RUNNING, -ENOENT,
                     "no ktvpn named '%s' is running; `ktvpn status` lists those that are", name);
}

/* An object of its state, also when it does not answer. NULL: no memory. */
static cJSON *ask_status(const struct instance *instance)
{
    char *text = NULL;
    cJSON *item = NULL;
    int rc = control_ask(instance->socket_path, "status", CONTROL_STATUS_MS, &text);
    if (rc == 0)
        item = cJSON_Parse(text);
    kt_free(text);
    if (item != NULL)
        return item;
    item = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(item, "name", instance->name);
    (void)cJSON_AddStringToObject(item, "state", rc == -ECONNREFUSED ? "starting" : "not answering");
    return item;
}

static const char *text_of(const cJSON *item, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, key));
    return text != NULL ? text : "-";
}

static double number_of(const cJSON *item, const char *key)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(item, key);
    return cJSON_IsNumber(value) ? value->valuedouble : 0;
}

static void print_list(FILE *out, const char *title, const cJSON *list)
{
    if (cJSON_GetArraySize(list) == 0)
        return;
    (void)fprintf(out, "  %-12s", title);
    const cJSON *value;
    cJSON_ArrayForEach(value, list)(void) fprintf(out, " %s", cJSON_GetStringValue(value));
    (void)fputc('\n', out);
}

static void print_carrier(FILE *out, const cJSON *carrier)
{
    bool answers = !cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(carrier, "answers"));
    (void)fprintf(out, "  %-12s %s %.0f s, round trip %.1f ms, %.1f MB in, %.1f MB out\n", "",
                  answers ? "up" : "silent, up", number_of(carrier, "age_ms") / 1000, number_of(carrier, "rtt_ms"),
                  number_of(carrier, "bytes_in") / 1e6, number_of(carrier, "bytes_out") / 1e6);
}

static void print_item(FILE *out, const cJSON *item)
{
    const cJSON *agent = cJSON_GetObjectItemCaseSensitive(item, "agent");
    (void)fprintf(out, "%s: %s\n", text_of(item, "name"), text_of(item, "state"));
    if (cJSON_GetObjectItemCaseSensitive(item, "namespace") == NULL)
        return;
    (void)fprintf(out, "  %-12s %s, context %s\n", "cluster", text_of(item, "cluster"), text_of(item, "context"));
    (void)fprintf(out, "  %-12s %s\n", "namespace", text_of(item, "namespace"));
    (void)fprintf(out, "  %-12s %s on %s\n", "agent", text_of(agent, "pod"), text_of(agent, "node"));
    (void)fprintf(out, "  %-12s %s\n", "device", text_of(item, "device"));
    print_list(out, "addresses", cJSON_GetObjectItemCaseSensitive(item, "addresses"));
    print_list(out, "ranges", cJSON_GetObjectItemCaseSensitive(item, "ranges"));
    print_list(out, "nameservers", cJSON_GetObjectItemCaseSensitive(item, "nameservers"));
    const cJSON *carriers = cJSON_GetObjectItemCaseSensitive(item, "carriers"), *carrier;
    (void)fprintf(out, "  %-12s %d, round trip %.1f ms, %.0f reconnects\n", "carriers", cJSON_GetArraySize(carriers),
                  number_of(item, "rtt_ms"), number_of(item, "reconnects"));
    cJSON_ArrayForEach(carrier, carriers) print_carrier(out, carrier);
    const cJSON *warning;
    cJSON_ArrayForEach(warning, cJSON_GetObjectItemCaseSensitive(item, "warnings"))(void)
        fprintf(out, "  %-12s %s\n", "warning", cJSON_GetStringValue(warning));
}

static int print_json(FILE *out, const cJSON *json)
{
    char *text = cJSON_Print(json);
    if (text == NULL)
        return -ENOMEM;
    (void)fprintf(out, "%s\n", text);
    cJSON_free(text);
    return 0;
}

int status_run(const struct options *options, FILE *out, struct error *error)
{
    struct selection selection;
    int rc = select_instances(&selection, options->name, error);
    if (rc != 0)
        return rc;
    cJSON *list = cJSON_CreateObject(), *items = cJSON_AddArrayToObject(list, "items");
    for (int i = 0; i < selection.count; i++)
        (void)cJSON_AddItemToArray(items, ask_status(&selection.instance[i]));
    const cJSON *item;
    if (options->output != NULL)
        rc = print_json(out, options->name != NULL ? cJSON_GetArrayItem(items, 0) : list);
    else
        cJSON_ArrayForEach(item, items) print_item(out, item);
    cJSON_Delete(list);
    if (rc != 0)
        return error_set(error, EXIT_CODE_FAILED, rc, "out of memory");
    if (selection.count == 0)
        return error_set(error, EXIT_CODE_NOT_RUNNING, -ENOENT, "no ktvpn is running; `ktvpn up` starts one");
    return 0;
}

int down_run(const struct options *options, FILE *out, struct error *error)
{
    struct selection selection;
    int rc = select_instances(&selection, options->name, error);
    if (rc != 0)
        return rc;
    if (selection.count == 0)
        return error_set(error, EXIT_CODE_NOT_RUNNING, -ENOENT, "no ktvpn is running");
    if (selection.count > 1 && !options->is_for_all)
        return error_set(error, EXIT_CODE_USAGE, -EINVAL,
                         "several ktvpn are running ('%s', '%s', ...): name one, or use --all",
                         selection.instance[0].name, selection.instance[1].name);
    for (int i = 0; i < selection.count; i++) {
        const struct instance *instance = &selection.instance[i];
        char *answer = NULL;
        int failed = control_ask(instance->socket_path, "down", CONTROL_DOWN_MS, &answer);
        kt_free(answer);
        if (failed == 0)
            (void)fprintf(out, "%s: left\n", instance->name);
        else
            rc =
                error_set(error, EXIT_CODE_FAILED, failed, "'%s' did not leave: %s", instance->name, strerror(-failed));
    }
    return rc;
}
