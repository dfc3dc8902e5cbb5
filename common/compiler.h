/* What the compiler can check for us, under one name each. */
#ifndef KTVPN_COMMON_COMPILER_H
#define KTVPN_COMMON_COMPILER_H

#define KT_MUST_USE __attribute__((warn_unused_result))
#define KT_PRINTF(string, first) __attribute__((format(printf, string, first)))
#define KT_NORETURN __attribute__((noreturn))
#define KT_UNUSED __attribute__((unused))

#define KT_ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))
#define KT_MIN(a, b) ((a) < (b) ? (a) : (b))
#define KT_MAX(a, b) ((a) > (b) ? (a) : (b))

/* The struct that holds `member`, from a pointer to that member. */
#define KT_CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
