/* The tree itself; what is refused in it is tested with kubeconfigs as well. */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "client/kube/yaml_tree.h"
#include "common/mem.h"

static int parse(struct yaml_node **out, const char *text, struct yaml_problem *problem)
{
    return yaml_tree_parse(out, (const uint8_t *)text, strlen(text), problem);
}

static void a_tree(void **state)
{
    (void)state;
    struct yaml_node *root;
    struct yaml_problem problem;
    long live = kt_mem_live();
    assert_int_equal(parse(&root, "a: 1\nb:\n- x\n- {y: 'null', z: null}\na: 2\n", &problem), 0);
    assert_int_equal(root->kind, YAML_MAP);
    assert_string_equal(yaml_tree_get(root, "a")->text, "2");
    const struct yaml_node *list = yaml_tree_get(root, "b");
    assert_int_equal(list->kind, YAML_LIST);
    assert_string_equal(list->child->text, "x");
    assert_int_equal(list->child->next->line, 4);
    assert_string_equal(yaml_tree_get(list->child->next, "y")->text, "null");
    assert_null(yaml_tree_get(list->child->next, "z"));
    assert_null(yaml_tree_get(list, "b"));
    assert_null(yaml_tree_get(NULL, "b"));
    yaml_tree_free(root);
    assert_int_equal(kt_mem_live(), live);
    assert_int_equal(parse(&root, "# nothing\n", &problem), 0);
    assert_null(root);
}

static void what_is_refused(void **state)
{
    (void)state;
    struct yaml_node *root;
    struct yaml_problem problem;
    static const char *const texts[] = {"a: [",
                                        "a: *b",
                                        "a: &x [*x]",
                                        "a: &x\n  b: *x",
                                        "a: &x 1\n*x : b",
                                        "a: &x {c: 1}\nb: {<<: *x}",
                                        "[a]: b",
                                        "a: \"\\0\"",
                                        "a: b: c",
                                        "- a\nb",
                                        "\"",
                                        "%YAML 9.9\n--- a"};
    for (size_t i = 0; i < KT_ARRAY_LEN(texts); i++) {
        if (parse(&root, texts[i], &problem) != -EBADMSG)
            fail_msg("%s was taken", texts[i]);
        assert_null(root);
        assert_in_range(problem.line, 1, 3);
        assert_int_not_equal(problem.text[0], '\0');
    }
}

static void an_alias_is_a_copy(void **state)
{
    (void)state;
    struct yaml_node *root;
    struct yaml_problem problem;
    long live = kt_mem_live();
    assert_int_equal(parse(&root, "a: &x {y: [1, '2']}\nb: *x\nc: [*x, &x plain, *x, *x]\n", &problem), 0);
    const struct yaml_node *list = yaml_tree_get(yaml_tree_get(root, "b"), "y");
    assert_string_equal(list->child->text, "1");
    assert_true(list->child->is_plain && !list->child->next->is_plain);
    const struct yaml_node *item = yaml_tree_get(root, "c")->child;
    assert_string_equal(yaml_tree_get(item, "y")->child->next->text, "2");
    assert_string_equal(item->next->next->text, "plain"); /* a later anchor takes the name */
    assert_string_equal(item->next->next->next->text, "plain");
    yaml_tree_free(root);
    assert_int_equal(kt_mem_live(), live);
}

/* Each line stands for ten of the one before. */
static void few_lines_cannot_stand_for_much(void **state)
{
    (void)state;
    static char text[200000];
    struct yaml_node *root;
    struct yaml_problem problem;
    long live = kt_mem_live();
    size_t at = (size_t)snprintf(text, sizeof text, "a0: &a0 x\n");
    for (int i = 1; i < 12; i++)
        at += (size_t)snprintf(text + at, sizeof text - at,
                               "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i - 1, i - 1,
                               i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    assert_int_equal(parse(&root, text, &problem), -EBADMSG);
    assert_string_equal(problem.text, "the aliases stand for too much");
    memset(text, 'x', sizeof text);
    memcpy(text, "a: &x ", 6);
    memcpy(text + 150000, "\nb: [", 5);
    at = 150005;
    for (int i = 0; i < 40; i++, at += 3)
        memcpy(text + at, "*x,", 3);
    memcpy(text + at, "]\n", 3);
    assert_int_equal(parse(&root, text, &problem), -EBADMSG);
    assert_string_equal(problem.text, "the aliases stand for too much");
    at = (size_t)snprintf(text, sizeof text, "a: &x 1\n");
    for (int i = 0; i < YAML_TREE_ANCHORS_MAX; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "b: &y%d 1\n", i);
    assert_int_equal(parse(&root, text, &problem), -EBADMSG);
    assert_string_equal(problem.text, "too many anchors");
    assert_int_equal(kt_mem_live(), live);
}

static void depth_has_an_end(void **state)
{
    (void)state;
    struct yaml_node *root;
    struct yaml_problem problem;
    char text[2 * (YAML_TREE_DEPTH_MAX + 1) + 1];
    for (int depth = YAML_TREE_DEPTH_MAX; depth <= YAML_TREE_DEPTH_MAX + 1; depth++) {
        memset(text, 0, sizeof text);
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        assert_int_equal(parse(&root, text, &problem), depth <= YAML_TREE_DEPTH_MAX ? 0 : -EBADMSG);
        yaml_tree_free(root);
    }
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    long live = kt_mem_live();
    int rc = -ENOMEM;
    for (unsigned long nth = 1; nth < 100 && rc != 0; nth++) {
        struct yaml_node *root;
        struct yaml_problem problem;
        kt_mem_fail_nth(nth);
        rc = parse(&root, "a: &x [b, {c: d}]\ne: *x\n", &problem);
        kt_mem_fail_nth(0);
        assert_true(rc == 0 || rc == -ENOMEM);
        yaml_tree_free(root);
        assert_int_equal(kt_mem_live(), live);
    }
    assert_int_equal(rc, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree),
        cmocka_unit_test(an_alias_is_a_copy),
        cmocka_unit_test(few_lines_cannot_stand_for_much),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(depth_has_an_end),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return unit_run(tests);
}
