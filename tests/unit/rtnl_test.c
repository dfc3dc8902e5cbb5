/* One rtnetlink request and its answer. */
#include "client/host/rtnl.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>

#include "tests/unit/netns.h"

static void on_link(void *context, const struct nlmsghdr *answer)
{
    int *links = context;
    assert_int_equal(answer->nlmsg_type, RTM_NEWLINK);
    (*links)++;
}

static int get_link(struct rtnl *rtnl, int index, int *links)
{
    struct rtnl_message message;
    struct ifinfomsg *head = rtnl_begin(&message, RTM_GETLINK, 0, sizeof *head);
    head->ifi_index = index;
    return rtnl_call(rtnl, &message, on_link, links);
}

static void answers_and_errors_are_the_kernels(void **state)
{
    (void)state;
    struct netns netns;
    struct rtnl rtnl;
    int links = 0;
    netns_enter(&netns);
    assert_int_equal(rtnl_open(&rtnl), 0);
    assert_int_equal(get_link(&rtnl, 1, &links), 0);
    assert_int_equal(links, 1);
    assert_int_equal(get_link(&rtnl, 777, &links), -ENODEV);
    assert_int_equal(get_link(&rtnl, 1, &links), 0); /* an error leaves nothing behind */
    assert_int_equal(links, 2);

    struct rtnl_message message;
    struct ifinfomsg *head = rtnl_begin(&message, RTM_GETLINK, NLM_F_DUMP, sizeof *head);
    assert_int_equal(head->ifi_index, 0);
    assert_int_equal(rtnl_call(&rtnl, &message, on_link, &links), 0);
    assert_true(links >= 3);
    assert_int_equal(rtnl_call(&rtnl, &message, NULL, NULL), 0);
    rtnl_close(&rtnl);
    rtnl_close(&rtnl);
    netns_leave(&netns);
}

static void a_message_that_is_too_long_is_not_sent(void **state)
{
    (void)state;
    static const uint8_t large[RTNL_MESSAGE_MAX];
    struct rtnl rtnl;
    struct rtnl_message message;
    assert_int_equal(rtnl_open(&rtnl), 0);
    (void)rtnl_begin(&message, RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg));
    rtnl_put(&message, IFLA_IFNAME, large, sizeof large);
    rtnl_put_u32(&message, IFLA_MTU, 1); /* what fits does not heal it */
    assert_int_equal(rtnl_call(&rtnl, &message, NULL, NULL), -EMSGSIZE);

    (void)rtnl_begin(&message, RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg));
    for (int i = 0; i < 1000; i++)
        rtnl_put_u32(&message, IFLA_MTU, 1);
    assert_int_equal(rtnl_call(&rtnl, &message, NULL, NULL), -EMSGSIZE);

    (void)rtnl_begin(&message, RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg));
    for (int i = 0; i < 1000; i++)
        (void)rtnl_nest(&message, IFLA_AF_SPEC);
    rtnl_nest_end(&message, NULL);
    assert_int_equal(rtnl_call(&rtnl, &message, NULL, NULL), -EMSGSIZE);
    rtnl_close(&rtnl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_and_errors_are_the_kernels),
        cmocka_unit_test(a_message_that_is_too_long_is_not_sent),
    };
    return unit_run(tests);
}
