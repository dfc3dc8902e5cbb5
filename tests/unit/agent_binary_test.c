#include "client/agent_binary.h"

#include <string.h>

#include "tests/unit/unit.h"

/* Static, 64 bit, for x86-64, and small enough for a ConfigMap (1,048,576 bytes) with room for what comes. */
static void the_carried_agent_is_an_elf_program(void **state)
{
    (void)state;
    const struct agent_binary *binary = agent_binary_find("amd64");
    assert_non_null(binary);
    assert_string_equal(binary->arch, "amd64");
    assert_in_range(binary->size, 10000, 1000000);
    assert_memory_equal(binary->data,
                        "\x7f"
                        "ELF\2\1\1",
                        7);
    assert_int_equal(binary->data[18], 62);                         /* e_machine */
    assert_null(memmem(binary->data, binary->size, "ld-linux", 8)); /* no dynamic loader */
    assert_ptr_equal(agent_binary_find("amd64"), binary);
}

static void other_architectures_are_not_found(void **state)
{
    (void)state;
    assert_null(agent_binary_find("arm64"));
    assert_null(agent_binary_find("amd"));
    assert_null(agent_binary_find("AMD64"));
    assert_null(agent_binary_find(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_carried_agent_is_an_elf_program),
        cmocka_unit_test(other_architectures_are_not_found),
    };
    return unit_run(tests);
}
