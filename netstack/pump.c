#include "netstack/pump.h"
