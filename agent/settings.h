/* The agent's settings, from its command line. */
#ifndef KTVPN_AGENT_SETTINGS_H
#define KTVPN_AGENT_SETTINGS_H
#endif
