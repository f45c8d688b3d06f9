/* TCP between ranks, over IPv4 and IPv6: who is where, connecting, listening, and moving bytes until a deadline.
 *
 * Descriptors do not block, send what is written at once, and are closed on exec. Deadlines are of time_monotonic. What
 * fails here is nothing to say yet: whoever called knows which rank it was, and so gets the number of the system
 * (errno) and no Error. */
#ifndef COMPUTE_SOCKET_H
#define COMPUTE_SOCKET_H

#include "base/error.h"

#include <stddef.h>
#include <sys/socket.h>

typedef struct SocketAddress {
  struct sockaddr_storage value; /* family AF_UNSPEC: none */
  socklen_t size;
} SocketAddress;

enum { SOCKET_NAMES = 16, SOCKET_TEXT = 80 };

/* The addresses of a host name or of a number, at most SOCKET_NAMES; returns how many. 0: `why`, static, says what was wrong, and
 * *later whether it may be found later. */
int socket_resolve(const char *name, int port, SocketAddress out[SOCKET_NAMES], const char **why,
                   bool *later);
/* Whether `name` is the number of an address, and no name. */
bool socket_is_number(const char *name);
/* "10.0.0.1:29500" or "[fd00::1]:29500". */
const char *socket_text(const SocketAddress *address, char out[SOCKET_TEXT]);
int socket_port(const SocketAddress *address);
void socket_set_port(SocketAddress *address, int port);
bool socket_is_loopback(const SocketAddress *address);
/* An IPv6 address of one link gets the interface of this side of a connection. */
void socket_set_zone(SocketAddress *address, int fd);
/* Of this side and of the other side of a connection. An IPv4 address within an IPv6 one is the IPv4 one. */
SocketAddress socket_own(int fd);
SocketAddress socket_peer(int fd);

/* A free port of 127.0.0.1, which is this process's or a listener's of its choice as long as the descriptor is open; -1 with errno. */
int socket_reserve(int *port);
/* Port 0: any that is free. Returns the descriptor, or -1 with errno. */
int socket_listen(const SocketAddress *address);
/* On all addresses of this host. */
int socket_listen_everywhere(int port);
/* -1 when nobody came. */
int socket_accept(int listener);
/* -1 with errno, ETIMEDOUT at the deadline. */
int socket_connect(const SocketAddress *address, double deadline);
/* Whether there is something to read (or for `write`, room) at the deadline at the latest. */
bool socket_wait(int fd, bool write, double deadline);
/* All bytes, or false with errno: ETIMEDOUT at the deadline, ECONNRESET when the other side has closed. */
NODISCARD bool socket_write(int fd, const void *bytes, size_t count, double deadline);
NODISCARD bool socket_read(int fd, void *bytes, size_t count, double deadline);
/* Seconds after which bytes that the other side does not take, or its silence, are an error of the connection. */
void socket_set_timeout(int fd, double seconds);

#endif
