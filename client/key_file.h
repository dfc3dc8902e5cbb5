/* The client's key, where it must be the same each time: an agent that listens on more than loopback lets in only those
 * whose public key it was told (--allow-key). One line of base64 in a file that only its owner may read; without such a
 * file each session draws a key that is never on disk. */
#ifndef KTVPN_CLIENT_KEY_FILE_H
#define KTVPN_CLIENT_KEY_FILE_H

#include <stdio.h>

#include "client/error.h"
#include "common/noise.h"

#define KEY_FILE_PATH_MAX 512

/* $XDG_CONFIG_HOME/ktvpn/key, else ~/.config/ktvpn/key. -ENOENT with `error`: neither variable says where. */
KT_MUST_USE int key_file_default(char path[static KEY_FILE_PATH_MAX], struct error *error);
/* 0, or -errno with `error`: -ENOENT: there is none; -EPERM: others may read it; -EBADMSG: it holds no key. The caller
 * wipes `keys`. */
KT_MUST_USE int key_file_read(struct noise_keypair *keys, const char *path, struct error *error);
/* Draws a key into a new file, and makes the folder that it is in. -EEXIST: there is one already. */
KT_MUST_USE int key_file_make(const char *path, struct error *error);

/* `ktvpn key`: prints the public key of the file (NULL: the default one), which it makes if there is none. */
KT_MUST_USE int key_file_run(const char *path, FILE *out, struct error *error);

/* Pure, for tests: the secret key from a file's bytes. -EBADMSG. */
KT_MUST_USE int key_file_parse(uint8_t secret[static NOISE_KEY_SIZE], const char *text, size_t size);

#endif
