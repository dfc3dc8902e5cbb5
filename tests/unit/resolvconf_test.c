/* resolv.conf as people and programs write it. */
#include "common/resolvconf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/mem.h"
#include "tests/unit/unit.h"

static struct resolvconf conf;

static void parse(const char *text)
{
    resolvconf_parse(&conf, text, strlen(text));
}

static void expect_server(size_t i, const char *text)
{
    char got[ADDRESS_STRLEN];
    assert_true(i < conf.servers);
    assert_string_equal(address_print(&conf.server[i], got), text);
}

static void pod_file(void **state)
{
    (void)state;
    parse("search ems.svc.cluster.local svc.cluster.local cluster.local\n"
          "nameserver 10.222.0.10\n"
          "options ndots:5\n");
    assert_int_equal(conf.servers, 1);
    expect_server(0, "10.222.0.10");
    assert_int_equal(conf.searches, 3);
    assert_string_equal(conf.search[0], "ems.svc.cluster.local");
    assert_string_equal(conf.search[2], "cluster.local");
    assert_int_equal(conf.ndots, 5);
}

static void empty_file_means_this_host(void **state)
{
    (void)state;
    parse("");
    assert_int_equal(conf.servers, 1);
    expect_server(0, "127.0.0.1");
    assert_int_equal(conf.searches, 0);
    assert_int_equal(conf.ndots, 1);
}

static void comments_blanks_and_families(void **state)
{
    (void)state;
    parse("# nameserver 1.1.1.1\n; nameserver 2.2.2.2\n\n"
          " nameserver 3.3.3.3\n" /* a keyword starts its line */
          "nameserver\t192.0.2.1 # mine\r\n"
          "nameserver 192.0.2.2;\n"
          "nameserver 2001:db8::1\n"
          "nameserver 192.0.2.4"); /* a fourth one, without a newline */
    assert_int_equal(conf.servers, 3);
    expect_server(0, "192.0.2.1");
    expect_server(1, "192.0.2.2");
    expect_server(2, "2001:db8::1");
}

static void lines_without_sense_are_skipped(void **state)
{
    (void)state;
    parse("nameserver\nnameserver \nnameservers 192.0.2.1\nnameserver 192.0.2\nnameserver fe80::1%eth0\n"
          "nameserver 1.2.3.4.5.6.7.8.9.1.2.3.4.5.6.7.8.9.1.2.3.4.5.6.7.8.9.1.2.3.4.5.6.7.8.9\nsearch\noptions\n"
          "sortlist 130.155.160.0\noptions rotate ndots: ndots:x\n");
    assert_int_equal(conf.servers, 1);
    expect_server(0, "127.0.0.1");
    assert_int_equal(conf.searches, 0);
    assert_int_equal(conf.ndots, 0); /* "ndots:x" is atoi("x"), as in glibc */
    resolvconf_parse(&conf, "nameserver 192.0.2.1\0x\n", 23);
    expect_server(0, "127.0.0.1");
}

static void last_of_search_and_domain_wins(void **state)
{
    (void)state;
    parse("domain one.test\nsearch two.test three.test\n");
    assert_int_equal(conf.searches, 2);
    assert_string_equal(conf.search[1], "three.test");
    parse("search two.test three.test\ndomain One.Test. four.test\n");
    assert_int_equal(conf.searches, 1);
    assert_string_equal(conf.search[0], "one.test");
}

static void bad_search_names_are_skipped(void **state)
{
    (void)state;
    char text[1000], label[65], name[300];
    memset(label, 'a', 64);
    label[64] = '\0';
    memset(name, 0, sizeof name);
    for (int i = 0; i < 254; i++)
        name[i] = i % 2 ? '.' : 'b'; /* 127 labels, 253 bytes and a dot */
    (void)snprintf(text, sizeof text, "search . .. a..b .a %s %s.%s \033[2Jx ok-1._tcp.test. %sb\n", name, label, "x",
                   name);
    parse(text);
    assert_int_equal(conf.searches, 2);
    assert_int_equal(strlen(conf.search[0]), 253);
    assert_string_equal(conf.search[1], "ok-1._tcp.test");
}

static void lists_have_an_end(void **state)
{
    (void)state;
    char text[2000] = "search";
    for (int i = 0; i < 100; i++)
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), " d%d.test", i);
    parse(text);
    assert_int_equal(conf.searches, RESOLVCONF_SEARCH_MAX);
    parse("options ndots:99999999999999999999\n");
    assert_int_equal(conf.ndots, RESOLVCONF_NDOTS_MAX);
}

static void reads_files(void **state)
{
    (void)state;
    char folder[] = "/tmp/ktvpn-resolvconf-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/resolv.conf", folder);
    assert_int_equal(resolvconf_read(&conf, path), 0); /* missing */
    expect_server(0, "127.0.0.1");
    assert_int_equal(resolvconf_read(&conf, folder), -EISDIR);

    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(file, "nameserver 192.0.2.1\n");
    assert_int_equal(fclose(file), 0);
    assert_int_equal(resolvconf_read(&conf, path), 0);
    expect_server(0, "192.0.2.1");
    kt_mem_fail_nth(1);
    assert_int_equal(resolvconf_read(&conf, path), -ENOMEM);

    file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < RESOLVCONF_SIZE_MAX - 21; i++)
        (void)fputc('\n', file);
    (void)fprintf(file, "nameserver 192.0.2.123\n"); /* the limit falls behind ".12" */
    assert_int_equal(fclose(file), 0);
    assert_int_equal(resolvconf_read(&conf, path), 0);
    expect_server(0, "127.0.0.1");

    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(resolvconf_read(&conf, path), 0); /* nobody writes: does not block */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(kt_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pod_file),
        cmocka_unit_test(empty_file_means_this_host),
        cmocka_unit_test(comments_blanks_and_families),
        cmocka_unit_test(lines_without_sense_are_skipped),
        cmocka_unit_test(last_of_search_and_domain_wins),
        cmocka_unit_test(bad_search_names_are_skipped),
        cmocka_unit_test(lists_have_an_end),
        cmocka_unit_test(reads_files),
    };
    return unit_run(tests);
}
