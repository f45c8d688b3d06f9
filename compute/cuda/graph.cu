/* Recordings: what the operations put on the compute stream between begin and end becomes a CUDA graph, which
 * the driver starts in one go. An operation's arguments are fixed when it is recorded, the contents of its
 * tensors are not. Products keep their places in the workspace of cuBLASLt, which lives as long as the device. */
#include "compute/cuda/kernel.cuh"

extern "C" {
#include "base/memory.h"
}

struct ComputeGraph {
  cudaGraphExec_t launchable;
  size_t bytes; /* of the card's memory */
};

void cuda_record_begin(Compute *c) {
  Device *d = c->device;
  ASSERT(!d->recording && !c->dry);
  d->recording = true;
  /* Relaxed: the driver may load a kernel at its first use, which the stricter modes forbid. */
  device_check(cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeRelaxed), "begin of a recording");
}

void device_launched(Device *d, cudaError_t status, const char *what) {
  if (d->recording && status == cudaErrorStreamCaptureInvalidated) {
    d->unrecordable = true;
  } else {
    device_check(status, what);
  }
}

static size_t free_memory(void) {
  size_t free = 0, total = 0;
  device_check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return free;
}

/* NULL when the device has no memory for it. */
static ComputeGraph *instantiate(Device *d, cudaGraph_t noted) {
  ComputeGraph *graph = (ComputeGraph *)memory_zeroed(1, sizeof *graph);
  if (!graph) device_failed("end of a recording", "the host's memory is out");
  const size_t before = free_memory();
  const cudaError_t status = cudaGraphInstantiate(&graph->launchable, noted, 0ull);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    memory_free(graph);
    return NULL;
  }
  device_check(status, "end of a recording");
  /* Else the first replay would pay for it. */
  device_check(cudaGraphUpload(graph->launchable, d->stream), "end of a recording");
  const size_t after = free_memory();
  graph->bytes = before > after ? before - after : 0;
  return graph;
}

/* What cannot be recorded only would have been faster. */
ComputeGraph *cuda_record_end(Compute *c) {
  Device *d = c->device;
  ASSERT(d->recording);
  cudaGraph_t noted = NULL;
  const cudaError_t status = cudaStreamEndCapture(d->stream, &noted);
  d->recording = false;
  const bool spoiled = d->unrecordable || status == cudaErrorStreamCaptureInvalidated ||
                       status == cudaErrorStreamCaptureUnsupported;
  d->unrecordable = false;
  if (spoiled) {
    cudaGetLastError();
  } else {
    device_check(status, "end of a recording");
  }
  ComputeGraph *graph = spoiled ? NULL : instantiate(d, noted);
  if (noted) device_check(cudaGraphDestroy(noted), "end of a recording");
  return graph;
}

void cuda_replay(Compute *c, ComputeGraph *graph) {
  ASSERT(!c->device->recording);
  device_check(cudaGraphLaunch(graph->launchable, c->device->stream), "replay");
}

void cuda_graph_free(Compute *c, ComputeGraph *graph) {
  if (!graph) return;
  /* It may still be running. */
  device_check(cudaStreamSynchronize(c->device->stream), "waiting for the device");
  device_check(cudaGraphExecDestroy(graph->launchable), "cudaGraphExecDestroy");
  memory_free(graph);
}

size_t cuda_graph_bytes(const ComputeGraph *graph) {
  return graph->bytes;
}
