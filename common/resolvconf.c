#include "common/resolvconf.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/mem.h"

#define LABEL_MAX 63 /* RFC 1035, 2.3.4 */

/* A piece of the text, without a NUL. */
struct piece {
    const char *text;
    size_t size;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Cuts the next line off `rest`. */
static bool next_line(struct piece *rest, struct piece *line)
{
    if (rest->size == 0)
        return false;
    const char *newline = memchr(rest->text, '\n', rest->size);
    line->text = rest->text;
    line->size = newline == NULL ? rest->size : (size_t)(newline - rest->text);
    size_t used = line->size + (newline != NULL);
    rest->text += used;
    rest->size -= used;
    return true;
}

/* Cuts the next word off `rest`. */
static bool next_word(struct piece *rest, struct piece *word)
{
    size_t start = 0;
    while (start < rest->size && is_blank(rest->text[start]))
        start++;
    size_t end = start;
    while (end < rest->size && !is_blank(rest->text[end]))
        end++;
    *word = (struct piece){rest->text + start, end - start};
    rest->text += end;
    rest->size -= end;
    return word->size > 0;
}

static bool is_text(const struct piece *piece, const char *text)
{
    return piece->size == strlen(text) && memcmp(piece->text, text, piece->size) == 0;
}

static void add_server(struct resolvconf *out, struct piece rest)
{
    struct piece word;
    char text[ADDRESS_STRLEN];
    if (out->servers == RESOLVCONF_SERVERS_MAX || !next_word(&rest, &word))
        return;
    size_t size = 0;
    while (size < word.size && word.text[size] != '#' && word.text[size] != ';')
        size++;
    if (size >= sizeof text)
        return;
    memcpy(text, word.text, size);
    text[size] = '\0';
    if (strlen(text) == size && address_parse(&out->server[out->servers], text) == 0)
        out->servers++;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* Writes `word` as a name; false when it is none, or the root ("search ."), which adds nothing to a name. */
static bool to_name(char out[static RESOLVCONF_NAME_MAX], struct piece word)
{
    if (word.size > 0 && word.text[word.size - 1] == '.')
        word.size--;
    if (word.size == 0 || word.size >= RESOLVCONF_NAME_MAX)
        return false;
    size_t label = 0;
    for (size_t i = 0; i < word.size; i++) {
        char c = lower(word.text[i]);
        if (c == '.' ? label == 0 : !is_name_byte(c) || label == LABEL_MAX)
            return false;
        label = c == '.' ? 0 : label + 1;
        out[i] = c;
    }
    out[word.size] = '\0';
    return label > 0;
}

static void set_search(struct resolvconf *out, struct piece rest, size_t limit)
{
    struct piece word;
    out->searches = 0;
    while (out->searches < limit && next_word(&rest, &word)) {
        if (to_name(out->search[out->searches], word))
            out->searches++;
    }
}

static void set_options(struct resolvconf *out, struct piece rest)
{
    static const char ndots[] = "ndots:";
    const size_t head = sizeof ndots - 1;
    struct piece word;
    while (next_word(&rest, &word)) {
        if (word.size <= head || memcmp(word.text, ndots, head) != 0)
            continue;
        unsigned value = 0;
        for (size_t i = head; i < word.size && word.text[i] >= '0' && word.text[i] <= '9'; i++)
            value = KT_MIN(value * 10 + (unsigned)(word.text[i] - '0'), RESOLVCONF_NDOTS_MAX);
        out->ndots = value;
    }
}

static void parse_line(struct resolvconf *out, struct piece line)
{
    struct piece keyword;
    if (line.size == 0 || is_blank(line.text[0]) || !next_word(&line, &keyword))
        return;
    if (is_text(&keyword, "nameserver"))
        add_server(out, line);
    else if (is_text(&keyword, "search"))
        set_search(out, line, RESOLVCONF_SEARCH_MAX);
    else if (is_text(&keyword, "domain"))
        set_search(out, line, 1);
    else if (is_text(&keyword, "options"))
        set_options(out, line);
}

void resolvconf_parse(struct resolvconf *out, const char *text, size_t size)
{
    *out = (struct resolvconf){.ndots = 1};
    struct piece rest = {text, size}, line;
    while (next_line(&rest, &line))
        parse_line(out, line);
    if (out->servers == 0)
        out->server[out->servers++] = address_v4(0x7f000001);
}

/* Reads up to `capacity` bytes of the file; its size or an error. */
static ssize_t read_file(const char *path, char *out, size_t capacity)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold us */
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    size_t size = 0;
    ssize_t n;
    do {
        n = read(fd, out + size, capacity - size);
        size += n > 0 ? (size_t)n : 0;
    } while (size < capacity && (n > 0 || (n < 0 && errno == EINTR)));
    int error = n < 0 ? -errno : 0;
    (void)close(fd);
    return error != 0 ? error : (ssize_t)size;
}

int resolvconf_read(struct resolvconf *out, const char *path)
{
    char *text = kt_calloc(1, RESOLVCONF_SIZE_MAX);
    if (text == NULL)
        return -ENOMEM;
    ssize_t size = read_file(path, text, RESOLVCONF_SIZE_MAX);
    bool is_cut = size == RESOLVCONF_SIZE_MAX;
    while (is_cut && size > 0 && text[size - 1] != '\n') /* half a line is none */
        size--;
    if (size >= 0)
        resolvconf_parse(out, text, (size_t)size);
    kt_free(text);
    return size < 0 ? (int)size : 0;
}
