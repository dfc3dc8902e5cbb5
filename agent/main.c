#include <stdio.h>

int main(void)
{
    (void)puts("ktvpn-agent " KTVPN_VERSION);
    return 0;
}
