#include "compute/socket.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* -- addresses ------------------------------------------------------------------------------------------ */

int socket_resolve(const char *name, int port, SocketAddress out[SOCKET_NAMES], const char **why,
                   bool *later) {
  const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
  struct addrinfo *found = NULL;
  char service[16];
  snprintf(service, sizeof service, "%d", port);
  const int status = getaddrinfo(name, service, &hints, &found);
  *why = status == EAI_SYSTEM ? strerror(errno) : gai_strerror(status);
  *later = status == EAI_AGAIN;
  if (status) return 0;
  int count = 0;
  for (const struct addrinfo *i = found; i && count < SOCKET_NAMES; i = i->ai_next) {
    if (i->ai_addrlen > sizeof out[count].value) continue;
    out[count].size = i->ai_addrlen;
    memcpy(&out[count++].value, i->ai_addr, i->ai_addrlen);
  }
  freeaddrinfo(found);
  return count;
}

bool socket_is_number(const char *name) {
  const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST};
  struct addrinfo *found = NULL;
  if (getaddrinfo(name, NULL, &hints, &found) != 0) return false;
  freeaddrinfo(found);
  return true;
}

const char *socket_text(const SocketAddress *address, char out[SOCKET_TEXT]) {
  char host[NI_MAXHOST], port[NI_MAXSERV];
  const bool six = address->value.ss_family == AF_INET6;
  if (getnameinfo((const struct sockaddr *)&address->value, address->size, host, sizeof host, port,
                  sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    snprintf(out, SOCKET_TEXT, "an unknown address");
  } else {
    snprintf(out, SOCKET_TEXT, six ? "[%.60s]:%.6s" : "%.60s:%.6s", host, port);
  }
  return out;
}

static in_port_t *port_of(SocketAddress *address) {
  if (address->value.ss_family == AF_INET6) return &((struct sockaddr_in6 *)&address->value)->sin6_port;
  return &((struct sockaddr_in *)&address->value)->sin_port;
}

int socket_port(const SocketAddress *address) {
  SocketAddress copy = *address;
  return ntohs(*port_of(&copy));
}

void socket_set_port(SocketAddress *address, int port) {
  *port_of(address) = htons((uint16_t)port);
}

bool socket_is_loopback(const SocketAddress *address) {
  if (address->value.ss_family == AF_INET6) {
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)&address->value)->sin6_addr);
  }
  const struct sockaddr_in *four = (const struct sockaddr_in *)&address->value;
  return address->value.ss_family == AF_INET && ntohl(four->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

static void unwrap_four(SocketAddress *address) {
  const struct sockaddr_in6 six = *(const struct sockaddr_in6 *)&address->value;
  if (address->value.ss_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&six.sin6_addr)) return;
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = six.sin6_port};
  memcpy(&four.sin_addr, &six.sin6_addr.s6_addr[12], sizeof four.sin_addr);
  *address = (SocketAddress){.size = sizeof four};
  memcpy(&address->value, &four, sizeof four);
}

SocketAddress socket_own(int fd) {
  SocketAddress out = {.size = sizeof out.value};
  if (getsockname(fd, (struct sockaddr *)&out.value, &out.size) != 0) return (SocketAddress){0};
  unwrap_four(&out);
  return out;
}

SocketAddress socket_peer(int fd) {
  SocketAddress out = {.size = sizeof out.value};
  if (getpeername(fd, (struct sockaddr *)&out.value, &out.size) != 0) return (SocketAddress){0};
  unwrap_four(&out);
  return out;
}

void socket_set_zone(SocketAddress *address, int fd) {
  const SocketAddress own = socket_own(fd);
  struct sockaddr_in6 *six = (struct sockaddr_in6 *)&address->value;
  if (address->value.ss_family != AF_INET6 || own.value.ss_family != AF_INET6) return;
  if (IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr)) {
    six->sin6_scope_id = ((const struct sockaddr_in6 *)&own.value)->sin6_scope_id;
  }
}

/* -- connections ---------------------------------------------------------------------------------------- */

static void set(int fd, int level, int option, int value) {
  (void)setsockopt(fd, level, option, &value, sizeof value); /* what cannot be had is done without */
}

static int close_with(int fd, int number) {
  close(fd);
  errno = number;
  return -1;
}

static int bind_to(const SocketAddress *address, bool both) {
  const int fd = socket(address->value.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  set(fd, SOL_SOCKET, SO_REUSEADDR, 1); /* what a former run left in TIME_WAIT */
  if (address->value.ss_family == AF_INET6) set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !both);
  if (bind(fd, (const struct sockaddr *)&address->value, address->size) != 0) return close_with(fd, errno);
  return fd;
}

static int listen_at(const SocketAddress *address, bool both) {
  enum { WAITING = 1024 };
  const int fd = bind_to(address, both);
  return fd >= 0 && listen(fd, WAITING) != 0 ? close_with(fd, errno) : fd;
}

/* Linux lets two have an address that both may reuse while only one of them listens. */
int socket_reserve(int *port) {
  SocketAddress address = {.size = sizeof(struct sockaddr_in), .value.ss_family = AF_INET};
  ((struct sockaddr_in *)&address.value)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = bind_to(&address, false);
  const SocketAddress bound = fd >= 0 ? socket_own(fd) : address;
  *port = socket_port(&bound);
  return fd;
}

int socket_listen(const SocketAddress *address) {
  return listen_at(address, false);
}

int socket_listen_everywhere(int port) {
  SocketAddress six = {.size = sizeof(struct sockaddr_in6), .value.ss_family = AF_INET6};
  SocketAddress four = {.size = sizeof(struct sockaddr_in), .value.ss_family = AF_INET};
  socket_set_port(&six, port); /* the address of all zeros */
  socket_set_port(&four, port);
  const int fd = listen_at(&six, true);
  return fd >= 0 || errno == EADDRINUSE ? fd : listen_at(&four, false); /* a host without IPv6 */
}

static void settle(int fd) {
  set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  /* What lies between may forget a connection that is silent while the ranks compute. */
  set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 30);
  set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
}

void socket_set_timeout(int fd, double seconds) {
  enum { LONGEST = 24 * 3600 };
  set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)((seconds < LONGEST ? seconds : LONGEST) * 1e3));
}

int socket_accept(int listener) {
  const int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd >= 0) settle(fd);
  return fd;
}

bool socket_wait(int fd, bool write, double deadline) {
  struct pollfd one = {.fd = fd, .events = write ? POLLOUT : POLLIN};
  for (;;) {
    const double left = deadline - time_monotonic();
    const int ready = poll(&one, 1, left <= 0 ? 0 : left < 60 ? (int)(left * 1e3) + 1 : 60000);
    if (ready > 0) return true;
    if (left <= 0 || (ready < 0 && errno != EINTR)) return false;
  }
}

int socket_connect(const SocketAddress *address, double deadline) {
  const int fd = socket(address->value.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  settle(fd);
  int number = connect(fd, (const struct sockaddr *)&address->value, address->size) == 0 ? 0 : errno;
  if (number == EINPROGRESS) {
    if (!socket_wait(fd, true, deadline)) return close_with(fd, ETIMEDOUT);
    socklen_t size = sizeof number;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &size) != 0) number = errno;
  }
  if (number) return close_with(fd, number);
  /* A port of this host that nobody listens at may be the one that the system gives this side: TCP then connects it to itself. */
  const SocketAddress own = socket_own(fd), peer = socket_peer(fd);
  return memcmp(&own, &peer, sizeof own) == 0 ? close_with(fd, ECONNREFUSED) : fd;
}

static bool goes_on(ssize_t moved) {
  return moved > 0 || (moved < 0 && (errno == EAGAIN || errno == EINTR));
}

bool socket_write(int fd, const void *bytes, size_t count, double deadline) {
  const char *from = bytes;
  while (count > 0) {
    const ssize_t moved = send(fd, from, count, MSG_NOSIGNAL);
    if (!goes_on(moved)) return false;
    if (moved > 0) {
      from += moved;
      count -= (size_t)moved;
    } else if (!socket_wait(fd, true, deadline)) {
      errno = ETIMEDOUT;
      return false;
    }
  }
  return true;
}

bool socket_read(int fd, void *bytes, size_t count, double deadline) {
  char *to = bytes;
  while (count > 0) {
    const ssize_t moved = recv(fd, to, count, 0);
    if (moved == 0) errno = ECONNRESET;
    if (!goes_on(moved)) return false;
    if (moved > 0) {
      to += moved;
      count -= (size_t)moved;
    } else if (!socket_wait(fd, false, deadline)) {
      errno = ETIMEDOUT;
      return false;
    }
  }
  return true;
}
