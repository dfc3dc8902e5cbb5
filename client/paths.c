#include "client/paths.h"

#include <assert.h>
#include <string.h>

void paths_add(struct paths *paths, struct path *path)
{
    assert(paths->count < PATHS_MAX);
    paths->path[paths->count++] = path;
}

bool paths_have(const struct paths *paths, const struct path *path)
{
    for (size_t i = 0; i < paths->count; i++) {
        if (paths->path[i] == path)
            return true;
    }
    return false;
}

static bool is_try(const struct path *path)
{
    return path->state != PATH_ACCEPTED && path->state != PATH_DRAINING;
}

size_t paths_tries(const struct paths *paths)
{
    size_t tries = 0;
    for (size_t i = 0; i < paths->count; i++)
        tries += is_try(paths->path[i]);
    return tries;
}

size_t paths_tries_of(const struct paths *paths, uint8_t slot)
{
    size_t tries = 0;
    for (size_t i = 0; i < paths->count; i++)
        tries += is_try(paths->path[i]) && paths->path[i]->open.slot == slot;
    return tries;
}

bool paths_can_try(const struct paths *paths)
{
    return paths_tries(paths) < PATHS_TRIES_MAX && paths->count < PATHS_MAX;
}

struct path *paths_find_used(const struct paths *paths, uint8_t slot)
{
    for (size_t i = 0; i < paths->count; i++) {
        if (paths->path[i]->is_attached && paths->path[i]->open.slot == slot)
            return paths->path[i];
    }
    return NULL;
}

struct path *paths_find_late(const struct paths *paths, uint64_t now_ms)
{
    for (size_t i = 0; i < paths->count; i++) {
        if (paths->path[i]->state != PATH_ACCEPTED && now_ms >= paths->path[i]->deadline_ms)
            return paths->path[i];
    }
    return NULL;
}

int paths_attach(struct paths *paths, struct path *path)
{
    int rc = path->is_attached ? 0 : session_attach(paths->session, &path->carrier);
    path->is_attached = rc == 0;
    return rc;
}

void paths_detach(struct paths *paths, struct path *path, uint64_t now_ms)
{
    if (path->is_attached)
        session_detach(paths->session, &path->carrier, now_ms);
    path->is_attached = false;
}

static void forget(struct paths *paths, const struct path *path)
{
    size_t i = 0;
    while (i < paths->count && paths->path[i] != path)
        i++;
    if (i == paths->count)
        return;
    paths->count--;
    memmove(&paths->path[i], &paths->path[i + 1], (paths->count - i) * sizeof paths->path[0]);
}

void paths_drop(struct paths *paths, struct path *path, uint64_t now_ms)
{
    paths_detach(paths, path, now_ms);
    forget(paths, path);
    path_close(path);
}

void paths_drop_others(struct paths *paths, const struct path *kept, uint64_t now_ms)
{
    for (size_t i = paths->count; i-- > 0;) {
        struct path *path = paths->path[i];
        if (path == kept)
            continue;
        path_say_close(path, WIRE_REASON_CARRIER);
        paths_drop(paths, path, now_ms);
    }
}

void paths_win(struct paths *paths, struct path *winner, uint64_t deadline_ms, uint64_t now_ms)
{
    for (size_t i = paths->count; i-- > 0;) {
        struct path *path = paths->path[i];
        if (path == winner || path->open.slot != winner->open.slot || path->state == PATH_DRAINING)
            continue;
        if (path->is_attached) {
            paths_detach(paths, path, now_ms);
            path_drain(path, deadline_ms);
            continue;
        }
        path_say_close(path, WIRE_REASON_CARRIER);
        paths_drop(paths, path, now_ms);
    }
}

void paths_tell_use(const struct paths *paths, uint32_t sequence)
{
    struct wire_use use = {.sequence = sequence};
    for (size_t i = 0; i < paths->count; i++) {
        if (paths->path[i]->is_attached)
            use.slots |= (uint8_t)(1u << paths->path[i]->open.slot);
    }
    uint8_t body[sizeof use];
    int size = wire_put_use(body, sizeof body, &use);
    for (size_t i = 0; size > 0 && i < paths->count; i++) {
        struct carrier_part part = {body, (size_t)size};
        if (paths->path[i]->is_attached && carrier_seal(&paths->path[i]->carrier, WIRE_USE, &part, 1) == 0)
            path_flush(paths->path[i]);
    }
}

void paths_say_bye(struct paths *paths, uint64_t now_ms)
{
    for (size_t i = paths->count; i-- > 0;) {
        if (paths->path[i]->state == PATH_ACCEPTED)
            path_say_close(paths->path[i], WIRE_REASON_BYE);
        else
            paths_drop(paths, paths->path[i], now_ms);
    }
}

bool paths_are_flushed(const struct paths *paths)
{
    for (size_t i = 0; i < paths->count; i++) {
        if (!path_is_flushed(paths->path[i]))
            return false;
    }
    return true;
}

void paths_flush(const struct paths *paths)
{
    for (size_t i = 0; i < paths->count; i++) {
        if (paths->path[i]->is_attached)
            path_flush(paths->path[i]);
    }
}
