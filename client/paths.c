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

size_t paths_tries(const struct paths *paths)
{
    size_t tries = 0;
    for (size_t i = 0; i < paths->count; i++)
        tries += paths->path[i]->state != PATH_ACCEPTED;
    return tries;
}

bool paths_can_try(const struct paths *paths)
{
    return paths_tries(paths) < PATHS_TRIES_MAX && paths->count < PATHS_MAX;
}

struct path *paths_find_accepted(const struct paths *paths)
{
    for (size_t i = 0; i < paths->count; i++) {
        if (paths->path[i]->state == PATH_ACCEPTED)
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
