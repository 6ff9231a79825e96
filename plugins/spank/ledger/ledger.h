#ifndef STINT_LEDGER_H
#define STINT_LEDGER_H

#include <stdbool.h>
#include <stddef.h>

/* ledger_sockets.c: options. The table is the daemon's; its order gives each option its index. */
bool ledger_add_option(char *words);
void ledger_record_socket(int pid, int fd, int socket);
void ledger_put_options(int pid, int fd, int socket, char *values);

/* ledger_groups.c: multicast groups. The words of a group end with its sources. */
void ledger_record_groups(int pid, int fd, int socket, int domain);
void ledger_put_group(int pid, int fd, int socket, char *words);

/* ledger_timers.c: timerfds set to a time of day. */
void ledger_record_timer(int pid, int fd);
void ledger_put_timer(int pid, int fd, int timer, char *words);

/* ledger_threads.c: affinity, and what a thread does not share with its process. */
void ledger_record_threads(int pid);
void ledger_put_affinity(int tid, const char *mask);
void ledger_look_at_threads(int pid);

/* ledger_attributes.c: what the kernel keeps of threads and processes beside their memory. */
void ledger_record_attributes(int pid);
void ledger_put_attribute(const char *name, int pid, const char *value);

/* ledger_unread.c: what waits in a descriptor and CRIU drops. */
void ledger_record_unread_datagrams(int pid, int fd, int socket);
void ledger_record_inotify(int pid, int fd, int inotify);

/* ledger_identities.c: who the threads are, and what the process holds of files. */
bool ledger_print_mounts(void);
void ledger_print_identities(int pid);

/* Calls `act` with each thread of a process. */
void ledger_for_each_thread(int pid, void (*act)(int pid, int tid));

/* `bytes` as hexadecimal digits and back; the number of bytes, or -1. */
void ledger_print_hex(const unsigned char *bytes, size_t count);
int ledger_read_hex(const char *text, unsigned char *bytes, size_t size);

#endif
