#include "common/session.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "common/cursor.h"
#include "common/packet.h"

#define RANGE_BASE 0xc6120000u /* 198.18.0.0/15 */
#define RANGE_HOSTS (1u << 17)
#define RANGE_FIRST 2 /* not the range itself, and not its first address, which may be the far end's one day */

/* A ULA prefix (RFC 4193, 3.2.2) drawn once at random. */
static const uint8_t ula_prefix[6] = {0xfd, 0x6b, 0x74, 0x76, 0x70, 0x6e};

void session_addresses(const uint8_t key[static WIRE_KEY_SIZE], struct address *v4, struct address *v6)
{
    static const uint8_t purpose[] = "ktvpn session addresses";
    uint8_t hash[32];
    (void)crypto_generichash(hash, sizeof hash, key, WIRE_KEY_SIZE, purpose, sizeof purpose - 1);
    struct cursor cursor = cursor_reader(hash, sizeof hash);
    uint32_t host = RANGE_FIRST + cursor_u32(&cursor) % (RANGE_HOSTS - RANGE_FIRST - 1);
    *v4 = address_v4(RANGE_BASE + host);
    *v6 = (struct address){.family = ADDRESS_V6};
    memcpy(v6->bytes, ula_prefix, sizeof ula_prefix);
    cursor_copy(&cursor, v6->bytes + sizeof ula_prefix, 16 - sizeof ula_prefix);
}

int session_init(struct session *session, const uint8_t key[static WIRE_KEY_SIZE], size_t queue_bytes, uint64_t now_ms)
{
    *session = (struct session){.state = SESSION_NEW, .stalled_since_ms = now_ms};
    memcpy(session->key, key, WIRE_KEY_SIZE);
    session_addresses(key, &session->v4, &session->v6);
    return link_init(&session->link, queue_bytes, now_ms);
}

void session_deinit(struct session *session)
{
    link_deinit(&session->link);
    session->state = SESSION_ENDED;
}

int session_attach(struct session *session, struct carrier *carrier)
{
    if (session->state == SESSION_ENDED)
        return -ESHUTDOWN;
    int rc = link_attach(&session->link, carrier);
    if (rc == 0)
        session->state = SESSION_UP;
    return rc;
}

void session_detach(struct session *session, struct carrier *carrier, uint64_t now_ms)
{
    link_detach(&session->link, carrier, now_ms);
    if (session->state != SESSION_UP || link_is_up(&session->link))
        return;
    session->state = SESSION_STALLED;
    session->stalled_since_ms = now_ms;
}

void session_end(struct session *session)
{
    session->state = SESSION_ENDED;
}

bool session_tick(struct session *session, uint64_t now_ms)
{
    bool waits = session->state == SESSION_NEW || session->state == SESSION_STALLED;
    if (waits && now_ms - session->stalled_since_ms >= WIRE_SESSION_MS)
        session->state = SESSION_ENDED;
    return session->state == SESSION_ENDED;
}

bool session_owns(const struct session *session, const uint8_t *data, size_t size, bool from_client)
{
    struct packet packet;
    if (packet_parse(&packet, data, size) != 0)
        return false;
    const struct address *theirs = from_client ? &packet.source : &packet.target;
    return address_equal(theirs, &session->v4) || address_equal(theirs, &session->v6);
}
