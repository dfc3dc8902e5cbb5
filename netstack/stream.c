#include "netstack/stream.h"
