#include "client/kube/yaml_tree.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "common/mem.h"

struct anchor {
    char *name;
    const struct yaml_node *node;
};

struct parse {
    yaml_parser_t parser;
    struct yaml_node *root;
    struct yaml_node *open[YAML_TREE_DEPTH_MAX]; /* maps and lists that have not ended */
    size_t depth, nodes, anchors, copied;        /* bytes */
    struct anchor anchor[YAML_TREE_ANCHORS_MAX];
    char *key; /* of the child that comes next */
    bool is_done;
    struct yaml_problem *problem;
};

static int complain(struct parse *parse, size_t line, const char *text)
{
    parse->problem->line = line;
    (void)snprintf(parse->problem->text, sizeof parse->problem->text, "%s", text);
    return -EBADMSG;
}

static bool is_null_text(const char *text)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    for (size_t i = 0; i < KT_ARRAY_LEN(nulls); i++) {
        if (strcmp(text, nulls[i]) == 0)
            return true;
    }
    return false;
}

static struct yaml_node *parent_of(const struct parse *parse)
{
    return parse->depth > 0 ? parse->open[parse->depth - 1] : NULL;
}

/* Links a new node to what is open. */
static struct yaml_node *add_node(struct parse *parse, enum yaml_kind kind, size_t line)
{
    struct yaml_node *node = kt_calloc(1, sizeof *node), *parent = parent_of(parse);
    if (node == NULL)
        return NULL;
    node->kind = kind;
    node->line = line;
    node->key = parse->key;
    parse->key = NULL;
    parse->nodes++;
    if (parent == NULL)
        parse->root = node;
    else if (parent->last == NULL)
        parent->child = node;
    else
        parent->last->next = node;
    if (parent != NULL)
        parent->last = node;
    return node;
}

/* A later anchor of the same name takes its place (YAML 1.2, 7.1). */
static int name_node(struct parse *parse, const yaml_char_t *name, const struct yaml_node *node)
{
    if (name == NULL)
        return 0;
    if (parse->anchors == YAML_TREE_ANCHORS_MAX)
        return complain(parse, node->line, "too many anchors");
    struct anchor *anchor = &parse->anchor[parse->anchors];
    anchor->name = kt_strndup((const char *)name, strlen((const char *)name));
    anchor->node = node;
    parse->anchors += anchor->name != NULL;
    return anchor->name != NULL ? 0 : -ENOMEM;
}

static const struct yaml_node *find_anchor(const struct parse *parse, const char *name)
{
    for (size_t i = parse->anchors; i-- > 0;) {
        if (strcmp(parse->anchor[i].name, name) == 0)
            return parse->anchor[i].node;
    }
    return NULL;
}

static bool is_open(const struct parse *parse, const struct yaml_node *node)
{
    for (size_t i = 0; i < parse->depth; i++) {
        if (parse->open[i] == node)
            return true;
    }
    return false;
}

static bool expects_key(const struct parse *parse)
{
    return parse->depth > 0 && parent_of(parse)->kind == YAML_MAP && parse->key == NULL;
}

static int take_text(struct parse *parse, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t size = event->data.scalar.length, line = event->start_mark.line + 1;
    if (memchr(text, '\0', size) != NULL)
        return complain(parse, line, "a NUL in a text");
    if (expects_key(parse)) {
        if (strcmp(text, "<<") == 0 && event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
            return complain(parse, line, "merge keys (<<) are not supported; write the values out");
        parse->key = kt_strndup(text, size);
        return parse->key != NULL ? 0 : -ENOMEM;
    }
    struct yaml_node *node = add_node(parse, YAML_TEXT, line);
    if (node == NULL || (node->text = kt_strndup(text, size)) == NULL)
        return -ENOMEM;
    node->size = size;
    node->is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node->is_null = node->is_plain && is_null_text(node->text);
    return name_node(parse, event->data.scalar.anchor, node);
}

static int take_start(struct parse *parse, enum yaml_kind kind, const yaml_char_t *anchor, size_t line)
{
    if (expects_key(parse))
        return complain(parse, line, "a key must be a plain text");
    if (parse->depth == YAML_TREE_DEPTH_MAX)
        return complain(parse, line, "nested too deeply");
    struct yaml_node *node = add_node(parse, kind, line);
    if (node == NULL)
        return -ENOMEM;
    parse->open[parse->depth++] = node;
    return name_node(parse, anchor, node);
}

/* A copy of `from` as the next child of what is open. Recursion ends at YAML_TREE_DEPTH_MAX. */
// NOLINTNEXTLINE(misc-no-recursion)
static int copy(struct parse *parse, const struct yaml_node *from, size_t line)
{
    if (parse->nodes >= YAML_TREE_NODES_MAX || parse->copied > YAML_TREE_COPIES_MAX)
        return complain(parse, line, "the aliases stand for too much");
    if (from->kind != YAML_TEXT && parse->depth == YAML_TREE_DEPTH_MAX)
        return complain(parse, line, "nested too deeply");
    struct yaml_node *node = add_node(parse, from->kind, from->line);
    if (node == NULL || (from->text != NULL && (node->text = kt_strndup(from->text, from->size)) == NULL))
        return -ENOMEM;
    node->size = from->size;
    node->is_null = from->is_null;
    node->is_plain = from->is_plain;
    parse->copied += from->size;
    if (from->kind == YAML_TEXT)
        return 0;
    parse->open[parse->depth++] = node;
    int rc = 0;
    for (const struct yaml_node *child = from->child; child != NULL && rc == 0; child = child->next) {
        if (child->key != NULL && (parse->key = kt_strndup(child->key, strlen(child->key))) == NULL)
            rc = -ENOMEM;
        else
            rc = copy(parse, child, line);
    }
    parse->depth--;
    return rc;
}

static int take_alias(struct parse *parse, const char *name, size_t line)
{
    const struct yaml_node *node = find_anchor(parse, name);
    if (expects_key(parse))
        return complain(parse, line, "a key must be a plain text");
    if (node == NULL)
        return complain(parse, line, "an alias (*name) without its anchor (&name)");
    if (is_open(parse, node))
        return complain(parse, line, "an alias (*name) inside of what it names");
    return copy(parse, node, line);
}

static int take_event(struct parse *parse, const yaml_event_t *event)
{
    size_t line = event->start_mark.line + 1;
    if (parse->nodes >= YAML_TREE_NODES_MAX)
        return complain(parse, line, "too many entries");
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return take_text(parse, event);
    case YAML_MAPPING_START_EVENT:
        return take_start(parse, YAML_MAP, event->data.mapping_start.anchor, line);
    case YAML_SEQUENCE_START_EVENT:
        return take_start(parse, YAML_LIST, event->data.sequence_start.anchor, line);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        parse->depth--; /* libyaml sends as many ends as starts */
        return 0;
    case YAML_ALIAS_EVENT:
        return take_alias(parse, (const char *)event->data.alias.anchor, line);
    case YAML_DOCUMENT_END_EVENT:
    case YAML_STREAM_END_EVENT:
        parse->is_done = true;
        return 0;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_DOCUMENT_START_EVENT:
        return 0;
    }
    return 0;
}

static int complain_of_syntax(struct parse *parse)
{
    const yaml_parser_t *parser = &parse->parser;
    if (parser->error == YAML_MEMORY_ERROR)
        return -ENOMEM;
    return complain(parse, parser->problem_mark.line + 1, parser->problem != NULL ? parser->problem : "broken YAML");
}

static int next_event(struct parse *parse)
{
    yaml_event_t event;
    if (!yaml_parser_parse(&parse->parser, &event))
        return complain_of_syntax(parse);
    int rc = take_event(parse, &event);
    yaml_event_delete(&event);
    return rc;
}

int yaml_tree_parse(struct yaml_node **out, const uint8_t *data, size_t size, struct yaml_problem *problem)
{
    struct parse parse = {.problem = problem};
    int rc = 0;
    if (!yaml_parser_initialize(&parse.parser))
        return -ENOMEM;
    yaml_parser_set_input_string(&parse.parser, data, size);
    while (rc == 0 && !parse.is_done)
        rc = next_event(&parse);
    yaml_parser_delete(&parse.parser);
    kt_free(parse.key);
    for (size_t i = 0; i < parse.anchors; i++)
        kt_free(parse.anchor[i].name);
    if (rc != 0) {
        yaml_tree_free(parse.root);
        parse.root = NULL;
    }
    *out = parse.root;
    return rc;
}

/* Recursion ends at YAML_TREE_DEPTH_MAX. NOLINTNEXTLINE(misc-no-recursion) */
void yaml_tree_free(struct yaml_node *root)
{
    while (root != NULL) {
        struct yaml_node *next = root->next;
        yaml_tree_free(root->child);
        kt_free(root->key);
        kt_free_secret(root->text, root->size);
        kt_free(root);
        root = next;
    }
}

const struct yaml_node *yaml_tree_get(const struct yaml_node *map, const char *key)
{
    const struct yaml_node *found = NULL;
    if (map == NULL || map->kind != YAML_MAP)
        return NULL;
    for (const struct yaml_node *at = map->child; at != NULL; at = at->next) {
        if (strcmp(at->key, key) == 0)
            found = at;
    }
    return found != NULL && !found->is_null ? found : NULL;
}
