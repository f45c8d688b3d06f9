/* A judge behind HTTP on 127.0.0.1, for tests/stages/reward_http.sh: what it does is in the path of a request.
 *
 *   http_judge LOG
 *
 * Prints the port it listens at. An answer is worth how often it says yes. Each request is a line of LOG: path, id, what it was told, the
 * Authorization header, and how many requests it was at work on.
 *
 *   /json            {"score": N, "parts": {"yes": N}}
 *   /chat            a chat completion that says N, about the text between "Rate: " and " END"
 *   /slow            /json after 30 ms
 *   /dice            a number that nobody can know
 *   /then/N/WHAT     /json for the first N requests, then WHAT:
 *   /status/S        status S, and the key in the text
 *   /echo            the Authorization header
 *   /flaky           500, then 429, then /json, for each question
 *   /moved, /garbage, /nan, /empty, /huge, /close, /hang, /mute (a chat completion without a number) */
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1 << 20, QUESTIONS = 4096 };

static FILE *record;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_int busy, served;

typedef struct Request {
  char path[256], key[256], *body;
  long long id;
  int yes;
} Request;

static int count_yes(const char *text, const char *end) {
  int count = 0;
  for (const char *at = text; at && (at = strstr(at, "yes")) && at < end; at += 3) count++;
  return count;
}

static void judge(Request *request) {
  const char *id = strstr(request->body, "\"id\":");
  const char *answer = strstr(request->body, "\"answer\":\""),
             *end = answer ? strstr(answer, "\",\"finished\"") : NULL;
  if (!answer && (answer = strstr(request->body, "Rate: "))) end = strstr(answer, " END");
  request->id = id ? atoll(id + 5) : 0;
  request->yes = answer && end ? count_yes(answer, end) : 0;
}

/* How often this question was asked before. */
static int times(const char *body) {
  static unsigned long hashes[QUESTIONS];
  static int counts[QUESTIONS];
  unsigned long hash = 5381;
  int before = 0;
  for (; *body; body++) hash = 33 * hash + (unsigned char)*body;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < QUESTIONS; i++) {
    if (counts[i] && hashes[i] != hash) continue;
    hashes[i] = hash;
    before = counts[i]++;
    break;
  }
  pthread_mutex_unlock(&lock);
  return before;
}

static bool say(int connection, int status, const char *headers, const char *body) {
  char text[4096];
  const int size = snprintf(text, sizeof text, "HTTP/1.1 %d So\r\nContent-Length: %zu\r\n%s\r\n%s", status,
                            strlen(body), headers, body);
  return write(connection, text, (size_t)size) == size;
}

static bool say_huge(int connection) {
  static char junk[1 << 16];
  memset(junk, '7', sizeof junk);
  dprintf(connection, "HTTP/1.1 200 So\r\nContent-Length: %d\r\n\r\n", 100 << 16);
  for (int i = 0; i < 100; i++)
    if (write(connection, junk, sizeof junk) != sizeof junk) return false;
  return true;
}

static bool say_score(int connection, const Request *request) {
  char body[128];
  snprintf(body, sizeof body, "{\"score\": %d, \"parts\": {\"yes\": %d}, \"id\": %lld}\n", request->yes,
           request->yes, request->id);
  return say(connection, 200, "", body);
}

/* False: the connection ends. */
static bool reply(int connection, const Request *request, const char *path) {
  char text[512];
  int skip, number;
  if (sscanf(path, "/then/%d%n", &number, &skip) == 1)
    return reply(connection, request, atomic_fetch_add(&served, 1) < number ? "/json" : path + skip);
  if (strcmp(path, "/json") == 0) return say_score(connection, request);
  if (strcmp(path, "/slow") == 0) {
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    return say_score(connection, request);
  }
  if (strcmp(path, "/chat") == 0 || strcmp(path, "/mute") == 0) {
    snprintf(
        text, sizeof text,
        "{\"id\": \"x\", \"choices\": [{\"index\": 0, \"message\": {\"role\": \"assistant\", \"content\": "
        "\"Of 10 points I give\\nScore: %.*s%d\"}}]}",
        strcmp(path, "/mute") ? 0 : 4, "none", request->yes);
    if (strcmp(path, "/mute") == 0)
      snprintf(text, sizeof text, "{\"choices\": [{\"message\": {\"content\": \"I cannot say.\"}}]}");
    return say(connection, 200, "", text);
  }
  if (strcmp(path, "/dice") == 0) {
    const long throw = random() % 100000;
    pthread_mutex_lock(&lock);
    fprintf(record, "threw %lld %ld\n", request->id, throw);
    fflush(record);
    pthread_mutex_unlock(&lock);
    snprintf(text, sizeof text, "%ld.%ld", throw / 1000, throw % 1000 + 1000);
    return say(connection, 200, "", text);
  }
  if (sscanf(path, "/status/%d", &number) == 1) {
    snprintf(text, sizeof text, "no, not with %s", request->key);
    return say(connection, number, "", text);
  }
  if (strcmp(path, "/echo") == 0) return say(connection, 200, "", request->key);
  if (strcmp(path, "/flaky") == 0) {
    const int before = times(request->body);
    return before == 0   ? say(connection, 500, "", "oops")
           : before == 1 ? say(connection, 429, "Retry-After: 0\r\n", "too fast")
                         : say_score(connection, request);
  }
  if (strcmp(path, "/moved") == 0) return say(connection, 302, "Location: /json\r\n", "");
  if (strcmp(path, "/garbage") == 0) return say(connection, 200, "", "<html>hello</html>");
  if (strcmp(path, "/nan") == 0) return say(connection, 200, "", "NaN");
  if (strcmp(path, "/empty") == 0) return say(connection, 200, "", "");
  if (strcmp(path, "/huge") == 0) return say_huge(connection);
  if (strcmp(path, "/hang") == 0) sleep(1000);
  return false; /* "/close" */
}

/* The next request of a connection; false when there is none. */
static bool read_request(int connection, Request *request) {
  static _Thread_local char text[MOST];
  size_t size = 0;
  char *body = NULL;
  long length = 0;
  while (size < MOST - 1 && !(body && strlen(body) >= (size_t)length)) {
    const ssize_t more = read(connection, text + size, MOST - 1 - size);
    if (more <= 0) return false;
    text[size += (size_t)more] = '\0';
    if (body || !(body = strstr(text, "\r\n\r\n"))) continue;
    body += 4;
    const char *header = strcasestr(text, "Content-Length:");
    length = header ? atol(header + 15) : 0;
  }
  *request = (Request){.body = body};
  const char *key = strcasestr(text, "Authorization:");
  if (sscanf(text, "POST %255s", request->path) != 1) return false;
  if (!key || key > body || sscanf(key, "%*s %255[^\r]", request->key) != 1) strcpy(request->key, "-");
  judge(request);
  return true;
}

static void *serve(void *context) {
  const int connection = (int)(long)context;
  Request request;
  bool goes_on = true;
  while (goes_on && read_request(connection, &request)) {
    const int now = atomic_fetch_add(&busy, 1) + 1;
    pthread_mutex_lock(&lock);
    fprintf(record, "%s %lld %d %s %d\n", request.path, request.id, request.yes, request.key, now);
    fflush(record);
    pthread_mutex_unlock(&lock);
    goes_on = reply(connection, &request, request.path);
    atomic_fetch_sub(&busy, 1);
  }
  close(connection);
  return NULL;
}

int main(int argc, char **argv) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  record = argc > 1 ? fopen(argv[1], "a") : NULL;
  if (!record || listener < 0 || bind(listener, (struct sockaddr *)&address, size) || listen(listener, 128) ||
      getsockname(listener, (struct sockaddr *)&address, &size))
    return 1;
  signal(SIGPIPE, SIG_IGN);
  srandom((unsigned)getpid());
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  for (;;) {
    const int connection = accept(listener, NULL, NULL);
    pthread_t thread;
    if (connection >= 0 && !pthread_create(&thread, NULL, serve, (void *)(long)connection))
      pthread_detach(thread);
  }
}
