/* The Job's fixed part is agent_job.json; here its names and its image are filled in. Why it looks as it does:
 *
 *   backoffLimit 0, Never   a pod is tried once: what went wrong is told to the user, and a new try is a new Job
 *   ttl, activeDeadline     what a killed client leaves goes by itself: the agent without a client, the Job after it
 *   no probe                the client waits for the agent's first log line, which comes sooner than any probe; an exec
 *                           probe would cost the node a process each time
 *   securityContext         all that Pod Security "restricted" asks for
 *   requests and limits     a ResourceQuota refuses pods without them; the limits are ceilings, not what is used
 *   inject off              a mesh's proxy would stand between the agent and the pods; each mesh has its own key
 *   no service links        or the environment of the agent would hold every Service of the namespace
 *
 * The pod names its ConfigMap, so the name is the client's choice and not the API's (generateName). */
#include "client/kube/agent_manifest.h"

#include <cjson/cJSON.h>
#include <sodium.h>
#include <string.h>

#include "client/kube/json_path.h"
#include "common/mem.h"

#define FOLDER "/ktvpn"
#define BINARY "ktvpn-agent"
#define BINARY_MODE 0555
#define POD "spec.template.spec"
#define CONTAINER POD ".containers.0"

extern const char agent_job_json[]; /* agent_job_data.S */

static bool add_text(cJSON *root, const char *path, const char *key, const char *value)
{
    return cJSON_AddStringToObject(json_path_get(root, path), key, value) != NULL;
}

/* Parses and adds; for parts that read best as JSON. `key` NULL: into an array. */
static bool add_json(cJSON *root, const char *path, const char *key, const char *text)
{
    cJSON *parent = json_path_get(root, path), *item = cJSON_Parse(text);
    bool done = item && (key ? cJSON_AddItemToObject(parent, key, item) : cJSON_AddItemToArray(parent, item));
    if (!done)
        cJSON_Delete(item);
    return done;
}

/* The nodes are alternatives: terms are OR-ed, and matchFields takes one value each. */
static bool add_nodes(cJSON *job, const struct image_pick *pick)
{
    static const char AFFINITY[] =
        "{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":{\"nodeSelectorTerms\":[]}}}";
    static const char TERM[] = "{\"matchFields\":[{\"key\":\"metadata.name\",\"operator\":\"In\",\"values\":[]}]}";
    static const char TERMS[] =
        POD ".affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    if (!add_json(job, POD, "affinity", AFFINITY))
        return false;
    for (size_t i = 0; i < pick->nodes; i++) {
        if (!add_json(job, TERMS, NULL, TERM))
            return false;
        cJSON *terms = json_path_get(job, TERMS);
        cJSON *values = json_path_get(cJSON_GetArrayItem(terms, (int)i), "matchFields.0.values");
        cJSON *name = cJSON_CreateString(pick->node[i]);
        if (!cJSON_AddItemToArray(values, name)) {
            cJSON_Delete(name);
            return false;
        }
    }
    return true;
}

static bool add_secrets(cJSON *job, const struct image_pick *pick)
{
    if (pick->secrets == 0)
        return true;
    cJSON *secrets = cJSON_AddArrayToObject(json_path_get(job, POD), "imagePullSecrets");
    for (size_t i = 0; i < pick->secrets; i++) {
        cJSON *secret = cJSON_CreateObject();
        if (!cJSON_AddStringToObject(secret, "name", pick->secret[i]) || !cJSON_AddItemToArray(secrets, secret)) {
            cJSON_Delete(secret);
            return false;
        }
    }
    return true;
}

/* workingDir: the image's own may be one that our user may not enter. */
static bool add_binary(cJSON *job, const char *name, const struct image_pick *pick)
{
    return add_text(job, CONTAINER, "image", pick->image) &&
           add_json(job, CONTAINER, "command", "[\"" FOLDER "/" BINARY "\"]") &&
           add_text(job, CONTAINER, "workingDir", "/") &&
           add_json(job, CONTAINER, "volumeMounts",
                    "[{\"name\":\"agent\",\"mountPath\":\"" FOLDER "\",\"readOnly\":true}]") &&
           add_json(job, POD, "volumes", "[{\"name\":\"agent\",\"configMap\":{}}]") &&
           add_text(job, POD ".volumes.0.configMap", "name", name) &&
           cJSON_AddNumberToObject(json_path_get(job, POD ".volumes.0.configMap"), "defaultMode", BINARY_MODE) &&
           add_text(job, POD ".nodeSelector", "kubernetes.io/arch", pick->arch) && add_nodes(job, pick) &&
           add_secrets(job, pick);
}

struct cJSON *agent_manifest_job(const struct agent_manifest *manifest)
{
    cJSON *job = cJSON_Parse(agent_job_json);
    bool done = add_text(job, "metadata", "name", manifest->name) &&
                add_text(job, "metadata.labels", AGENT_MANIFEST_LABEL, manifest->name) &&
                add_text(job, "spec.template.metadata.labels", AGENT_MANIFEST_LABEL, manifest->name) &&
                (!manifest->owner || add_text(job, "metadata.annotations", "ktvpn/owner", manifest->owner));
    if (done && manifest->image)
        done = add_text(job, CONTAINER, "image", manifest->image);
    else if (done)
        done = add_binary(job, manifest->name, manifest->pick);
    if (done && (!manifest->placement || placement_apply(manifest->placement, job) == 0))
        return job;
    cJSON_Delete(job);
    return NULL;
}

struct cJSON *agent_manifest_pod(const struct cJSON *job)
{
    cJSON *pod = cJSON_Duplicate(json_path_get(job, "spec.template"), true);
    if (add_text(pod, "", "apiVersion", "v1") && add_text(pod, "", "kind", "Pod") &&
        add_text(pod, "metadata", "name", json_path_text(job, "metadata.name")))
        return pod;
    cJSON_Delete(pod);
    return NULL;
}

static bool add_base64(cJSON *map, const struct agent_binary *binary)
{
    size_t size = sodium_base64_encoded_len(binary->size, sodium_base64_VARIANT_ORIGINAL);
    char *text = kt_calloc(1, size);
    if (!text)
        return false;
    (void)sodium_bin2base64(text, size, binary->data, binary->size, sodium_base64_VARIANT_ORIGINAL);
    bool done = add_text(map, "binaryData", BINARY, text);
    kt_free(text);
    return done;
}

struct cJSON *agent_manifest_config_map(const char *name, const char *job_uid, const struct agent_binary *binary)
{
    static const char MAP[] =
        "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"immutable\":true,\"binaryData\":{},\"metadata\":{\"labels\":"
        "{\"app.kubernetes.io/name\":\"ktvpn-agent\",\"app.kubernetes.io/managed-by\":\"ktvpn\"},"
        "\"ownerReferences\":[{\"apiVersion\":\"batch/v1\",\"kind\":\"Job\",\"controller\":false}]}}";
    cJSON *map = cJSON_Parse(MAP);
    bool done = add_text(map, "metadata", "name", name) &&
                add_text(map, "metadata.labels", AGENT_MANIFEST_LABEL, name) &&
                add_text(map, "metadata.ownerReferences.0", "name", name) &&
                add_text(map, "metadata.ownerReferences.0", "uid", job_uid) && add_base64(map, binary);
    if (done)
        return map;
    cJSON_Delete(map);
    return NULL;
}
