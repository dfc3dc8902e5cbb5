/* `ktvpn up`, whole: a child of the test is the program, another the real agent, both in a network namespace of the
 * test's own, where also a name server of the "cluster" answers the agent.
 *
 *   this test -- control socket, signals --> up -- tcp://127.0.0.1 --> agent -- 127.0.0.1:53 --> name server
 *                                            |
 *                                         ktvpn0 */
#include "client/up.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "client/control.h"
#include "client/instance.h"
#include "common/mem.h"
#include "tests/unit/netns.h"
#include "tests/unit/resolv_conf.h"

#define WAIT_MS 20000
#define EXIT_LEAK 98
#define ARGS_MAX 16
#define API_PORT 6443
#define OTHER_KEY "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define SERVER "192.0.2.53" /* of this machine: behind a device of the namespace */

static char folder[] = "/tmp/ktvpn-up-XXXXXX";
static char resolv_conf[64], agent_resolv_conf[64], output[64], requests[64], kubeconfig[64];

struct bed {
    struct netns netns;
    pid_t up, agent, server; /* agent: or the API server */
    char key[64];            /* the agent's */
    char socket_path[128], lock_path[128];
};

/* --- the other processes ------------------------------------------------------------------------------------------ */

static void pause_ms(void)
{
    struct timespec ms = {.tv_nsec = 1000000};
    (void)nanosleep(&ms, NULL);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static pid_t fork_child(void)
{
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

static void end_child(pid_t pid)
{
    if (pid <= 0)
        return;
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}

/* Answers every question with 10.99.0.1. */
static KT_NORETURN void serve_names(int fd)
{
    static const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 99, 0, 1};
    for (;;) {
        uint8_t message[600];
        struct sockaddr_in from;
        socklen_t size = sizeof from;
        ssize_t got = recvfrom(fd, message, 512, 0, (struct sockaddr *)&from, &size);
        if (got < 12)
            continue;
        message[2] |= 0x80;
        message[7] = 1;
        message[11] = 0; /* without the asker's EDNS record */
        size_t end = 12;
        while (end < (size_t)got && message[end] != 0)
            end += message[end] + 1u;
        end += 5;
        memcpy(message + end, record, sizeof record);
        (void)sendto(fd, message, end + sizeof record, 0, (struct sockaddr *)&from, size);
    }
}

static pid_t start_server(void)
{
    struct sockaddr_in local = {
        .sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&local, sizeof local), 0);
    pid_t pid = fork_child();
    if (pid == 0)
        serve_names(fd);
    (void)close(fd);
    return pid;
}

/* `option` with its value, or NULL. The key is what its first line tells, when it listens. */
static void start_agent(struct bed *bed, const char *option, const char *value)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    bed->agent = fork_child();
    if (bed->agent == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)execl(TEST_AGENT, "ktvpn-agent", "--log-level", "error", "--resolv-conf", agent_resolv_conf, option,
                    value, NULL);
        _exit(99);
    }
    (void)close(ends[1]);
    FILE *out = fdopen(ends[0], "re");
    assert_non_null(out);
    assert_int_equal(fscanf(out, "ktvpn-agent %*s key %63s", bed->key), 1);
    (void)fclose(out);
}

static KT_NORETURN void run_up(const char *const *words)
{
    char *argv[ARGS_MAX] = {NULL};
    int argc = 0;
    struct options options;
    struct error error = {.code = EXIT_CODE_FAILED};
    struct helper helper = {.fd = -1};
    struct detach detach = {.ready_fd = -1};
    int fd = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    (void)dup2(fd, STDERR_FILENO);
    for (; argc < ARGS_MAX - 1 && words[argc] != NULL; argc++)
        argv[argc] = strdup(words[argc]);
    int rc = options_parse(&options, argc, argv, &error);
    if (rc == 0)
        rc = helper_start(&helper, &error);
    if (rc == 0)
        rc = up_run(&options, &helper, &detach, &error);
    if (rc != 0)
        (void)fprintf(stderr, "ktvpn: %s\n", error.text);
    bool is_at_once = rc != 0 && strcmp(error.text, "left at once") == 0;
    _exit(kt_mem_live() > 0 && !is_at_once ? EXIT_LEAK : rc == 0 ? 0 : (int)error.code);
}

static void start_up(struct bed *bed, const char *const *argv)
{
    bed->up = fork_child();
    if (bed->up == 0)
        run_up(argv);
}

static void join_agent(struct bed *bed, const char *extra, const char *value)
{
    const char *const argv[] = {
        "ktvpn",  "up",           "--name", "t",   "--agent", "tcp://127.0.0.1:4789", "--agent-key", bed->key,
        "--also", "10.99.0.0/16", extra,    value, NULL};
    start_up(bed, argv);
}

/* The program's exit code, when it has ended by itself. */
static int wait_for_end(struct bed *bed)
{
    int status;
    pid_t ended = 0;
    for (int i = 0; i < WAIT_MS && ended == 0; i++) {
        ended = waitpid(bed->up, &status, WNOHANG);
        pause_ms();
    }
    assert_int_equal(ended, bed->up);
    bed->up = 0;
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static bool file_has(const char *path, const char *word)
{
    char text[8192];
    FILE *file = fopen(path, "re");
    size_t size = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
    text[size] = '\0';
    if (file != NULL)
        (void)fclose(file);
    return strstr(text, word) != NULL;
}

static bool has_printed(const char *word)
{
    return file_has(output, word);
}

static void wait_for_state(const struct bed *bed, const char *state)
{
    char wanted[64];
    bool is_there = false;
    (void)snprintf(wanted, sizeof wanted, "\"state\":\"%s\"", state);
    for (int i = 0; i < WAIT_MS && !is_there; i++) {
        char *answer = NULL;
        if (control_ask(bed->socket_path, "status", 1000, &answer) == 0)
            is_there = strstr(answer, wanted) != NULL;
        kt_free(answer);
        pause_ms();
    }
    assert_true(is_there);
}

static void wait_for_ready(const struct bed *bed)
{
    wait_for_state(bed, "connected");
    for (int i = 0; i < WAIT_MS && !has_printed("ready after"); i++)
        pause_ms();
    assert_true(has_printed("ready after"));
}

/* --- an API server ------------------------------------------------------------------------------------------------ */

/* What is not in this list has no answer for as long as the test lasts. */
static const struct {
    const char *request, *answer;
} answers[] = {
    {"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "{\"status\":{\"allowed\":true}}"},
    {"GET /api/v1/namespaces/ems ", "{}"},
    {"GET /apis/networking.k8s.io/v1/servicecidrs", "{\"items\":[{\"spec\":{\"cidrs\":[\"10.99.0.0/16\"]}}]}"},
    {"POST /api/v1/namespaces/ems/services", "{}"},
    {"GET /api/v1/namespaces/ems/services", "{\"items\":[]}"},
    {"GET /api/v1/namespaces/ems/pods ", "{\"items\":[]}"},
    {"GET /api/v1/namespaces/ems/pods?labelSelector=app.kubernetes.io%2Fname", "{\"items\":[]}"},
    {"GET /api/v1/namespaces/ktvpn/pods", "{\"items\":[]}"},
    {"GET /api/v1/nodes", "{\"items\":[{\"metadata\":{\"name\":\"n1\",\"labels\":{\"kubernetes.io/arch\":\"amd64\"}},"
                          "\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}],"
                          "\"images\":[{\"names\":[\"r/pause:3.9\"]}]}}]}"},
    {"POST /api/v1/namespaces/ems/pods?dryRun=All", "{}"},
    {"POST /apis/batch/v1/namespaces/ems/jobs", "{\"metadata\":{\"uid\":\"7\"}}"},
};

static void answer_request(int fd, const char *request)
{
    char head[128];
    for (size_t i = 0; i < KT_ARRAY_LEN(answers); i++) {
        if (strncmp(request, answers[i].request, strlen(answers[i].request)) != 0)
            continue;
        int size = snprintf(head, sizeof head,
                            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
                            "Content-Length: %zu\r\n\r\n",
                            strlen(answers[i].answer));
        (void)!write(fd, head, (size_t)size);
        (void)!write(fd, answers[i].answer, strlen(answers[i].answer));
        _exit(0);
    }
    (void)pause();
}

/* One process a connection, one request each. */
static KT_NORETURN void serve_api(int fd)
{
    (void)signal(SIGCHLD, SIG_IGN);
    for (;;) {
        char request[16384];
        int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        pid_t pid = fork();
        if (pid != 0) {
            (void)close(connection);
            continue;
        }
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        ssize_t size = read(connection, request, sizeof request - 1);
        request[size > 0 ? size : 0] = '\0';
        int log = open(requests, O_WRONLY | O_APPEND | O_CLOEXEC);
        (void)!write(log, request, strcspn(request, "\r"));
        (void)!write(log, "\n", 1);
        while (recv(connection, request + sizeof request / 2, sizeof request / 2, MSG_DONTWAIT) > 0)
            ;
        answer_request(connection, request);
        _exit(0);
    }
}

static int listen_at(uint16_t port)
{
    struct sockaddr_in local = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&local, sizeof local), 0);
    assert_int_equal(listen(fd, 64), 0);
    return fd;
}

static void start_api(struct bed *bed)
{
    int fd = listen_at(API_PORT);
    write_file(requests, "");
    bed->agent = fork_child();
    if (bed->agent == 0)
        serve_api(fd);
    (void)close(fd);
}

static void wait_for_request(const char *word)
{
    for (int i = 0; i < WAIT_MS && !file_has(requests, word); i++)
        pause_ms();
    assert_true(file_has(requests, word));
}

static void join_cluster(struct bed *bed)
{
    const char *const argv[] = {"ktvpn", "up", "--kubeconfig", kubeconfig, "--name", "t", NULL};
    start_up(bed, argv);
}

/* --- before and after each test ----------------------------------------------------------------------------------- */

static int set_up(void **state)
{
    static struct bed bed;
    bed = (struct bed){0};
    *state = &bed;
    netns_enter(&bed.netns);
    netns_make_lan();
    write_file("/proc/sys/net/ipv4/ping_group_range", "0 2147483647\n");
    (void)snprintf(bed.socket_path, sizeof bed.socket_path, "%s/ktvpn/t.sock", folder);
    (void)snprintf(bed.lock_path, sizeof bed.lock_path, "%s/ktvpn/t.lock", folder);
    bed.server = start_server();
    return 0;
}

static void print_file(const char *path)
{
    char line[1024];
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        print_message("%s", line);
    if (file != NULL)
        (void)fclose(file);
}

/* Nothing is left: no device, no route, no socket, no lock. */
static int tear_down(void **state)
{
    struct bed *bed = *state;
    struct instance list[2];
    struct error error;
    if (bed->up > 0) { /* the test has failed */
        end_child(bed->up);
        print_file(output);
        print_file(requests);
        (void)unlink(bed->socket_path);
        (void)unlink(bed->lock_path);
    }
    end_child(bed->agent);
    end_child(bed->server);
    assert_int_equal(netns_lines_with("ktvpn"), 0);
    assert_int_equal(access(bed->socket_path, F_OK), -1);
    assert_int_equal(instance_list(list, 2, &error), 0);
    netns_leave(&bed->netns);
    return 0;
}

static void set_key(struct bed *bed)
{
    (void)snprintf(bed->key, sizeof bed->key, "%s", OTHER_KEY);
}

/* --- what ends before it begins ----------------------------------------------------------------------------------- */

static void test_no_kubeconfig(void **state)
{
    struct bed *bed = *state;
    const char *const argv[] = {"ktvpn", "up", "--kubeconfig", "/nowhere/config", "--name", "t", NULL};
    start_up(bed, argv);
    assert_int_equal(wait_for_end(bed), EXIT_CODE_KUBECONFIG);
    assert_true(has_printed("/nowhere/config"));
}

static void test_name_is_taken(void **state)
{
    struct bed *bed = *state;
    struct instance instance;
    struct error error;
    assert_int_equal(instance_acquire(&instance, "t", &error), 0);
    set_key(bed);
    join_agent(bed, NULL, NULL);
    int code = wait_for_end(bed);
    instance_release(&instance);
    assert_int_equal(code, EXIT_CODE_CONFLICT);
}

static void test_range_of_this_machine(void **state)
{
    struct bed *bed = *state;
    start_agent(bed, NULL, NULL);
    join_agent(bed, "--also", "192.0.2.0/24");
    assert_int_equal(wait_for_end(bed), EXIT_CODE_CONFLICT);
    assert_true(has_printed("192.0.2.0/24"));
}

/* --- a whole life ------------------------------------------------------------------------------------------------- */

static void test_joins_and_leaves(void **state)
{
    struct bed *bed = *state;
    char *answer = NULL;
    start_agent(bed, NULL, NULL);
    join_agent(bed, NULL, NULL);
    wait_for_ready(bed);
    assert_true(netns_says("ip route", "10.99.0.0/16 dev ktvpn0"));
    assert_true(netns_says("ip route", SERVER " dev ktvpn0"));
    assert_false(has_printed("warning"));
    assert_int_equal(control_ask(bed->socket_path, "status", 1000, &answer), 0);
    cJSON *json = cJSON_Parse(answer);
    kt_free(answer);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(json, "cluster_domain")), "cluster.test");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(json, "device")), "ktvpn0");
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "warnings")), 0);
    assert_non_null(cJSON_GetObjectItem(json, "since"));
    cJSON_Delete(json);
    assert_int_equal(control_ask(bed->socket_path, "down", 10000, &answer), 0);
    kt_free(answer);
    assert_int_equal(netns_lines_with("ktvpn"), 0); /* down's answer is the end: nothing is there any more */
    assert_int_equal(access(bed->socket_path, F_OK), -1);
    assert_int_equal(wait_for_end(bed), 0);
}

static void test_signal_leaves(void **state)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct bed *bed = *state;
    start_agent(bed, NULL, NULL);
    for (size_t i = 0; i < KT_ARRAY_LEN(signals); i++) {
        join_agent(bed, NULL, NULL);
        wait_for_ready(bed);
        assert_int_equal(kill(bed->up, signals[i]), 0);
        assert_int_equal(wait_for_end(bed), 0);
    }
}

/* Both signals are there when the program looks: the second finds it leaving. */
static void test_second_signal_leaves_at_once(void **state)
{
    struct bed *bed = *state;
    start_agent(bed, NULL, NULL);
    join_agent(bed, NULL, NULL);
    wait_for_ready(bed);
    assert_int_equal(kill(bed->up, SIGSTOP), 0);
    assert_int_equal(kill(bed->up, SIGINT), 0);
    assert_int_equal(kill(bed->up, SIGTERM), 0);
    assert_int_equal(kill(bed->up, SIGCONT), 0);
    assert_int_equal(wait_for_end(bed), EXIT_CODE_INTERRUPTED);
    assert_true(has_printed("left at once"));
}

static void test_device_is_deleted(void **state)
{
    struct bed *bed = *state;
    start_agent(bed, NULL, NULL);
    join_agent(bed, NULL, NULL);
    wait_for_ready(bed);
    netns_run("ip link del ktvpn0");
    assert_int_equal(wait_for_end(bed), EXIT_CODE_MACHINE);
    assert_true(has_printed("the network device ktvpn0 is gone"));
}

/* --- ends while it starts ----------------------------------------------------------------------------------------- */

/* An agent that takes the connection and then says nothing. Returns its socket. */
static int dial_silence(struct bed *bed)
{
    int fd = listen_at(4789);
    set_key(bed);
    join_agent(bed, NULL, NULL);
    wait_for_state(bed, "starting");
    return fd;
}

static void test_signal_while_it_starts(void **state)
{
    struct bed *bed = *state;
    int fd = dial_silence(bed);
    assert_int_equal(kill(bed->up, SIGTERM), 0);
    assert_int_equal(wait_for_end(bed), EXIT_CODE_INTERRUPTED);
    (void)close(fd);
}

/* The cluster was not joined: scripts must not think so. */
static void test_down_while_it_starts(void **state)
{
    struct bed *bed = *state;
    char *answer = NULL;
    int fd = dial_silence(bed);
    assert_int_equal(control_ask(bed->socket_path, "down", 10000, &answer), 0);
    kt_free(answer);
    assert_int_equal(wait_for_end(bed), EXIT_CODE_INTERRUPTED);
    assert_true(has_printed("before the cluster was joined"));
    (void)close(fd);
}

static void test_nobody_listens(void **state)
{
    struct bed *bed = *state;
    set_key(bed);
    join_agent(bed, NULL, NULL);
    assert_int_equal(wait_for_end(bed), EXIT_CODE_AGENT);
    assert_true(has_printed("no agent answers at 127.0.0.1:4789"));
}

static void test_another_agents_key(void **state)
{
    struct bed *bed = *state;
    start_agent(bed, NULL, NULL);
    set_key(bed);
    join_agent(bed, NULL, NULL);
    assert_int_equal(wait_for_end(bed), EXIT_CODE_AGENT);
    assert_true(has_printed("is not the agent of this --agent-key"));
}

static void test_agent_refuses(void **state)
{
    struct bed *bed = *state;
    start_agent(bed, "--allow-key", OTHER_KEY);
    join_agent(bed, NULL, NULL);
    assert_int_equal(wait_for_end(bed), EXIT_CODE_AGENT);
    assert_true(has_printed("allowed"));
}

/* --- with a cluster ----------------------------------------------------------------------------------------------- */

static void test_no_api_server(void **state)
{
    struct bed *bed = *state;
    join_cluster(bed);
    assert_int_equal(wait_for_end(bed), EXIT_CODE_UNREACHABLE);
}

static void test_signal_while_it_checks(void **state)
{
    struct bed *bed = *state;
    int fd = listen_at(API_PORT); /* answers nothing */
    join_cluster(bed);
    wait_for_state(bed, "starting");
    assert_int_equal(kill(bed->up, SIGINT), 0);
    assert_int_equal(wait_for_end(bed), EXIT_CODE_INTERRUPTED);
    assert_false(has_printed("stays"));
    (void)close(fd);
}

/* The Job is made, no pod comes, and its deletion has no answer: who does not want to wait is told what stays. */
static void test_second_signal_names_what_stays(void **state)
{
    struct bed *bed = *state;
    start_api(bed);
    join_cluster(bed);
    wait_for_request("POST /api/v1/namespaces/ems/configmaps"); /* so the Job is there */
    assert_int_equal(kill(bed->up, SIGINT), 0);
    wait_for_request("DELETE /apis/batch/v1/namespaces/ems/jobs/ktvpn-agent-");
    assert_int_equal(kill(bed->up, SIGINT), 0);
    assert_int_equal(wait_for_end(bed), EXIT_CODE_INTERRUPTED);
    assert_true(has_printed("the agent's Job in namespace ems stays"));
}

/* -- */

/* /etc/resolv.conf is another one here, in a mount namespace of this process. */
static int enter_mounts(void **state KT_UNUSED)
{
    if (geteuid() != 0 || mkdtemp(folder) == NULL || setenv("XDG_RUNTIME_DIR", folder, 1) != 0)
        return geteuid() != 0 ? 0 : -1;
    (void)unsetenv("SUDO_UID");
    (void)unsetenv("SUDO_GID");
    (void)snprintf(resolv_conf, sizeof resolv_conf, "%s/resolv.conf", folder);
    (void)snprintf(agent_resolv_conf, sizeof agent_resolv_conf, "%s/agent.conf", folder);
    (void)snprintf(output, sizeof output, "%s/output", folder);
    (void)snprintf(requests, sizeof requests, "%s/requests", folder);
    (void)snprintf(kubeconfig, sizeof kubeconfig, "%s/config", folder);
    write_file(kubeconfig, "apiVersion: v1\nkind: Config\ncurrent-context: kt\n"
                           "clusters: [{name: kt, cluster: {server: 'http://127.0.0.1:6443'}}]\n"
                           "users: [{name: me, user: {token: t}}]\n"
                           "contexts: [{name: kt, context: {cluster: kt, user: me, namespace: ems}}]\n");
    write_file(agent_resolv_conf, "nameserver 127.0.0.1\nsearch ems.svc.cluster.test svc.cluster.test cluster.test\n");
    resolv_conf_enter(resolv_conf);
    resolv_conf_write(resolv_conf, "nameserver " SERVER "\n");
    return 0;
}

static int leave_mounts(void **state KT_UNUSED)
{
    char runtime[64];
    (void)snprintf(runtime, sizeof runtime, "%s/ktvpn", folder);
    if (geteuid() == 0)
        resolv_conf_leave(resolv_conf);
    (void)unlink(agent_resolv_conf);
    (void)unlink(output);
    (void)unlink(requests);
    (void)unlink(kubeconfig);
    (void)rmdir(runtime);
    return geteuid() != 0 ? 0 : rmdir(folder);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_no_kubeconfig),     TEST(test_name_is_taken),          TEST(test_range_of_this_machine),
        TEST(test_joins_and_leaves),  TEST(test_signal_leaves),          TEST(test_second_signal_leaves_at_once),
        TEST(test_device_is_deleted), TEST(test_signal_while_it_starts), TEST(test_down_while_it_starts),
        TEST(test_nobody_listens),    TEST(test_another_agents_key),     TEST(test_agent_refuses),
        TEST(test_no_api_server),     TEST(test_signal_while_it_checks), TEST(test_second_signal_names_what_stays),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, enter_mounts, leave_mounts);
}
