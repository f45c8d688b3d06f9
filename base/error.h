/* Errors travel in a caller-owned Error; the first one recorded wins.
 *
 * A function that can fail returns bool or a pointer, takes `Error *error` last, and on failure returns
 * false / NULL with the error filled in. Only a main prints it and exits with error_exit_code.
 * Messages name the user's file, line and key, what was expected and what was found.
 * A caller's bug is an ASSERT, which stays on in release builds. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>

#define NODISCARD __attribute__((warn_unused_result))
#define NORETURN  __attribute__((noreturn)) /* C++ reads this header too, for the CUDA sources */
#define PRINTF_LIKE(format_index, first_argument) \
  __attribute__((format(printf, format_index, first_argument)))

/* The values are the process exit codes; the man pages list them from here, with these remarks (packaging/manual.awk). */
typedef enum ErrorCode {
  ERROR_NONE = 0,      /* all went well */
  ERROR_USAGE = 2,     /* the command line or the configuration */
  ERROR_DATA = 3,      /* a data set */
  ERROR_MODEL = 4,     /* a model, adapter, tokenizer or checkpoint */
  ERROR_MEMORY = 5,    /* does not fit, or an allocation failed */
  ERROR_FILE = 6,      /* file system */
  ERROR_DEVICE = 7,    /* the device, or another rank */
  ERROR_ALARM = 8,     /* stopped by an alarm, after saving (run.on_alarm) */
  ERROR_SIGHUP = 129,  /* interrupted by SIGHUP, after saving */
  ERROR_SIGINT = 130,  /* the same by SIGINT */
  ERROR_SIGUSR1 = 138, /* the same by SIGUSR1 */
  ERROR_SIGTERM = 143  /* the same by SIGTERM */
} ErrorCode;

typedef struct Error {
  ErrorCode code;
  char message[1024];
} Error;

/* Records code and message unless an error is recorded already. Always returns false, so that a failing
 * function can end with `return error_set(...)`. A message that is too long loses the middle of its longest paths: what
 * it is about stands first, and the reason last. */
bool error_set(Error *error, ErrorCode code, const char *format, ...) PRINTF_LIKE(3, 4);

/* Puts "context: " before the message of an error that is already recorded. Always returns false. */
bool error_context(Error *error, const char *format, ...) PRINTF_LIKE(2, 3);

/* ERROR_MEMORY, "out of memory: WHAT (N bytes)". Always returns false. */
bool error_out_of_memory(Error *error, const char *what, unsigned long long bytes);

/* Whether it says that a signal stopped the work. */
static inline bool error_is_signal(const Error *error) {
  return error->code == ERROR_SIGHUP || error->code == ERROR_SIGINT || error->code == ERROR_SIGUSR1 ||
         error->code == ERROR_SIGTERM;
}

#define ASSERT(condition) ((condition) ? (void)0 : assert_failed(__FILE__, __LINE__, #condition))

NORETURN void assert_failed(const char *file, int line, const char *condition);

#endif
