/* The Job of the agent, as text with a NUL behind it. See agent_manifest.c. */
    .section .rodata
    .global agent_job_json
agent_job_json:
    .incbin AGENT_JOB
    .byte 0
    .section .note.GNU-stack,"",%progbits
