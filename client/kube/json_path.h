/* Reading parsed JSON by path: "spec.containers.0.image". Whatever is missing or of another kind reads as nothing, so
 * that code that reads the API's objects needs no check at each step.
 *
 * Paths are literals of our own; a key that holds a dot cannot be named. */
#ifndef KTVPN_CLIENT_KUBE_JSON_PATH_H
#define KTVPN_CLIENT_KUBE_JSON_PATH_H

#include <stdbool.h>

struct cJSON;

/* NULL when there is no such thing. `path` "" is `root` itself. */
struct cJSON *json_path_get(const struct cJSON *root, const char *path);
/* "" when it is no string. */
const char *json_path_text(const struct cJSON *root, const char *path);
/* `otherwise` when it is no number that an int holds. */
int json_path_int(const struct cJSON *root, const char *path, int otherwise);
/* Is it `true`? */
bool json_path_is_true(const struct cJSON *root, const char *path);

#endif
