#include "client/host/rtnl.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <string.h>

#define ANSWER_MAX 32768 /* the kernel fills a dump's message with up to this much */

struct answer {
    void (*on_answer)(void *context, const struct nlmsghdr *answer);
    void *context;
};

int rtnl_open(struct rtnl *rtnl)
{
    *rtnl = (struct rtnl){.socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC)};
    if (rtnl->socket == NULL)
        return -errno;
    if (mnl_socket_bind(rtnl->socket, 0, MNL_SOCKET_AUTOPID) == 0)
        return 0;
    int rc = -errno;
    rtnl_close(rtnl);
    return rc;
}

void rtnl_close(struct rtnl *rtnl)
{
    if (rtnl->socket != NULL)
        (void)mnl_socket_close(rtnl->socket);
    rtnl->socket = NULL;
}

static struct nlmsghdr *head_of(struct rtnl_message *message)
{
    return (struct nlmsghdr *)(void *)message->bytes;
}

void *rtnl_begin(struct rtnl_message *message, uint16_t type, uint16_t flags, size_t size)
{
    message->is_full = false;
    struct nlmsghdr *head = mnl_nlmsg_put_header(message->bytes);
    head->nlmsg_type = type;
    head->nlmsg_flags = NLM_F_REQUEST | flags;
    if ((flags & NLM_F_DUMP) != NLM_F_DUMP)
        head->nlmsg_flags |= NLM_F_ACK;
    return mnl_nlmsg_put_extra_header(head, size);
}

void rtnl_put(struct rtnl_message *message, uint16_t attribute, const void *data, size_t size)
{
    if (!mnl_attr_put_check(head_of(message), sizeof message->bytes, attribute, size, data))
        message->is_full = true;
}

void rtnl_put_u32(struct rtnl_message *message, uint16_t attribute, uint32_t value)
{
    rtnl_put(message, attribute, &value, sizeof value);
}

void *rtnl_nest(struct rtnl_message *message, uint16_t attribute)
{
    struct nlattr *nest = mnl_attr_nest_start_check(head_of(message), sizeof message->bytes, attribute);
    if (nest == NULL)
        message->is_full = true;
    return nest;
}

void rtnl_nest_end(struct rtnl_message *message, void *nest)
{
    if (nest != NULL)
        mnl_attr_nest_end(head_of(message), nest);
}

static int on_message(const struct nlmsghdr *head, void *context)
{
    struct answer *answer = context;
    if (answer->on_answer != NULL)
        answer->on_answer(answer->context, head);
    return MNL_CB_OK;
}

static ssize_t receive(struct rtnl *rtnl, void *buffer, size_t size)
{
    ssize_t got;
    do {
        got = mnl_socket_recvfrom(rtnl->socket, buffer, size);
    } while (got < 0 && errno == EINTR);
    return got;
}

int rtnl_call(struct rtnl *rtnl, struct rtnl_message *message,
              void (*on_answer)(void *context, const struct nlmsghdr *answer), void *context)
{
    _Alignas(8) char buffer[ANSWER_MAX];
    struct answer answer = {.on_answer = on_answer, .context = context};
    struct nlmsghdr *head = head_of(message);
    unsigned port = mnl_socket_get_portid(rtnl->socket);
    if (message->is_full)
        return -EMSGSIZE;
    head->nlmsg_seq = ++rtnl->sequence;
    if (mnl_socket_sendto(rtnl->socket, head, head->nlmsg_len) < 0)
        return -errno;
    int rc = MNL_CB_OK;
    while (rc > MNL_CB_STOP) {
        ssize_t got = receive(rtnl, buffer, sizeof buffer);
        if (got < 0)
            return -errno;
        rc = mnl_cb_run(buffer, (size_t)got, head->nlmsg_seq, port, on_message, &answer);
    }
    return rc < 0 ? -errno : 0;
}
