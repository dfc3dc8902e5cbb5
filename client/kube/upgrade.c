/* The answer's head is taken apart line by line, only once all of it is there; until then only its first bytes are
 * looked at, so that what is no HTTP at all is refused at once. Stricter than a browser: no folded lines, no bare LF,
 * no control characters. */
#include "client/kube/upgrade.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "client/kube/upgrade_request.h"
#include "client/kube/websocket.h"

#define STATUS_LINE_MIN 12 /* "HTTP/1.1 101" */
#define SWITCHING_PROTOCOLS 101
#define CHUNK_SIZE_MAX (1u << 30)

struct text {
    const char *data;
    size_t size;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_text(struct text text, const char *word)
{
    return text.size == strlen(word) && strncasecmp(text.data, word, text.size) == 0;
}

static struct text trim(struct text text)
{
    for (; text.size > 0 && is_blank(text.data[0]); text.size--)
        text.data++;
    while (text.size > 0 && is_blank(text.data[text.size - 1]))
        text.size--;
    return text;
}

/* Cuts off what precedes the first `c`, or all. */
static struct text cut(struct text *rest, char c)
{
    const char *end = memchr(rest->data, c, rest->size);
    struct text head = {rest->data, end == NULL ? rest->size : (size_t)(end - rest->data)};
    size_t used = head.size + (end != NULL);
    *rest = (struct text){rest->data + used, rest->size - used};
    return head;
}

/* Is `word` an element of the comma-separated list? */
static bool has_token(struct text list, const char *word)
{
    while (list.size > 0) {
        if (is_text(trim(cut(&list, ',')), word))
            return true;
    }
    return false;
}

/* A value that may come once only. */
static int keep(char out[static UPGRADE_VALUE_MAX + 1], struct text value)
{
    if (out[0] != '\0' || value.size > UPGRADE_VALUE_MAX)
        return -EPROTO;
    memcpy(out, value.data, value.size);
    out[value.size] = '\0';
    return 0;
}

static int keep_length(struct upgrade_answer *answer, struct text value)
{
    size_t length = 0;
    if (value.size == 0 || value.size > 9)
        return -EPROTO;
    for (size_t i = 0; i < value.size; i++) {
        if (!is_digit(value.data[i]))
            return -EPROTO;
        length = length * 10 + (size_t)(value.data[i] - '0');
    }
    if (answer->has_length && answer->length != length)
        return -EPROTO;
    answer->has_length = true;
    answer->length = length;
    return 0;
}

static int on_header(struct upgrade_answer *answer, struct text name, struct text value)
{
    if (is_text(name, "Sec-WebSocket-Accept"))
        return keep(answer->accept, value);
    if (is_text(name, "Sec-WebSocket-Protocol"))
        return keep(answer->protocol, value);
    if (is_text(name, "Content-Length"))
        return keep_length(answer, value);
    if (is_text(name, "Sec-WebSocket-Extensions"))
        answer->has_extensions = value.size > 0;
    else if (is_text(name, "Upgrade"))
        answer->is_websocket |= has_token(value, "websocket");
    else if (is_text(name, "Connection"))
        answer->is_connection |= has_token(value, "Upgrade");
    else if (is_text(name, "Transfer-Encoding"))
        answer->is_chunked |= has_token(value, "chunked");
    return 0;
}

static int on_line(struct upgrade_answer *answer, struct text line)
{
    for (size_t i = 0; i < line.size; i++) {
        unsigned char c = (unsigned char)line.data[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return -EPROTO;
    }
    if (memchr(line.data, ':', line.size) == NULL)
        return -EPROTO;
    struct text value = line, name = cut(&value, ':');
    if (name.size == 0 || is_blank(name.data[0]) || is_blank(name.data[name.size - 1]))
        return -EPROTO;
    return on_header(answer, name, trim(value));
}

/* "HTTP/1.1 101 Switching Protocols" */
static int on_status_line(struct upgrade_answer *answer, struct text line)
{
    if (line.size < STATUS_LINE_MIN || !is_digit(line.data[7]) || line.data[8] != ' ')
        return -EPROTO;
    if (line.size > STATUS_LINE_MIN && line.data[STATUS_LINE_MIN] != ' ')
        return -EPROTO;
    for (size_t i = 9; i < STATUS_LINE_MIN; i++) {
        if (!is_digit(line.data[i]))
            return -EPROTO;
        answer->status = answer->status * 10 + (line.data[i] - '0');
    }
    return answer->status < 100 ? -EPROTO : 0;
}

int upgrade_get_answer(struct upgrade_answer *answer, const char *data, size_t size)
{
    static const char start[] = "HTTP/1.", end[] = "\r\n\r\n";
    if (memcmp(data, start, KT_MIN(size, sizeof start - 1)) != 0)
        return -EPROTO;
    const char *blank = memmem(data, size, end, sizeof end - 1);
    if (blank == NULL)
        return 0;
    *answer = (struct upgrade_answer){.head_size = (size_t)(blank - data) + sizeof end - 1};
    struct text rest = {data, (size_t)(blank - data) + 2};
    for (int rc = 1; rest.size > 0;) {
        struct text line = cut(&rest, '\n');
        if (line.size == 0 || line.data[line.size - 1] != '\r')
            return -EPROTO;
        line.size--;
        rc = rc == 1 ? on_status_line(answer, line) : on_line(answer, line);
        if (rc != 0)
            return rc;
    }
    return 1;
}

static const char *what_is_wrong(const struct upgrade_answer *answer, const struct upgrade_request *request)
{
    char accept[WEBSOCKET_ACCEPT_SIZE];
    websocket_accept_of(accept, request->key);
    if (answer->status != SWITCHING_PROTOCOLS)
        return "it is no 101";
    if (!answer->is_websocket || !answer->is_connection)
        return "it is no upgrade to a WebSocket";
    if (strcmp(answer->accept, accept) != 0)
        return "its Sec-WebSocket-Accept does not fit";
    if (!has_token((struct text){request->protocol, strlen(request->protocol)}, answer->protocol))
        return "it names another sub-protocol";
    return answer->has_extensions ? "it has extensions that nobody asked for" : NULL;
}

int upgrade_verify(const struct upgrade_answer *answer, const struct upgrade_request *request, const char **why)
{
    *why = what_is_wrong(answer, request);
    return *why == NULL ? 0 : -EPROTO;
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Reads a chunk's size line. 1: read; 0: more bytes are needed; -EPROTO. */
static int get_chunk_size(struct text *rest, size_t *size)
{
    if (memchr(rest->data, '\n', rest->size) == NULL)
        return 0;
    struct text line = cut(rest, '\n');
    *size = 0;
    if (line.size == 0 || hex_digit(line.data[0]) < 0)
        return -EPROTO;
    for (size_t i = 0; i < line.size && hex_digit(line.data[i]) >= 0; i++) {
        *size = *size * 16 + (size_t)hex_digit(line.data[i]);
        if (*size > CHUNK_SIZE_MAX)
            return -EPROTO;
    }
    return 1;
}

/* Two passes: the first only measures, so that a body that is not complete stays as it came. */
static bool unwrap(const char *data, size_t size, char *out, size_t *out_size)
{
    struct text rest = {data, size};
    *out_size = 0;
    for (;;) {
        size_t chunk;
        int rc = get_chunk_size(&rest, &chunk);
        if (rc <= 0 || chunk == 0)
            return rc != 0;
        size_t there = KT_MIN(chunk, rest.size);
        if (out != NULL)
            memmove(out + *out_size, rest.data, there);
        *out_size += there;
        if (rest.size < chunk + 2)
            return false;
        rest = (struct text){rest.data + chunk + 2, rest.size - chunk - 2};
    }
}

bool upgrade_get_body(const struct upgrade_answer *answer, char *data, size_t *size)
{
    size_t unwrapped;
    if (!answer->is_chunked) {
        if (!answer->has_length || *size < answer->length)
            return false;
        *size = answer->length;
        return true;
    }
    if (!unwrap(data, *size, NULL, &unwrapped))
        return false;
    (void)unwrap(data, *size, data, size);
    return true;
}
