/* One TCP connection through the netstack: a pcb of lwIP on the side of the packets, a socket on the other.
 *
 *   SYN --> DIALLING: connect() runs, the SYN is held            --refused--> RST    --unreachable--> ICMP       -->
 * DEAD | connected: lwIP gets the SYN, answers SYN-ACK ANSWERING: waits for the third packet of the handshake | accept
 *            OPEN: bytes go both ways; each way ends by its own FIN
 *              | lwIP has finished in order (both FINs are acknowledged)
 *          DRAINING: no pcb; what the client sent last still waits for room in the socket
 *              |
 *            DEAD: in the table's list of dead until flow_reap(); also from every other state, by a reset of either
 * side
 *
 * DIALLING, ANSWERING and OPEN flows are in the hash table. `pcb` is valid in ANSWERING and OPEN only.
 * Ownership: the table owns its flows. Memory is freed only by flow_reap(), so that whoever holds a flow during a turn
 * may go on. */
#ifndef KTVPN_NETSTACK_FLOW_H
#define KTVPN_NETSTACK_FLOW_H

#include "netstack/endpoint.h"
#include "netstack/pcb_index.h"

/* Memory: each flow may always hold FLOW_OWN_BYTES in each direction, and up to TCP_WND or TCP_SND_BUF as long as all
 * flows together have not more than FLOW_SHARED_MAX beyond (received: of window granted; to be sent: of bytes in lwIP).
 */
#define FLOW_OWN_BYTES (128 * 1024)
#define FLOW_SHARED_MAX (64 * 1024 * 1024)

enum flow_state { FLOW_DIALLING, FLOW_ANSWERING, FLOW_OPEN, FLOW_DRAINING, FLOW_DEAD };

struct netstack;
struct held_syn;
struct flow_chunk;

struct flow {
    struct endpoint endpoint; /* first: endpoint.c knows only it */
    struct netstack *netstack;
    struct flow *next; /* in its bucket */
    struct netstack_flow key;
    enum flow_state state;
    unsigned bucket;
    struct tcp_pcb *pcb;
    struct held_syn *syn; /* DIALLING only */

    /* From packets to the socket. */
    struct flow_chunk *first, *last; /* what the socket did not take yet */
    uint32_t window;                 /* bytes that the client may have under way or here */
    uint32_t heard_tick;             /* when data came last */
    bool has_fin;                    /* the client's FIN came */
    bool is_shut;                    /* and was passed on */
    bool is_deaf;                    /* the socket takes nothing more: what comes is thrown away */
    /* From the socket to packets. */
    uint32_t queued; /* in lwIP, not yet acknowledged */
    bool has_eof;    /* the socket's end was read, and lwIP has it as FIN */
    bool has_error;  /* the socket was reset: RST follows the last byte */
    bool must_abort; /* found inside of lwIP's callbacks, done after it */

    struct list touched;     /* segments came in this batch */
    struct list waiting;     /* output found no room */
    struct list half_closed; /* exactly one FIN came, oldest activity first */
};

struct flow_table {
    struct pcb_index pcbs;
    struct flow *bucket[PCB_BUCKETS];
    struct list touched, waiting_small, waiting_bulk, half_closed, draining, dead;
    uint64_t windows, queued; /* of all flows together; windows: beyond FLOW_OWN_BYTES each */
    uint32_t count;           /* all that are not DEAD */
    uint32_t max;             /* NETSTACK_FLOWS_MAX; a test may set less */
};

KT_MUST_USE int flow_table_init(struct netstack *netstack);
/* Resets every flow, and frees all. */
void flow_table_deinit(struct netstack *netstack);

/* A TCP segment. -EBADMSG: malformed. -ENOBUFS: over the cap, or no memory: it was dropped. */
KT_MUST_USE int flow_input(struct netstack *netstack, const struct packet *packet, const uint8_t *data);
/* Sends what the last batch asks for: acknowledgements first. */
void flow_input_done(struct netstack *netstack);

/* The socket's flags have changed. */
void flow_on_edge(struct flow *flow);
/* Reads from the socket into lwIP, once. False: it need not be called again before the next edge or ACK. */
bool flow_pull(struct flow *flow);

void flow_resume(struct netstack *netstack);
/* Sends what the flows have under way again: all flows, or those of which is_lost() says so. */
void flow_resend(struct netstack *netstack, bool (*is_lost)(void *context, const struct netstack_flow *flow),
                 void *context);
void flow_tick(struct netstack *netstack);
void flow_reap(struct netstack *netstack);

/* Between flow.c, flow_rx.c and flow_tx.c. */

/* lwIP's way out: one packet to the owner. ERR_MEM: no room now. */
err_t flow_output(struct netif *netif, struct pbuf *packet, const ip4_addr_t *to);
err_t flow_output_v6(struct netif *netif, struct pbuf *packet, const ip6_addr_t *to);
/* lwIP's callback of data and FIN; always ERR_OK. */
err_t flow_on_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *data, err_t error);
/* Writes what waits to the socket; inside enter and leave if there is a pcb. */
void flow_flush(struct flow *flow);
void flow_drop_chunks(struct flow *flow);
/* Lets lwIP send, and queues the flow if the owner had no room; inside enter and leave. */
void flow_push(struct flow *flow);
/* The socket is broken: what was read before it still goes out, and the ACK of the last byte brings the RST. */
void flow_fail(struct flow *flow);
/* After each call into lwIP for this flow, inside the same enter and leave: ends it if that call found a reason, and
 * looks whether its socket may be read now. */
void flow_settle(struct flow *flow);
/* May be read from now? then it joins the ready list. */
void flow_wake(struct flow *flow);

#endif
