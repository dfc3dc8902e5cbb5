#include "unit.h"

#include <errno.h>
#include <string.h>

#include "client/kube/exec_credential.h"
#include "common/mem.h"

#define V1 "client.authentication.k8s.io/v1"
#define ANSWER(status) "{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1 "\",\"status\":" status "}"

static int parse(struct exec_credential *out, const char *text, const char **why)
{
    return exec_credential_parse(out, text, strlen(text), V1, why);
}

static void what_is_taken(void **state)
{
    (void)state;
    struct exec_credential c;
    const char *why;
    assert_int_equal(
        parse(&c, ANSWER("{\"token\":\"t0\",\"expirationTimestamp\":\"2030-01-02T03:04:05.5+01:00\"}") "\n", &why), 0);
    assert_string_equal(c.token, "t0");
    assert_true(c.expires);
    assert_int_equal(c.expires_s, 1893549845);
    assert_int_equal(c.certificate.size, 0);
    exec_credential_deinit(&c);
    assert_int_equal(
        parse(&c, ANSWER("{\"clientCertificateData\":\"C\",\"clientKeyData\":\"KK\",\"token\":null}"), &why), 0);
    assert_null(c.token);
    assert_false(c.expires);
    assert_int_equal(c.key.size, 2);
    assert_string_equal((char *)c.certificate.data, "C");
    exec_credential_deinit(&c);
}

static void what_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "no JSON"},
        {"{", "no JSON"},
        {"[]", "no JSON object"},
        {"{}", "no ExecCredential"},
        {"{\"kind\":\"Pod\",\"apiVersion\":\"" V1 "\"}", "no ExecCredential"},
        {"{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1 "beta1\",\"status\":{}}", "another apiVersion"},
        {"{\"kind\":\"ExecCredential\",\"status\":{}}", "another apiVersion"},
        {"{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1 "\"}", "without a status"},
        {ANSWER("null"), "without a status"},
        {ANSWER("{}"), "without a token"},
        {ANSWER("{\"token\":\"\"}"), "without a token"},
        {ANSWER("{\"token\":7}"), "no texts"},
        {ANSWER("{\"token\":\"a\\r\\nX: y\"}"), "bytes that no token has"},
        {ANSWER("{\"token\":\"a b\"}"), "bytes that no token has"},
        {ANSWER("{\"clientKeyData\":\"a\"}"), "only one of"},
        {ANSWER("{\"token\":\"t\",\"clientCertificateData\":\"a\"}"), "only one of"},
        {ANSWER("{\"token\":\"t\",\"expirationTimestamp\":\"soon\"}"), "no time"},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        struct exec_credential c;
        const char *why = "";
        assert_int_equal(parse(&c, cases[i].text, &why), -EBADMSG);
        if (strstr(why, cases[i].says) == NULL)
            fail_msg("%s: %s", cases[i].text, why);
        assert_null(c.token);
    }
}

static void times(void **state)
{
    (void)state;
    int64_t s = 0;
    assert_int_equal(exec_credential_time(&s, "1970-01-01T00:00:00Z"), 0);
    assert_int_equal(s, 0);
    assert_int_equal(exec_credential_time(&s, "2024-02-29T12:00:00-01:30"), 0);
    assert_int_equal(s, 1709213400);
    assert_int_equal(exec_credential_time(&s, "9999-12-31T23:59:59.123456789Z"), 0);
    static const char *const wrong[] = {"",
                                        "2024-01-01",
                                        "2024-01-01T00:00:00",
                                        "2024-01-01 00:00:00Z",
                                        "2023-02-29T00:00:00Z",
                                        "2024-13-01T00:00:00Z",
                                        "2024-00-01T00:00:00Z",
                                        "2024-01-00T00:00:00Z",
                                        "2024-01-01T24:00:00Z",
                                        "2024-01-01T00:60:00Z",
                                        "2024-01-01T00:00:00.Z",
                                        "2024-01-01T00:00:00Zx",
                                        "2024-01-01T00:00:00+1:00",
                                        "2024-01-01T00:00:00+0100",
                                        "-024-01-01T00:00:00Z"};
    for (size_t i = 0; i < KT_ARRAY_LEN(wrong); i++)
        assert_int_equal(exec_credential_time(&s, wrong[i]), -EBADMSG);
}

static void the_question(void **state)
{
    (void)state;
    char version[] = V1, server[] = "https://a:1", name[] = "n", extra[] = "{\"x\":[1]}", proxy[] = "http://p";
    uint8_t ca[] = "CA";
    struct kubeconfig_exec exec = {.api_version = version};
    struct kubeconfig config = {.exec = &exec, .server = server};
    char *text = exec_credential_info(&config, true);
    assert_string_equal(text,
                        "{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1 "\",\"spec\":{\"interactive\":true}}");
    kt_free(text);
    exec.wants_cluster = true;
    exec.cluster_config = extra;
    config.tls_server_name = name;
    config.insecure = true;
    config.proxy_url = proxy;
    config.ca = (struct kubeconfig_blob){ca, 2};
    text = exec_credential_info(&config, false);
    assert_string_equal(text,
                        "{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1 "\",\"spec\":{\"cluster\":{\"server\":"
                        "\"https://a:1\",\"tls-server-name\":\"n\",\"insecure-skip-tls-verify\":true,"
                        "\"certificate-authority-data\":\"Q0E=\",\"proxy-url\":\"http://p\",\"config\":{\"x\":[1]}},"
                        "\"interactive\":false}}");
    kt_free(text);
}

static void every_allocation_fails_once(void **state)
{
    (void)state;
    long live = kt_mem_live();
    int rc = -ENOMEM;
    for (unsigned long nth = 1; rc == -ENOMEM && nth < 20; nth++) {
        struct exec_credential c;
        const char *why;
        kt_mem_fail_nth(nth);
        rc = parse(&c, ANSWER("{\"clientCertificateData\":\"C\",\"clientKeyData\":\"K\",\"token\":\"t\"}"), &why);
        kt_mem_fail_nth(0);
        if (rc == 0)
            exec_credential_deinit(&c);
        assert_int_equal(kt_mem_live(), live);
    }
    assert_int_equal(rc, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_taken),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(times),
        cmocka_unit_test(the_question),
        cmocka_unit_test(every_allocation_fails_once),
    };
    return unit_run(tests);
}
