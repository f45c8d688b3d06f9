/* Streams, events, copies and recorded graphs. */
#include "tests/cuda_host/cuda_runtime.h"
#include "tests/cuda_host/emulated.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

typedef std::function<bool()> Work; /* false: not done yet, to be tried again */

struct CUstream_st {
  bool blocking; /* the default stream waits for it */
  bool computes; /* kernels were launched on it */
  std::deque<Work> queue;
  uint64_t submitted;
  std::atomic<uint64_t> done;
  cudaGraph_t capture; /* NULL: not capturing */
  bool invalid;        /* the capture */
};

struct CUgraph_st {
  std::vector<Work> work;
};

struct CUgraphExec_st {
  std::vector<Work> work;
  size_t bytes; /* of the device */
};

struct CUevent_st {
  cudaStream_t stream; /* where it was recorded last */
  uint64_t ticket;     /* work that had been submitted there by then */
  bool recorded;
  double milliseconds;
};

/* One lock for all: work is done by whoever waits for it, one piece at a time. */
typedef struct Streams {
  std::recursive_mutex lock;
  std::unordered_set<cudaStream_t> all;
  CUstream_st standard; /* the legacy default stream */
  bool late, copies_first;
} Streams;

static Streams *streams(void) {
  static Streams *const s = [] {
    static Streams made;
    const char *when = getenv("DROVER_CUDA_HOST_STREAMS");
    made.late = when && strcmp(when, "late") == 0;
    made.copies_first = when && strcmp(when, "copies_first") == 0;
    if (when && *when && !made.late && !made.copies_first) {
      fprintf(stderr, "cuda_host: DROVER_CUDA_HOST_STREAMS is late or copies_first, not %s\n", when);
      abort();
    }
    made.standard.blocking = true;
    return &made;
  }();
  return s;
}

typedef std::lock_guard<std::recursive_mutex> Hold;

static CUstream_st *stream_of(cudaStream_t stream) {
  return stream ? stream : &streams()->standard;
}

/* Does the next piece of work; false when it is not done yet. */
static bool step(CUstream_st *stream) {
  host_device_work(true);
  const bool done = stream->queue.front()();
  host_device_work(false);
  if (!done) return false;
  stream->queue.pop_front();
  stream->done++;
  return true;
}

static void drain(CUstream_st *stream, uint64_t ticket) {
  if (stream->queue.empty()) return;
  host_device_work(true);
  while (stream->done < ticket && !stream->queue.empty()) {
    if (!step(stream)) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  host_device_work(false);
}

/* Somebody is looking: time goes on. */
static void look(CUstream_st *stream) {
  if (!stream->queue.empty()) step(stream);
}

void host_drain_all(void) {
  Hold hold(streams()->lock);
  drain(&streams()->standard, UINT64_MAX);
  for (cudaStream_t stream : streams()->all) drain(stream, UINT64_MAX);
}

void host_submit(cudaStream_t stream, std::function<void()> work) {
  host_submit_until(stream, [work] {
    work();
    return true;
  });
}

void host_submit_until(cudaStream_t given, Work work) {
  Streams *s = streams();
  Hold hold(s->lock);
  CUstream_st *stream = stream_of(given);
  if (stream->capture) {
    stream->capture->work.push_back(std::move(work));
    return;
  }
  if (!given) { /* the default stream and the blocking ones wait for each other */
    for (cudaStream_t other : s->all) {
      if (other->blocking) drain(other, UINT64_MAX);
    }
  } else if (stream->blocking) {
    drain(&s->standard, UINT64_MAX);
  }
  stream->submitted++;
  stream->queue.push_back(std::move(work));
  const bool later = s->late || (s->copies_first && stream->computes);
  if (!later || stream->queue.size() > 4096) drain(stream, UINT64_MAX);
}

void host_stream_computes(cudaStream_t stream) {
  Hold hold(streams()->lock);
  stream_of(stream)->computes = true;
}

/* -- streams ------------------------------------------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags) {
  Hold hold(streams()->lock);
  *stream = new CUstream_st();
  (*stream)->blocking = !(flags & cudaStreamNonBlocking);
  streams()->all.insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned int flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Hold hold(streams()->lock);
  if (!streams()->all.erase(stream)) return host_error(cudaErrorInvalidValue);
  drain(stream, UINT64_MAX);
  delete stream;
  return cudaSuccess;
}

/* What may not happen while the stream captures spoils the capture. */
static cudaError_t not_while_capturing(CUstream_st *stream) {
  if (!stream->capture) return cudaSuccess;
  stream->invalid = true;
  return host_error(cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaStreamSynchronize(cudaStream_t given) {
  Hold hold(streams()->lock);
  CUstream_st *stream = stream_of(given);
  cudaError_t status = not_while_capturing(stream);
  if (status != cudaSuccess) return status;
  drain(stream, UINT64_MAX);
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t given) {
  Hold hold(streams()->lock);
  CUstream_st *stream = stream_of(given);
  cudaError_t status = not_while_capturing(stream);
  if (status != cudaSuccess || stream->queue.empty()) return status;
  look(stream);
  return cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize(void) {
  Hold hold(streams()->lock);
  for (cudaStream_t stream : streams()->all) {
    cudaError_t status = not_while_capturing(stream);
    if (status != cudaSuccess) return status;
  }
  host_drain_all();
  return cudaSuccess;
}

cudaError_t cudaDeviceReset(void) {
  return cudaDeviceSynchronize();
}

/* -- events -------------------------------------------------------------------------------------------------- */

static double now_milliseconds(void) {
  using namespace std::chrono;
  return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int) {
  *event = new CUevent_st();
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  cudaError_t status = cudaEventSynchronize(event); /* the queue names it */
  delete event;
  return status;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t given) {
  Hold hold(streams()->lock);
  CUstream_st *stream = stream_of(given);
  if (stream->capture) return cudaSuccess; /* order within one stream is the graph's already */
  event->stream = given;
  event->recorded = true;
  host_submit(given, [event] { event->milliseconds = now_milliseconds(); });
  event->ticket = stream->submitted;
  return cudaSuccess;
}

static bool event_done(cudaEvent_t event) {
  return !event->recorded || stream_of(event->stream)->done >= event->ticket;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Hold hold(streams()->lock);
  if (!event_done(event)) drain(stream_of(event->stream), event->ticket);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (event_done(event)) return cudaSuccess;
  /* Who only asks does not wait for a thread that waits for work. */
  const std::unique_lock<std::recursive_mutex> hold(streams()->lock, std::try_to_lock);
  if (!hold) return cudaErrorNotReady;
  look(stream_of(event->stream));
  return cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
  Hold hold(streams()->lock);
  if (!start->recorded || !end->recorded) return host_error(cudaErrorInvalidValue);
  if (!event_done(start) || !event_done(end)) return cudaErrorNotReady;
  *milliseconds = (float)(end->milliseconds - start->milliseconds);
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  Hold hold(streams()->lock);
  if (!event->recorded || event->stream == stream) return cudaSuccess;
  CUstream_st *other = stream_of(event->stream);
  uint64_t ticket = event->ticket;
  host_submit(stream, [other, ticket] { drain(other, ticket); });
  return cudaSuccess;
}

/* -- copies -------------------------------------------------------------------------------------------------- */

/* The sides must be what `kind` says: on a GPU the wrong kind is an error, or garbage. */
static cudaError_t check_sides(const void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
  bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (bytes == 0 || kind == cudaMemcpyDefault) return cudaSuccess;
  if (host_is_device(to, bytes) == to_device && host_is_device(from, bytes) == from_device)
    return cudaSuccess;
  return host_error(cudaErrorInvalidValue);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
  cudaError_t status = check_sides(to, from, bytes, kind);
  if (status != cudaSuccess || bytes == 0) return status;
  Hold hold(streams()->lock);
  /* Ordinary memory is read, or written, before the call returns: a copy that was no wait for the stream. */
  bool from_pageable = !host_is_device(from, bytes) && !host_is_pinned(from, bytes);
  bool to_pageable = !host_is_device(to, bytes) && !host_is_pinned(to, bytes);
  if (from_pageable && !to_pageable) {
    std::vector<char> kept((const char *)from, (const char *)from + bytes);
    host_submit(stream, [to, kept] { memcpy(to, kept.data(), kept.size()); });
    return cudaSuccess;
  }
  host_submit(stream, [to, from, bytes] { memcpy(to, from, bytes); });
  if (to_pageable && !stream_of(stream)->capture) return cudaStreamSynchronize(stream);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
  cudaError_t status = not_while_capturing(&streams()->standard);
  if (status == cudaSuccess) status = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  if (status == cudaSuccess) status = cudaStreamSynchronize(nullptr);
  return status;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind, cudaStream_t stream) {
  if (width > to_pitch || width > from_pitch) return host_error(cudaErrorInvalidValue);
  for (size_t row = 0; row < height; row++) {
    cudaError_t status = cudaMemcpyAsync((char *)to + row * to_pitch, (const char *)from + row * from_pitch,
                                         width, kind, stream);
    if (status != cudaSuccess) return status;
  }
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (!host_is_device(p, bytes)) return host_error(cudaErrorInvalidValue);
  host_submit(stream, [p, value, bytes] { memset(p, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaMemset(void *p, int value, size_t bytes) {
  return cudaMemsetAsync(p, value, bytes, nullptr);
}

/* -- graphs -------------------------------------------------------------------------------------------------- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode) {
  Hold hold(streams()->lock);
  if (!stream || stream->capture) return host_error(cudaErrorStreamCaptureUnsupported);
  stream->capture = new CUgraph_st();
  stream->invalid = false;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  Hold hold(streams()->lock);
  *graph = nullptr;
  if (!stream || !stream->capture) return host_error(cudaErrorInvalidValue);
  cudaGraph_t captured = std::exchange(stream->capture, nullptr);
  if (stream->invalid) {
    delete captured;
    return host_error(cudaErrorStreamCaptureInvalidated);
  }
  *graph = captured;
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t given, enum cudaStreamCaptureStatus *status) {
  Hold hold(streams()->lock);
  const CUstream_st *stream = stream_of(given);
  *status = !stream->capture  ? cudaStreamCaptureStatusNone
            : stream->invalid ? cudaStreamCaptureStatusInvalidated
                              : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long) {
  const size_t bytes = graph->work.size() * host_device()->node;
  if (!host_take(bytes)) return host_error(cudaErrorMemoryAllocation);
  *executable = new CUgraphExec_st{graph->work, bytes};
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *executable, cudaGraph_t graph,
                                          unsigned long long flags) {
  return cudaGraphInstantiate(executable, graph, flags);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  for (const Work &work : executable->work) host_submit_until(stream, work);
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  host_give_back(executable->bytes);
  delete executable;
  return cudaSuccess;
}
