/* Texts of ranges and addresses: what parses must print to something that parses to the same. Ranges, one a line, also
 * go into a set; those that begin with '-' are subtracted. */
#include "common/cidr.h"

#include <stdlib.h>
#include <string.h>

static void require(bool is_true)
{
    if (!is_true)
        abort();
}

static void try_line(struct cidr_set *set, const char *line)
{
    struct cidr cidr, again;
    struct address address, same;
    char text[CIDR_STRLEN], address_text[ADDRESS_STRLEN];
    bool subtracts = line[0] == '-';
    line += subtracts;
    if (address_parse(&address, line) == 0)
        require(address_parse(&same, address_print(&address, address_text)) == 0 && address_equal(&address, &same));
    if (cidr_parse(&cidr, line) != 0)
        return;
    require(cidr_parse(&again, cidr_print(&cidr, text)) == 0 && address_equal(&cidr.address, &again.address) &&
            cidr.prefix == again.prefix);
    int rc = subtracts ? cidr_set_subtract(set, &cidr) : cidr_set_add(set, &cidr);
    require(rc == 0 || set->count > CIDR_SET_MAX - 128);
    require(rc != 0 || cidr_set_contains(set, &cidr.address) == !subtracts);
    for (size_t i = 1; i < set->count; i++)
        require(address_compare(&set->range[i - 1].address, &set->range[i].address) < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cidr_set set;
    cidr_set_init(&set);
    char line[128];
    size_t at = 0;
    for (size_t i = 0; i < size; i++) {
        line[at] = data[i] == '\n' || at == sizeof line - 1 ? '\0' : (char)data[i];
        if (line[at++] != '\0')
            continue;
        try_line(&set, line);
        at = 0;
    }
    return 0;
}
