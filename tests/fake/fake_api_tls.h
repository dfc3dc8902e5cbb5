/* The TLS half of the fake API server: a certificate made on the spot, and a server that would rather speak HTTP/2. */
#ifndef KTVPN_TESTS_FAKE_API_TLS_H
#define KTVPN_TESTS_FAKE_API_TLS_H

#include <stdint.h>
#include <sys/types.h>

struct fake_api_tls;

struct fake_api_tls *fake_api_tls_new(void);
void fake_api_tls_free(struct fake_api_tls *tls);
const char *fake_api_tls_certificate(const struct fake_api_tls *tls);
void fake_api_tls_accept(struct fake_api_tls *tls, int fd);
/* As recv() and send() with -errno. */
ssize_t fake_api_tls_read(struct fake_api_tls *tls, void *out, size_t size);
ssize_t fake_api_tls_write(struct fake_api_tls *tls, const void *data, size_t size);
/* Says close_notify and forgets the connection. */
void fake_api_tls_end(struct fake_api_tls *tls);

#endif
