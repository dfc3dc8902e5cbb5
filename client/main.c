#include <stdio.h>

int main(void)
{
    (void)puts("ktvpn " KTVPN_VERSION);
    return 0;
}
