#include "train/ask.h"

#include "base/file.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { MOST_ARGUMENTS = 32 };

/* The folder of this program's file, with the name behind it; a new string, or NULL. */
static char *program_beside(const char *name) {
  char self[4096];
  const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  if (length < 0) return NULL;
  self[length] = '\0';
  char *folder = path_parent(self), *path = folder ? path_join(folder, name) : NULL;
  memory_free(folder);
  return path;
}

static bool read_back(FILE *file, Buffer *out, Error *error) {
  char piece[4096];
  rewind(file);
  for (size_t count; (count = fread(piece, 1, sizeof piece, file)) > 0;) {
    if (!buffer_append(out, piece, count, error)) return false;
  }
  return buffer_text(out, "", error); /* so that there is a text */
}

/* Starts it with its output in files, which have room for any, and waits. */
static bool run(const char *path, char *const *argv, FILE *out, FILE *log, Answer *answer, Error *error) {
  posix_spawn_file_actions_t actions;
  pid_t child;
  if (posix_spawn_file_actions_init(&actions) != 0) return error_out_of_memory(error, path, 0);
  int failed = posix_spawn_file_actions_adddup2(&actions, fileno(out), STDOUT_FILENO);
  if (!failed) failed = posix_spawn_file_actions_adddup2(&actions, fileno(log), STDERR_FILENO);
  if (!failed) failed = posix_spawn(&child, path, &actions, NULL, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed) return error_set(error, ERROR_FILE, "cannot run %s: %s", path, strerror(failed));
  int how;
  struct rusage used;
  while (wait4(child, &how, 0, &used) < 0) {
    if (errno != EINTR) return error_set(error, ERROR_FILE, "cannot wait for %s: %s", path, strerror(errno));
  }
  answer->status = WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
  answer->processor_seconds = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                              1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
  answer->peak_bytes = (size_t)used.ru_maxrss << 10;
  return true;
}

bool ask(Answer *answer, const char *name, const char *const *arguments, Error *error) {
  char *argv[MOST_ARGUMENTS] = {(char *)name};
  for (int i = 0; arguments[i]; i++) {
    ASSERT(i + 2 < MOST_ARGUMENTS);
    argv[i + 1] = (char *)arguments[i];
  }
  answer_free(answer);
  char *path = program_beside(name);
  FILE *out = tmpfile(), *log = tmpfile();
  bool ok =
      path || error_set(error, ERROR_FILE, "cannot find the programs beside this one: %s", strerror(errno));
  ok = ok &&
       ((out && log) || error_set(error, ERROR_FILE, "cannot make a temporary file: %s", strerror(errno)));
  ok = ok && run(path, argv, out, log, answer, error) && read_back(out, &answer->out, error) &&
       read_back(log, &answer->log, error);
  if (out) fclose(out);
  if (log) fclose(log);
  memory_free(path);
  return ok;
}

/* The line that begins with "error: ", without that; else all of it. */
bool answer_refused(const Answer *answer, Error *error) {
  const char *at = strstr(answer->log.data, "error: "),
             *text = at ? at + strlen("error: ") : answer->log.data;
  return error_set(error, (ErrorCode)answer->status, "%.*s", (int)strcspn(text, "\n"), text);
}

bool ask_json(json_t **value, const char *name, const char *const *arguments, Error *error) {
  Answer answer = {0};
  json_error_t problem;
  *value = NULL;
  bool ok = ask(&answer, name, arguments, error) && (answer.status == 0 || answer_refused(&answer, error));
  if (ok) {
    *value = json_loads(answer.out.data, 0, &problem);
    ok = *value || error_set(error, ERROR_FILE, "%s gave an answer that is no JSON: %s", name, problem.text);
  }
  answer_free(&answer);
  return ok;
}

void answer_free(Answer *answer) {
  buffer_free(&answer->out);
  buffer_free(&answer->log);
  *answer = (Answer){0};
}
