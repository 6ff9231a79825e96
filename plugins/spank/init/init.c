/* stint-init: the processes of a sandbox that are not the user's, one small role each. */
#include <stdio.h>
#include <string.h>

#include "roles.h"

int main(int argc, char **argv)
{
    const char *name = argc > 0 && strrchr(argv[0], '/') != NULL ? strrchr(argv[0], '/') + 1 : argv[0];
    if (argc > 0 && strcmp(name, "stint-barrier") == 0)
        return barrier_main();
    if (argc > 0 && strcmp(name, "stint-agent") == 0)
        return agent_main(argc, argv);
    if (argc == 3 && strcmp(argv[1], "guard") == 0)
        return guard_main(argv[2]);
    if (argc == 3 && strcmp(argv[1], "parked") == 0)
        return parked_main(argv[2]);
    if (argc == 3 && strcmp(argv[1], "pid1") == 0)
        return pid1_main(strcmp(argv[2], "restore") == 0);
    if (argc == 2 && strcmp(argv[1], "launcher") == 0)
        return launcher_main();
    if (argc == 2 && strcmp(argv[1], "root") == 0)
        return root_main();
    if (argc > 3 && strcmp(argv[1], "join") == 0)
        return join_main(argc - 2, argv + 2);
    if (argc == 2 && strcmp(argv[1], "files") == 0)
        return files_main();
    if (argc == 2 && strcmp(argv[1], "rehearse") == 0)
        return rehearse_main();
    if (argc > 2 && strcmp(argv[1], "sockets") == 0)
        return sockets_main(argc - 2, argv + 2);
    if (argc == 3 && strcmp(argv[1], "ledger") == 0)
        return ledger_main(argv[2]);
    if (argc == 5 && strcmp(argv[1], "hook") == 0)
        return hook_main(argv[2], argv[3], argv[4]);
    fputs("stint-init: started by the Slurm plugin, the daemon and Slurm's hooks, not by hand\n", stderr);
    return 2;
}
