/* A doubly linked list inside its elements (musl has no sys/queue.h). An element that is in no list points at itself.
 */
#ifndef KTVPN_NETSTACK_LIST_H
#define KTVPN_NETSTACK_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "common/compiler.h"

struct list {
    struct list *next, *previous;
};

static inline void list_init(struct list *list)
{
    list->next = list->previous = list;
}

/* Of a head: nothing is in it. Of an element: it is in no list. */
static inline bool list_is_empty(const struct list *list)
{
    return list->next == list;
}

static inline void list_remove(struct list *element)
{
    element->next->previous = element->previous;
    element->previous->next = element->next;
    list_init(element);
}

/* Takes it out of where it was first. */
static inline void list_move_to_end(struct list *head, struct list *element)
{
    list_remove(element);
    element->previous = head->previous;
    element->next = head;
    head->previous->next = element;
    head->previous = element;
}

/* Everything of `from` goes to the end of `to`. */
static inline void list_splice(struct list *to, struct list *from)
{
    if (list_is_empty(from))
        return;
    from->next->previous = to->previous;
    to->previous->next = from->next;
    from->previous->next = to;
    to->previous = from->previous;
    list_init(from);
}

#define list_first(head, type, member) KT_CONTAINER_OF((head)->next, type, member)

#endif
