/* Any bytes as a credential plugin's answer. */
#include <stdint.h>
#include <stdlib.h>

#include "client/kube/exec_credential.h"
#include "client/kube/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct exec_credential credential;
    const char *why = NULL;
    if (exec_credential_parse(&credential, (const char *)data, size, "client.authentication.k8s.io/v1", &why) != 0) {
        if (why == NULL)
            abort();
        return 0;
    }
    if ((credential.token != NULL && !header_is_token(credential.token)) ||
        (credential.certificate.size > 0) != (credential.key.size > 0))
        abort();
    exec_credential_deinit(&credential);
    return 0;
}
