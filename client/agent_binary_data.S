/* The static agent of this build, as bytes. See agent_binary.h. */
    .section .rodata
    .global agent_binary_amd64, agent_binary_amd64_end
    .balign 16
agent_binary_amd64:
    .incbin AGENT_BINARY
agent_binary_amd64_end:
    .section .note.GNU-stack,"",%progbits
