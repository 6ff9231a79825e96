#ifndef STINT_ROLES_H
#define STINT_ROLES_H

#include <stdbool.h>

/* `line` holds the words the plugin left, in the form of the sandbox protocol. */
int guard_main(const char *line);
int parked_main(const char *line);
int pid1_main(bool restore);
int root_main(void);
int launcher_main(void);
int agent_main(int argc, char **argv);
int barrier_main(void);
int join_main(int argc, char **argv);
int files_main(void);
int rehearse_main(void);
int sockets_main(int argc, char **argv); /* argv: PIDs */
int ledger_main(const char *mode);
int hook_main(const char *verb, const char *socket_path, const char *job);

/* Ends like a process with this wait status: the same exit code, or killed by the same signal (without a core). */
_Noreturn void end_like(int wait_status);

#endif
