/* In a build without libcurl: the options are known, and judges behind HTTP are refused by name. */
#include "scoring/http.h"

static bool refuse(const void *options, const char *place, Error *error) {
  return http_check(options, place, error) &&
         error_set(
             error, ERROR_USAGE,
             "%s: kind http: this build has no libcurl: install it (tools/setup.sh: libcurl4-openssl-dev) "
             "and build again",
             place);
}

const SourceKind http_source = {
    .keys = {"http", http_options, HTTP_OPTIONS}, .config_size = sizeof(HttpOptions), .check = refuse};
