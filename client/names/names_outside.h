/* One question to the machine's own servers, as the machine's resolver would have asked them: server after server until
 * one answers, from the device that led to it before.
 *
 * Against forged answers: a new socket, so a new port, and a new id for each try; the socket is connected to the
 * server; the answer must have the id and the question. What is asked and what comes back goes through unchanged, but
 * for the id. */
#ifndef KTVPN_CLIENT_NAMES_OUTSIDE_H
#define KTVPN_CLIENT_NAMES_OUTSIDE_H

#include "client/names.h"

#define NAMES_OUTSIDE_TRIES 3

/* What all questions share. `rx` is used inside one callback only. */
struct names_outside_room {
    struct uv_loop_s *loop;
    const struct names_upstream *upstream;
    size_t upstreams;
    uint64_t try_ms;
    size_t sockets; /* open ones */
    uint8_t rx[DNS_MESSAGE_MAX];
};

struct names_outside;

struct names_outside_call {
    const uint8_t *message; /* copied */
    size_t size;
    size_t question_end; /* of struct dns_question; DNS_HEADER_SIZE: no question to compare (an UPDATE) */
    bool is_tcp;         /* the asker came by TCP, so a truncated answer is asked for again by TCP */
    void *context;
    /* Once; `message` NULL: nobody answered. Its id is the asked message's, and it may be changed. */
    void (*done)(void *context, uint8_t *message, size_t size);
};

/* NULL: no memory. */
KT_MUST_USE struct names_outside *names_outside_start(struct names_outside_room *room,
                                                      const struct names_outside_call *call, uint64_t now_ms);
/* Call every few ms: a try that has taken room->try_ms is given up. */
void names_outside_tick(struct names_outside *outside, uint64_t now_ms);
/* done() does not come any more; the memory goes later, on the loop. Also after done(). NULL is fine. */
void names_outside_stop(struct names_outside *outside);

/* Is `answer` an answer to `query`, whose question section ends at `question_end`? Compares the question's name without
 * case. */
bool names_outside_fits(const uint8_t *query, size_t question_end, const uint8_t *answer, size_t size);

#endif
