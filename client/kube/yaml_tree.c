#include "client/kube/yaml_tree.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "common/mem.h"

struct parse {
    yaml_parser_t parser;
    struct yaml_node *root;
    struct yaml_node *open[YAML_TREE_DEPTH_MAX]; /* maps and lists that have not ended */
    size_t depth, nodes;
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
        parse->key = kt_strndup(text, size);
        return parse->key != NULL ? 0 : -ENOMEM;
    }
    struct yaml_node *node = add_node(parse, YAML_TEXT, line);
    if (node == NULL || (node->text = kt_strndup(text, size)) == NULL)
        return -ENOMEM;
    node->size = size;
    node->is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node->is_null = node->is_plain && is_null_text(node->text);
    return 0;
}

static int take_start(struct parse *parse, enum yaml_kind kind, size_t line)
{
    if (expects_key(parse))
        return complain(parse, line, "a key must be a plain text");
    if (parse->depth == YAML_TREE_DEPTH_MAX)
        return complain(parse, line, "nested too deeply");
    struct yaml_node *node = add_node(parse, kind, line);
    if (node == NULL)
        return -ENOMEM;
    parse->open[parse->depth++] = node;
    return 0;
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
        return take_start(parse, YAML_MAP, line);
    case YAML_SEQUENCE_START_EVENT:
        return take_start(parse, YAML_LIST, line);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        parse->depth--; /* libyaml sends as many ends as starts */
        return 0;
    case YAML_ALIAS_EVENT:
        return complain(parse, line, "aliases (*name) are not supported; write the value out");
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
