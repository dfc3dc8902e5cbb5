/* SHA-1 against the examples of FIPS 180-4, and at the sizes where the padding changes. */
#include "client/kube/sha1.h"

#include <sodium.h>
#include <string.h>

#include "tests/unit/unit.h"

static void expect_hash(const void *data, size_t size, const char *hex)
{
    uint8_t hash[SHA1_SIZE];
    char text[2 * SHA1_SIZE + 1];
    sha1(hash, data, size);
    assert_string_equal(sodium_bin2hex(text, sizeof text, hash, sizeof hash), hex);
}

static void examples_of_the_standard_agree(void **state)
{
    (void)state;
    expect_hash("", 0, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    expect_hash("abc", 3, "a9993e364706816aba3e25717850c26c9cd0d89d");
    static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    expect_hash(two_blocks, sizeof two_blocks - 1, "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
}

/* From `head -c N /dev/zero | tr '\0' a | sha1sum`. */
static void sizes_around_the_padding_agree(void **state)
{
    (void)state;
    static const struct {
        size_t size;
        const char *hex;
    } cases[] = {
        {1, "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"},   {54, "b05d71c64979cb95fa74a33cdb31a40d258ae02e"},
        {55, "c1c8bbdc22796e28c0e15163d20899b65621d65a"},  {56, "c2db330f6083854c99d4b5bfb6e8f29f201be699"},
        {63, "03f09f5b158a7a8cdad920bddc29b81c18a551f5"},  {64, "0098ba824b5c16427bd7a1122a5a442a25ec644d"},
        {65, "11655326c708d70319be2610e8a57d9a5b959d3b"},  {118, "d0572de8e494e0b7b8e50302003fc4ae0596ef4d"},
        {119, "ee971065aaa017e0632a8ca6c77bb3bf8b1dfc56"},
    };
    char text[SHA1_INPUT_MAX];
    memset(text, 'a', sizeof text);
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++)
        expect_hash(text, cases[i].size, cases[i].hex);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_of_the_standard_agree),
        cmocka_unit_test(sizes_around_the_padding_agree),
    };
    return unit_run(tests);
}
