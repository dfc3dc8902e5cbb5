/* One run of a kubeconfig's credential plugin (exec): its command line, environment and question, and what its answer
 * or its failure means. k8s.io/client-go/plugin/pkg/client/auth/exec. The plugin's standard error is ours. */
#ifndef KTVPN_CLIENT_KUBE_EXEC_PLUGIN_H
#define KTVPN_CLIENT_KUBE_EXEC_PLUGIN_H

#include "client/error.h"
#include "client/kube/exec_credential.h"

#define EXEC_PLUGIN_LIMIT_MS 60000

struct uv_loop_s;
struct exec_plugin;

/* `credential` is the callee's (it may take its parts and zero them); NULL: `error` says why. */
typedef void exec_plugin_done(void *context, struct exec_credential *credential, const struct error *error);

/* done() comes once, on the loop; then close. 0, or -errno with `error` (-ENOENT: there is no such program; -EPERM: we
 * still hold somebody else's rights; -ENOTTY: it wants a terminal and there is none). */
KT_MUST_USE int exec_plugin_open(struct exec_plugin **out, struct uv_loop_s *loop, const struct kubeconfig *config,
                                 exec_plugin_done *done, void *context, struct error *error);
/* Kills it if it runs; on_closed comes on the loop. May be called in done(). */
void exec_plugin_close(struct exec_plugin *plugin, void (*on_closed)(void *context));

#endif
