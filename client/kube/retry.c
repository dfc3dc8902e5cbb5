#include "client/kube/retry.h"

/* 429 and 5xx with Retry-After: it says that the request was not carried out. */
int64_t retry_delay_ms(int status, int64_t retry_after_s, unsigned tries)
{
    if ((status != 429 && status / 100 != 5) || retry_after_s <= 0 || tries >= RETRY_TRIES_MAX ||
        retry_after_s > RETRY_DELAY_MAX_MS / 1000)
        return -1;
    return retry_after_s * 1000;
}
