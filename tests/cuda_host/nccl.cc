#include "tests/cuda_host/nccl.h"
#include "tests/cuda_host/emulated.h"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <memory>
#include <vector>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* One way between two ranks: first the size, then so many bytes. */
struct Message {
  int peer;
  bool receives;
  char *bytes;
  uint64_t size, head; /* head: the size as it was sent */
  uint64_t done;       /* of head and bytes together */
};

/* What outlives the communicator: work on a stream has it too. */
struct Links {
  int rank, size;
  std::vector<int> sockets; /* [size], -1: none yet */
  std::atomic<int> status;
  std::atomic<bool> aborted;
};

struct ncclComm {
  std::shared_ptr<Links> links;
  ncclUniqueId id;
  int listener;
  std::vector<int> unnamed; /* connected, and have not said their rank */
};

const char *ncclGetErrorString(ncclResult_t status) {
  switch (status) {
    case ncclSuccess:
      return "no error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    default:
      return "NCCL operation in progress";
  }
}

const char *ncclGetLastError(ncclComm_t) {
  return "";
}

/* -- joining ------------------------------------------------------------------------------------------------- */

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  memset(id, 0, sizeof *id);
  snprintf(id->internal, sizeof id->internal, "drover-emulated-nccl-%d-%lld%09ld", (int)getpid(),
           (long long)now.tv_sec, now.tv_nsec);
  return ncclSuccess;
}

/* A name that is in no file system. */
static socklen_t address_of(const ncclUniqueId *id, int rank, sockaddr_un *address) {
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  const int length =
      snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "%.80s-%d", id->internal, rank);
  return (socklen_t)(offsetof(sockaddr_un, sun_path) + 1 + (size_t)length);
}

static int new_socket(void) {
  return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
  if (config->blocking || rank < 0 || rank >= size) return ncclInvalidArgument;
  ncclComm *made = *comm = new ncclComm();
  made->links = std::make_shared<Links>();
  made->links->rank = rank;
  made->links->size = size;
  made->links->sockets.assign((size_t)size, -1);
  made->links->status = ncclInProgress;
  made->id = id;
  sockaddr_un address;
  const socklen_t length = address_of(&id, rank, &address);
  made->listener = new_socket();
  if (made->listener < 0 || bind(made->listener, (sockaddr *)&address, length) != 0 ||
      listen(made->listener, size) != 0) {
    made->links->status = ncclSystemError;
  }
  return (ncclResult_t)made->links->status.load();
}

static void call_lower(ncclComm_t comm, int peer) {
  sockaddr_un address;
  const socklen_t length = address_of(&comm->id, peer, &address);
  const int made = new_socket();
  if (connect(made, (sockaddr *)&address, length) != 0 ||
      write(made, &comm->links->rank, sizeof(int)) != (ssize_t)sizeof(int)) {
    close(made); /* it is not there yet */
    return;
  }
  comm->links->sockets[(size_t)peer] = made;
}

static void answer_higher(ncclComm_t comm) {
  const int made = accept4(comm->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (made >= 0) comm->unnamed.push_back(made);
  for (size_t i = 0; i < comm->unnamed.size(); i++) {
    int peer;
    if (read(comm->unnamed[i], &peer, sizeof peer) != (ssize_t)sizeof peer) continue;
    comm->links->sockets.at((size_t)peer) = comm->unnamed[i];
    comm->unnamed.erase(comm->unnamed.begin() + (ptrdiff_t)i--);
  }
}

/* Goes on joining; afterwards, what was begun is under way. */
static ncclResult_t go_on(ncclComm_t comm) {
  Links *links = comm->links.get();
  bool all = true;
  for (int r = 0; r < links->rank; r++) {
    if (links->sockets[(size_t)r] < 0) call_lower(comm, r);
  }
  answer_higher(comm);
  for (int r = 0; r < links->size; r++) all = all && (r == links->rank || links->sockets[(size_t)r] >= 0);
  return all ? ncclSuccess : ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *status) {
  Links *links = comm->links.get();
  if (links->status == ncclInProgress) links->status = go_on(comm);
  *status = (ncclResult_t)links->status.load();
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  comm->links->aborted = true;
  for (int s : comm->links->sockets) {
    if (s >= 0) close(s);
  }
  for (int s : comm->unnamed) close(s);
  close(comm->listener);
  delete comm;
  return ncclSuccess;
}

/* -- moving -------------------------------------------------------------------------------------------------- */

/* Of one group; a stream's work. */
typedef std::vector<Message> Messages;

struct Group {
  int depth;
  ncclComm_t comm;
  cudaStream_t stream;
  Messages messages;
};
static thread_local Group group;

/* As much as goes; false when the other one is gone. */
static bool move(const Links *links, Message *m) {
  const int s = links->sockets[(size_t)m->peer];
  while (m->done < sizeof m->head + m->size) {
    const bool in_head = m->done < sizeof m->head;
    char *at = in_head ? (char *)&m->head + m->done : m->bytes + (m->done - sizeof m->head);
    const size_t left = in_head ? sizeof m->head - m->done : sizeof m->head + m->size - m->done;
    const ssize_t moved = m->receives ? recv(s, at, left, 0) : send(s, at, left, MSG_NOSIGNAL);
    if (moved < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (moved <= 0) return false;
    m->done += (uint64_t)moved;
    if (m->done == sizeof m->head && m->head != m->size) {
      fprintf(stderr, "cuda_host: NCCL: rank %d sends %llu bytes, and rank %d expects %llu\n", m->peer,
              (unsigned long long)m->head, links->rank, (unsigned long long)m->size);
      abort();
    }
  }
  return true;
}

/* Between two ranks one message after the other, and all ranks at once. True when all is moved. */
static bool move_all(Links *links, Messages *messages) {
  if (links->aborted) return true;
  bool all = true;
  std::vector<char> busy((size_t)links->size * 2);
  for (Message &m : *messages) {
    char *waits = &busy[(size_t)m.peer * 2 + m.receives];
    if (*waits || m.done == sizeof m.head + m.size) continue;
    if (!move(links, &m)) links->status = ncclRemoteError;
    *waits = m.done < sizeof m.head + m.size;
    all = all && !*waits;
  }
  return all;
}

ncclResult_t ncclGroupStart(void) {
  group.depth++;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) {
  if (group.depth == 0) return ncclInvalidArgument;
  if (--group.depth > 0 || group.messages.empty()) return ncclSuccess;
  const auto messages = std::make_shared<Messages>(std::move(group.messages));
  const std::shared_ptr<Links> links = group.comm->links;
  group.messages.clear();
  host_submit_until(group.stream, [links, messages] { return move_all(links.get(), messages.get()); });
  int idle = ncclSuccess;
  links->status.compare_exchange_strong(idle, ncclInProgress);
  return (ncclResult_t)links->status.load();
}

static ncclResult_t add(ncclComm_t comm, cudaStream_t stream, Message m) {
  if (!host_is_device(m.bytes, m.size)) return ncclInvalidArgument;
  if (group.comm && !group.messages.empty() && (group.comm != comm || group.stream != stream)) {
    return ncclInvalidArgument;
  }
  group.comm = comm;
  group.stream = stream;
  m.head = m.receives ? 0 : m.size;
  group.messages.push_back(m);
  return ncclSuccess;
}

ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  ncclGroupStart();
  const ncclResult_t status = add(comm, stream, {peer, false, (char *)send, count, 0, 0});
  const ncclResult_t ended = ncclGroupEnd();
  return status != ncclSuccess ? status : ended;
}

ncclResult_t ncclRecv(void *receive, size_t count, ncclDataType_t, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  ncclGroupStart();
  const ncclResult_t status = add(comm, stream, {peer, true, (char *)receive, count, 0, 0});
  const ncclResult_t ended = ncclGroupEnd();
  return status != ncclSuccess ? status : ended;
}

ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  const int rank = comm->links->rank;
  ncclResult_t status = ncclSuccess;
  ncclGroupStart();
  if (rank != root) status = ncclRecv(receive, count, type, root, comm, stream);
  for (int r = 0; r < comm->links->size && rank == root; r++) {
    if (r != root) status = ncclSend(send, count, type, r, comm, stream);
  }
  if (rank == root && send != receive)
    cudaMemcpyAsync(receive, send, count, cudaMemcpyDeviceToDevice, stream);
  const ncclResult_t ended = ncclGroupEnd();
  return status != ncclSuccess ? status : ended;
}
