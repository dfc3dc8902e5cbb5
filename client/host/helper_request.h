/* What the parent asks of the privileged helper, and what is answered: fixed-size structs on a SOCK_SEQPACKET pair
 * between two copies of the same program, so the layout is the compiler's. No request can name a device: the helper
 * knows only its own. */
#ifndef KTVPN_CLIENT_HOST_HELPER_REQUEST_H
#define KTVPN_CLIENT_HOST_HELPER_REQUEST_H

#include <stddef.h>
#include <stdint.h>

#include "common/cidr.h"

#define HELPER_ROUTES_MAX 4096 /* of one device */
#define HELPER_MTU_MIN 1280    /* RFC 8200 5 */

#define HELPER_ALIAS_MAX 64 /* with its NUL */

enum helper_operation { HELPER_OPEN_TUN = 1, HELPER_ADD_ROUTE = 2, HELPER_REMOVE_ROUTE = 3, HELPER_RESTORE_TUN = 4 };

struct helper_request {
    uint32_t operation;
    uint16_t mtu;                 /* HELPER_OPEN_TUN */
    struct address v4, v6;        /* HELPER_OPEN_TUN; family ADDRESS_NONE: none */
    struct cidr to;               /* the routes */
    char alias[HELPER_ALIAS_MAX]; /* HELPER_OPEN_TUN: letters, digits, ". _ -", then zeros; empty: none */
};

/* What failed, so that the parent can say it in words. */
enum helper_step {
    HELPER_STEP_NONE,
    HELPER_STEP_FILE,     /* open /dev/net/tun */
    HELPER_STEP_CREATE,   /* TUNSETIFF */
    HELPER_STEP_IDENTITY, /* give up privileges */
    HELPER_STEP_LINK,
    HELPER_STEP_ADDRESS,
    HELPER_STEP_ROUTE,
    HELPER_STEP_REQUEST, /* the request makes no sense */
};

struct helper_answer {
    int32_t rc;
    uint32_t step;  /* enum helper_step */
    uint32_t index; /* HELPER_OPEN_TUN: with the descriptor as SCM_RIGHTS */
    uint32_t has_v6;
    char name[16];
};

/* The request in `size` received bytes; -EBADMSG when the size, the operation or any field of it is out of its range.
 */
KT_MUST_USE int helper_request_check(struct helper_request *out, const void *data, size_t size);

#endif
