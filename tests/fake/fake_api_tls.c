#include "tests/fake/fake_api_tls.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "tests/unit/unit.h"

#define DAY_S 86400L
#define PEM_MAX 4096

struct fake_api_tls {
    SSL_CTX *context;
    SSL *ssl;
    char certificate[PEM_MAX];
};

/* ALPN: takes h2 whenever a client offers it, as a real API server does. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size, const unsigned char *in,
                   unsigned in_size, void *context)
{
    static const unsigned char wish[] = "\x02h2\x08http/1.1";
    (void)ssl;
    (void)context;
    int rc = SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_size, wish, sizeof wish - 1, in, in_size);
    return rc == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *certificate = X509_new();
    assert_non_null(certificate);
    (void)X509_set_version(certificate, 2);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    (void)X509_gmtime_adj(X509_getm_notBefore(certificate), -DAY_S);
    (void)X509_gmtime_adj(X509_getm_notAfter(certificate), DAY_S);
    (void)X509_set_pubkey(certificate, key);
    X509_NAME *name = X509_get_subject_name(certificate);
    (void)X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"fake", -1, -1, 0);
    (void)X509_set_issuer_name(certificate, name);
    add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(certificate, NID_subject_alt_name, "IP:127.0.0.1");
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    return certificate;
}

static void keep_pem(struct fake_api_tls *tls, X509 *certificate)
{
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509(bio, certificate), 1);
    int size = BIO_read(bio, tls->certificate, PEM_MAX - 1);
    assert_true(size > 0);
    tls->certificate[size] = '\0';
    BIO_free(bio);
}

struct fake_api_tls *fake_api_tls_new(void)
{
    struct fake_api_tls *tls = test_calloc(1, sizeof *tls);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    assert_non_null(key);
    X509 *certificate = make_certificate(key);
    tls->context = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(tls->context, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(tls->context, key), 1);
    (void)SSL_CTX_set_mode(tls->context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_alpn_select_cb(tls->context, on_alpn, NULL);
    keep_pem(tls, certificate);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return tls;
}

void fake_api_tls_free(struct fake_api_tls *tls)
{
    if (tls == NULL)
        return;
    fake_api_tls_end(tls);
    SSL_CTX_free(tls->context);
    test_free(tls);
}

const char *fake_api_tls_certificate(const struct fake_api_tls *tls)
{
    return tls->certificate;
}

void fake_api_tls_accept(struct fake_api_tls *tls, int fd)
{
    tls->ssl = SSL_new(tls->context);
    assert_int_equal(SSL_set_fd(tls->ssl, fd), 1);
    SSL_set_accept_state(tls->ssl);
}

static ssize_t result_of(const struct fake_api_tls *tls, int rc)
{
    if (rc > 0)
        return rc;
    switch (SSL_get_error(tls->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        return -ECONNRESET;
    }
}

ssize_t fake_api_tls_read(struct fake_api_tls *tls, void *out, size_t size)
{
    return result_of(tls, SSL_read(tls->ssl, out, (int)size));
}

ssize_t fake_api_tls_write(struct fake_api_tls *tls, const void *data, size_t size)
{
    return result_of(tls, SSL_write(tls->ssl, data, (int)size));
}

void fake_api_tls_end(struct fake_api_tls *tls)
{
    if (tls->ssl != NULL)
        (void)SSL_shutdown(tls->ssl);
    SSL_free(tls->ssl);
    tls->ssl = NULL;
}
