/* Macros of libraries, for cppcheck, which does not see their headers. */
#define mnl_attr_for_each(attr, nlh, offset) for (attr = first(nlh, offset); attr; attr = next(attr))
#define cJSON_ArrayForEach(element, array) for (element = (array)->child; element; element = element->next)
#define LIST_HEAD(name, type)  \
    struct name {              \
        struct type *lh_first; \
    }
#define LIST_ENTRY(type)                 \
    struct {                             \
        struct type *le_next, **le_prev; \
    }
#define LIST_FIRST(head) ((head)->lh_first)
#define LIST_FOREACH(entry, head, field) for (entry = LIST_FIRST(head); entry; entry = entry->field.le_next)
