#include "client/kube/credential.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <uv.h>

#include "client/kube/exec_plugin.h"
#include "client/kube/header.h"
#include "client/kube/kubeconfig_files.h"
#include "common/log.h"
#include "common/mem.h"

enum credential_state { CREDENTIAL_EMPTY, CREDENTIAL_RUNNING, CREDENTIAL_READY };

struct credential {
    enum credential_state state;
    const struct kubeconfig *config;
    uv_loop_t *loop;
    uv_timer_t timer; /* tells who waits */
    LIST_HEAD(, credential_wait) waits;
    unsigned generation;

    char *file_token; /* NULL: the one that the kubeconfig's loading read */
    uint64_t read_ms;

    struct exec_plugin *plugin;    /* RUNNING, or being closed */
    struct exec_credential answer; /* READY, of a plugin */
    bool has_error;                /* `error` is told until held_until_ms */
    struct error error;
    bool was_refused;       /* the plugin runs, or ran, because of a 401 */
    uint64_t held_until_ms; /* the plugin is not run before it */
    uint64_t late_until_ms; /* an answer that came expired (somebody's clock is wrong) is used until then */

    bool is_closing;
    void (*on_closed)(void *context);
    void *on_closed_context;
};

static void on_timer(uv_timer_t *timer);

static bool has_plugin(const struct credential *credential)
{
    return credential->config->exec != NULL;
}

/* ---- a token's file ---- */

static void take_token(struct credential *credential, char *token)
{
    const char *now = credential->file_token != NULL ? credential->file_token : credential->config->token;
    if (strcmp(token, now != NULL ? now : "") == 0) {
        kt_free_secret(token, strlen(token));
        return;
    }
    if (credential->file_token != NULL)
        kt_free_secret(credential->file_token, strlen(credential->file_token));
    credential->file_token = token;
    credential->generation++;
    log_info("the token's file has a new token");
}

/* What cannot be read, or is half written, leaves the token that we have. A FIFO would block. */
static void read_again(struct credential *credential)
{
    const char *path = credential->config->token_file;
    struct stat about;
    char *token = NULL;
    credential->read_ms = uv_now(credential->loop);
    if (stat(path, &about) != 0 || !S_ISREG(about.st_mode) || kubeconfig_read_token(&token, path) != 0)
        return;
    if (header_is_token(token))
        take_token(credential, token);
    else
        kt_free_secret(token, strlen(token));
}

/* ---- a plugin ---- */

static uint64_t now_of(const struct credential *credential)
{
    return uv_now(credential->loop);
}

static bool is_expired(const struct credential *credential)
{
    struct timespec now;
    if (now_of(credential) < credential->late_until_ms)
        return false;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return credential->answer.expires && now.tv_sec >= credential->answer.expires_s;
}

static void tell(struct credential *credential)
{
    (void)uv_timer_start(&credential->timer, on_timer, 0, 0);
}

static void on_plugin_gone(struct credential *credential)
{
    credential->plugin = NULL;
    if (!credential->is_closing && credential->state == CREDENTIAL_EMPTY && !LIST_EMPTY(&credential->waits))
        tell(credential);
}

static void on_plugin_closed(void *context);

static void on_plugin_done(void *context, struct exec_credential *answer, const struct error *error)
{
    struct credential *credential = context;
    exec_credential_deinit(&credential->answer);
    credential->has_error = error != NULL;
    if (error != NULL) {
        credential->error = *error;
        credential->state = CREDENTIAL_EMPTY;
        credential->held_until_ms = now_of(credential) + CREDENTIAL_HOLD_MS;
    } else {
        credential->answer = *answer;
        credential->late_until_ms = 0;
        if (is_expired(credential))
            credential->late_until_ms = now_of(credential) + CREDENTIAL_HOLD_MS;
        credential->state = CREDENTIAL_READY;
        credential->generation++;
    }
    exec_plugin_close(credential->plugin, on_plugin_closed);
    tell(credential);
}

static void run_plugin(struct credential *credential)
{
    struct error error;
    int rc =
        exec_plugin_open(&credential->plugin, credential->loop, credential->config, on_plugin_done, credential, &error);
    if (rc == 0) {
        credential->state = CREDENTIAL_RUNNING;
        return;
    }
    credential->has_error = true;
    credential->error = error;
    credential->held_until_ms = now_of(credential) + CREDENTIAL_HOLD_MS;
    tell(credential);
}

/* ---- who waits ---- */

/* Each may forget others, and await anew, which then is told later. */
static void tell_all(struct credential *credential, const struct error *error)
{
    LIST_HEAD(, credential_wait) told;
    struct credential_wait *wait;
    LIST_INIT(&told);
    while ((wait = LIST_FIRST(&credential->waits)) != NULL) {
        LIST_REMOVE(wait, entry);
        LIST_INSERT_HEAD(&told, wait, entry);
    }
    while (!credential->is_closing && (wait = LIST_FIRST(&told)) != NULL) {
        LIST_REMOVE(wait, entry);
        wait->is_waiting = false;
        wait->on_ready(wait->context, error);
    }
    while ((wait = LIST_FIRST(&told)) != NULL) {
        LIST_REMOVE(wait, entry);
        wait->is_waiting = false;
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct credential *credential = KT_CONTAINER_OF(timer, struct credential, timer);
    struct credential_value value;
    if (credential_get(credential, &value)) {
        tell_all(credential, NULL);
    } else if (credential->has_error && now_of(credential) < credential->held_until_ms) {
        struct error error = credential->error;
        tell_all(credential, &error);
    } else if (credential->state == CREDENTIAL_EMPTY && credential->plugin == NULL && !LIST_EMPTY(&credential->waits)) {
        credential->has_error = false;
        run_plugin(credential);
    }
}

void credential_await(struct credential *credential, struct credential_wait *wait)
{
    if (wait->is_waiting || credential->is_closing)
        return;
    wait->is_waiting = true;
    LIST_INSERT_HEAD(&credential->waits, wait, entry);
    if (credential->state != CREDENTIAL_RUNNING)
        tell(credential);
}

void credential_forget(struct credential_wait *wait)
{
    if (!wait->is_waiting)
        return;
    wait->is_waiting = false;
    LIST_REMOVE(wait, entry);
}

/* ---- the value ---- */

static bool get_of_plugin(struct credential *credential, struct credential_value *out)
{
    if (credential->state == CREDENTIAL_READY && is_expired(credential))
        credential->state = CREDENTIAL_EMPTY;
    if (credential->state != CREDENTIAL_READY)
        return false;
    out->token = credential->answer.token;
    if (out->certificate->size == 0 && credential->answer.certificate.size > 0) {
        out->certificate = &credential->answer.certificate;
        out->key = &credential->answer.key;
    }
    return true;
}

bool credential_get(struct credential *credential, struct credential_value *out)
{
    const struct kubeconfig *config = credential->config;
    *out = (struct credential_value){.certificate = &config->certificate, .key = &config->key};
    if (has_plugin(credential) && !get_of_plugin(credential, out))
        return false;
    if (config->token_file != NULL && now_of(credential) - credential->read_ms >= CREDENTIAL_FILE_MS)
        read_again(credential);
    if (!has_plugin(credential))
        out->token = credential->file_token != NULL ? credential->file_token : config->token;
    out->generation = credential->generation;
    return true;
}

/* An answer that was fetched because of a 401 and is refused too: the plugin would only say the same again. */
bool credential_refused(struct credential *credential, unsigned generation)
{
    if (!has_plugin(credential) && credential->config->token_file == NULL)
        return false;
    if (generation != credential->generation || (has_plugin(credential) && credential->state != CREDENTIAL_READY))
        return true;
    if (!has_plugin(credential)) {
        read_again(credential);
        return true;
    }
    uint64_t now = now_of(credential);
    if (credential->was_refused && now < credential->held_until_ms)
        return false;
    credential->was_refused = true;
    credential->held_until_ms = now + CREDENTIAL_HOLD_MS;
    credential->state = CREDENTIAL_EMPTY;
    return true;
}

/* ---- life ---- */

int credential_open(struct credential **out, struct uv_loop_s *loop, const struct kubeconfig *config)
{
    struct credential *credential = kt_calloc(1, sizeof *credential);
    if (credential == NULL)
        return -ENOMEM;
    credential->config = config;
    credential->loop = loop;
    credential->state = config->exec != NULL ? CREDENTIAL_EMPTY : CREDENTIAL_READY;
    credential->read_ms = uv_now(loop);
    LIST_INIT(&credential->waits);
    (void)uv_timer_init(loop, &credential->timer); /* cannot fail */
    *out = credential;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct credential *credential = KT_CONTAINER_OF((uv_timer_t *)handle, struct credential, timer);
    void (*on_closed)(void *context) = credential->on_closed;
    void *context = credential->on_closed_context;
    if (credential->file_token != NULL)
        kt_free_secret(credential->file_token, strlen(credential->file_token));
    exec_credential_deinit(&credential->answer);
    kt_free(credential);
    on_closed(context);
}

static void close_timer(struct credential *credential)
{
    uv_close((uv_handle_t *)&credential->timer, on_timer_closed);
}

static void on_plugin_closed(void *context)
{
    struct credential *credential = context;
    on_plugin_gone(credential);
    if (credential->is_closing)
        close_timer(credential);
}

void credential_close(struct credential *credential, void (*on_closed)(void *context), void *context)
{
    struct credential_wait *wait;
    bool was_running = credential->state == CREDENTIAL_RUNNING;
    credential->is_closing = true;
    credential->on_closed = on_closed;
    credential->on_closed_context = context;
    while ((wait = LIST_FIRST(&credential->waits)) != NULL)
        credential_forget(wait);
    if (credential->plugin == NULL)
        close_timer(credential);
    else if (was_running) /* else it is being closed already */
        exec_plugin_close(credential->plugin, on_plugin_closed);
}
