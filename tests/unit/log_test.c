#include "common/log.h"

#include <string.h>

#include "tests/unit/unit.h"

struct sink {
    int lines;
    enum log_level level;
    char last[2 * LOG_LINE_MAX];
};

static void on_line(void *context, enum log_level level, const char *line)
{
    struct sink *sink = context;
    sink->lines++;
    sink->level = level;
    strncpy(sink->last, line, sizeof sink->last - 1);
}

static void levels_are_kept(void **state)
{
    (void)state;
    struct sink sink = {0};
    log_open(on_line, &sink, LOG_LEVEL_WARNING);
    log_info("session %d: no", 7);
    log_debug("no");
    assert_int_equal(sink.lines, 0);
    log_warning("session %d: stalled", 7);
    assert_string_equal(sink.last, "session 7: stalled");
    assert_int_equal(sink.level, LOG_LEVEL_WARNING);
    log_error("bad");
    assert_int_equal(sink.level, LOG_LEVEL_ERROR);
    log_open(on_line, &sink, LOG_LEVEL_DEBUG);
    log_debug("fine");
    log_info("fine");
    assert_int_equal(sink.lines, 4);
    log_open(NULL, NULL, LOG_LEVEL_INFO);
}

static void long_lines_are_cut(void **state)
{
    (void)state;
    struct sink sink = {0};
    log_open(on_line, &sink, LOG_LEVEL_INFO);
    char text[3 * LOG_LINE_MAX];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    log_info("%s", text);
    assert_int_equal(strlen(sink.last), LOG_LINE_MAX - 1);
    log_open(NULL, NULL, LOG_LEVEL_INFO);
}

static void limit_lets_a_burst_through(void **state)
{
    (void)state;
    struct log_limit limit = {0};
    int allowed = 0;
    for (uint64_t now = 500; now < 1500; now++)
        allowed += log_allowed(&limit, 3, 1000, now);
    assert_int_equal(allowed, 3);
    assert_true(log_allowed(&limit, 3, 1000, 1500)); /* a new period */
    for (int i = 0; i < 100000; i++)
        allowed += log_allowed(&limit, 3, 1000, 1501);
    assert_int_equal(allowed, 5);
    limit = (struct log_limit){0};
    assert_false(log_allowed(&limit, 0, 1000, 1));
    assert_true(log_allowed(&limit, 1, 1000, UINT64_MAX));
}

static void escaped(const char *text, size_t size, size_t room, const char *want)
{
    char out[64];
    memset(out, '#', sizeof out);
    assert_ptr_equal(log_escape(out, room, text, size), out);
    assert_string_equal(out, want);
    assert_int_equal(out[room], '#');
}

static void unprintable_bytes_are_escaped(void **state)
{
    (void)state;
    escaped("plain ~", 7, 63, "plain ~");
    escaped("a\nb\x1b[2J\x7f\xff", 9, 63, "a\\x0ab\\x1b[2J\\x7f\\xff");
    escaped("back\\slash", 10, 63, "back\\x5cslash"); /* or "\x0a" could be forged */
    escaped("a\0b", 3, 63, "a\\x00b");
    escaped("abcdef", 6, 4, "abc");
    escaped("a\n\n", 3, 6, "a\\x0a");
    escaped("a\n\n", 3, 9, "a\\x0a"); /* never half an escape */
    escaped("a\n\n", 3, 10, "a\\x0a\\x0a");
    escaped("abc", 3, 1, "");
    escaped("", 0, 1, "");
    char out[1] = {'#'};
    (void)log_escape(out, 0, "abc", 3); /* no room even for NUL */
    assert_int_equal(out[0], '#');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_are_kept),
        cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(limit_lets_a_burst_through),
        cmocka_unit_test(unprintable_bytes_are_escaped),
    };
    return unit_run(tests);
}
