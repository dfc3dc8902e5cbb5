/* SHA-1 (FIPS 180-4), only because RFC 6455 asks for it in Sec-WebSocket-Accept; libsodium rightly has none. It
 * protects nothing here. */
#ifndef KTVPN_CLIENT_KUBE_SHA1_H
#define KTVPN_CLIENT_KUBE_SHA1_H

#include <stddef.h>
#include <stdint.h>

#define SHA1_SIZE 20
#define SHA1_INPUT_MAX 119 /* two blocks, with the padding */

/* `size` is at most SHA1_INPUT_MAX. */
void sha1(uint8_t out[static SHA1_SIZE], const void *data, size_t size);

#endif
