#ifndef STINT_LISTENER_PASS_H
#define STINT_LISTENER_PASS_H

/* Sends a listener (-1 for none) through a socket, and closes both: they must not be left in the payload. */
void listener_pass(int socket, int listener);

/* Takes what listener_pass sends, and closes the socket; -1 when it was none, or when it has not come after `ms`. */
int listener_take(int socket, int ms);

#endif
