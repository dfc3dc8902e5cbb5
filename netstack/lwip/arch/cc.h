/* lwIP's view of the compiler. */
#ifndef LWIP_ARCH_CC_H
#define LWIP_ARCH_CC_H
#endif
