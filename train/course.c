#include "train/course.h"

#include "train/model_path.h"

static Comm comm_of(const ProgramCall *call) {
  return call->comm ? *call->comm : comm_single();
}

static bool prepare(const Course *course, void *stage, const ProgramCall *call, Error *error) {
  options_warn(call->given, call->config, call->log);
  return course->prepare(stage, error);
}

static bool check_only(const Course *course, void *stage, const RunConfig *config, const ProgramCall *call,
                       Error *error) {
  const bool first = comm_of(call).rank == 0;
  return (!first || run_look(course->name, config, call->settings, call->log, error)) &&
         prepare(course, stage, call, error) &&
         (!first || model_paths_read(call->given, call->config, call->log, error));
}

static bool tell_again(const Run *run, ProgramResult *result, Error *error) {
  if (run->comm.rank > 0) return true;
  log_info(run->log, "%s is finished already; run.resume false starts over", run->config->dir);
  return buffer_text(&result->json, run->result, error) && buffer_text(&result->text, run->result, error);
}

bool course_run(const Course *course, void *stage, Run *run, const RunConfig *config, const ProgramCall *call,
                ProgramResult *result, Error *error) {
  if (call->check) return check_only(course, stage, config, call, error);
  const Comm comm = comm_of(call);
  *run = (Run){.lock = -1};
  bool ok = run_open(run, course->name, config, call->settings, &comm, call->log, error);
  if (ok && run->start == RUN_FINISHED) {
    ok = tell_again(run, result, error);
  } else if (ok) {
    ok = (run->comm.size > 1 || run_signals_install(false, error)) &&
         model_paths_complete(call->given, call->config, error) && prepare(course, stage, call, error) &&
         run_begin(run, error) && course->carry_out(stage, result, error);
  }
  run_close(run, error);
  return ok;
}
