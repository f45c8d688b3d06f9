#!/usr/bin/env bash
# Who may include whom: checks every #include line of the house against the rules below.
#
#   tests/includes.sh [FOLDER]     FOLDER is a source tree; the current directory when left out
#
# A room is a top folder. A quoted include names room and file ("base/error.h"); the rooms that each room may
# use stand in room_rules. A header of a library may be used only by the files in vendor_rules, so that a
# library can be exchanged in one place. A header that neither list knows is an error too: add it here, with
# the one place where it belongs. Tests may include anything but Boost, which is for tests/cuda_host. Before the
# tree is checked, the rules are tried on a small tree with one violation of each kind, so that a check that has
# gone blind fails.
set -euo pipefail

# room: the rooms it may use besides itself
room_rules='
base:
formats: base
compute: base
tokenizer: base formats
lora: base formats compute
model: base formats compute lora
template: base
datasets: base tokenizer template
train: base formats compute tokenizer lora model template datasets
rollout: base formats compute lora model tokenizer
scoring: base formats compute tokenizer lora model template datasets train rollout
sft: base formats compute tokenizer lora model template datasets train rollout scoring
reward: base formats compute tokenizer lora model template datasets train rollout scoring
ppo: base formats compute tokenizer lora model template datasets train rollout scoring
dpo: base formats compute tokenizer lora model template datasets train rollout scoring
tools: base formats compute tokenizer lora model template datasets train rollout scoring
'

# header pattern: patterns of the files that may include it
vendor_rules='
^(oneapi/)?dnnl|^cblas[.]h$: ^compute/
^(cuda|cublas|curand|cub/|nvtx|mma[.]h|cooperative_groups): ^compute/
^(launch|ptx|wgmma)[.]cuh$: ^compute/cuda/
^tiles[.]h$: ^compute/amx/
^c(math|stdint|stdio|stdlib|string|float|limits|time)$|^type_traits$: ^compute/(cuda/.*[.]cuh?|comm_nccl[.]cu)$
^dlfcn[.]h$: ^compute/cuda/
^boost/: ^tests/cuda_host/
^(mpi|nccl): ^compute/comm_(mpi|nccl)[.]cu?$
^netdb[.]h$|^netinet/|^arpa/: ^compute/socket[.]c$
^omp[.]h$|^(imm|x86|amx|avx)[a-z]*[.]h$|^cpuid[.]h$: ^compute/
^sqlite3[.]h$: ^train/runlog[.]c$
^pcre2[.]h$: ^base/regex[.]c$
^utf8proc[.]h$: ^tokenizer/ ^template/
^xxhash[.]h$: ^base/
^(zlib|zstd)[.]h$: ^datasets/unpack[.]c$
^curl/: ^scoring/http_curl[.]c$
^sanitizer/|^malloc[.]h$: ^base/
^editline/|^histedit[.]h$: ^tools/
^yaml[.]h$: ^base/yaml[.]c$
^jansson[.]h$: ^base/(option|json|yaml|config) ^formats/ ^tokenizer/ ^template/ ^datasets/ ^model/arch ^lora/ ^train/ ^scoring/ ^tools/
^(assert|complex|ctype|errno|fenv|float|inttypes|limits|locale|math|setjmp|signal|stdalign|stdarg)[.]h$: .
^(stdatomic|stdbool|stddef|stdint|stdio|stdlib|stdnoreturn|string|threads|time|uchar|wchar)[.]h$: .
^(dirent|fcntl|fnmatch|getopt|glob|poll|pthread|sched|spawn|strings|termios|unistd)[.]h$|^sys/: .
'

# Prints "FILE:LINE: what is wrong" for each violation below folder $1.
violations() {
  (cd "$1" && find . -path ./build -prune -o \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' -o \
    -name '*.cc' \) -type f -print0 | sort -z | xargs -0 -r grep -nHE '^[[:space:]]*#[[:space:]]*include' || true) |
    room_rules="$room_rules" vendor_rules="$vendor_rules" awk '
      BEGIN {
        count = split(ENVIRON["room_rules"], lines, "\n")
        for (i = 1; i <= count; i++) {
          if (lines[i] == "") continue
          room = lines[i]; sub(/:.*/, "", room)
          used = lines[i]; sub(/^[^:]*:/, "", used)
          rooms[room] = 1; may[room, room] = 1
          n = split(used, names, " ")
          for (k = 1; k <= n; k++) may[room, names[k]] = 1
        }
        count = split(ENVIRON["vendor_rules"], lines, "\n")
        for (i = 1; i <= count; i++) {
          if (lines[i] == "") continue
          at = index(lines[i], ": ")
          header[++headers] = substr(lines[i], 1, at - 1)
          users[headers] = substr(lines[i], at + 2)
        }
      }
      function wrong(text) { print file ":" line ": " text }
      function check_vendor(name,   i, k, n, allowed) {
        for (i = 1; i <= headers; i++) {
          if (name !~ header[i]) continue
          n = split(users[i], allowed, " ")
          for (k = 1; k <= n; k++) if (file ~ allowed[k]) return
          wrong("<" name "> may be included only by files like " users[i])
          return
        }
        wrong("<" name "> has no rule in tests/includes.sh")
      }
      {
        match($0, /:[0-9]+:/)
        file = substr($0, 3, RSTART - 3)
        line = substr($0, RSTART + 1, RLENGTH - 2)
        text = substr($0, RSTART + RLENGTH)
        room = file; sub(/\/.*/, "", room)
        if (!(room in rooms) && text !~ /<boost[/]/) next # tests may include anything else
        if (match(text, /<[^>]+>/)) { check_vendor(substr(text, RSTART + 1, RLENGTH - 2)); next }
        if (!match(text, /"[^"]+"/)) { wrong("an include that cannot be checked: " text); next }
        name = substr(text, RSTART + 1, RLENGTH - 2)
        target = name; sub(/\/.*/, "", target)
        if (name !~ /^[a-z]+\// || name ~ /[.][.]/) wrong("\"" name "\" does not name its room")
        else if (!(target in rooms)) wrong("\"" name "\": " target " is no room of the house")
        else if (!((room, target) in may)) wrong("\"" name "\": " room " may not use " target)
      }'
}

# Tries the rules on a tree of one line per file: "FILE include-argument", first good ones, then bad ones.
self_test() {
  local folder good bad file argument found
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' RETURN
  good='base/a.c <xxhash.h>
base/option_x.c <jansson.h>
base/b.c "base/a.h"
formats/a.c "base/a.h"
compute/cpu/a.c <oneapi/dnnl/dnnl.h>
compute/cuda/a.cu <cuda_runtime.h>
compute/cuda/b.cuh <launch.cuh>
compute/cuda/c.cu <cmath>
tests/cuda_host/a.cc <boost/context/detail/fcontext.hpp>
compute/comm_mpi.c <mpi.h>
compute/socket.c <netdb.h>
compute/comm_nccl.cu <nccl.h>
base/regex.c <pcre2.h>
tokenizer/a.c <utf8proc.h>
train/runlog.c <sqlite3.h>
train/a.c "model/a.h"
rollout/a.c "model/a.h"
rollout/b.c "tokenizer/a.h"
ppo/main.c "rollout/a.h"
scoring/a.c "rollout/a.h"
scoring/http_curl.c <curl/curl.h>
ppo/b.c "scoring/a.h"
tools/a.c "datasets/a.h"
tests/unit/a.c "ppo/a.h"
tests/unit/b.c <cmocka.h>'
  bad='base/c.c "formats/a.h"
base/d.c <sqlite3.h>
base/e.c <jansson.h>
base/f.c "a.h"
base/g.c "base/../model/a.h"
formats/b.c "compute/a.h"
formats/c.c <xxhash.h>
compute/b.c "model/a.h"
compute/comm.c <mpi.h>
compute/comm.c <netinet/in.h>
compute/cuda/e.cu <nccl.h>
compute/cpu/b.c <ptx.cuh>
compute/cuda/d.c <cmath>
base/j.c <boost/context/detail/fcontext.hpp>
tests/unit/c.c <boost/container/vector.hpp>
tokenizer/b.c "model/a.h"
lora/a.c "model/a.h"
model/a.c <cblas.h>
model/b.cu <cuda_runtime.h>
model/c.h "train/a.h"
model/d.c "tokenizer/a.h"
datasets/a.c "model/a.h"
train/b.c <sqlite3.h>
train/c.c "rollout/a.h"
rollout/c.c "train/a.h"
scoring/b.c "ppo/a.h"
scoring/http.c <curl/curl.h>
train/d.c "scoring/a.h"
sft/a.c "ppo/a.h"
ppo/a.c "reward/a.h"
reward/a.c <utf8proc.h>
tokenizer/d.c <pcre2.h>
lora/b.c <regex.h>
sft/b.c <jansson.h>
tools/b.c "sft/a.h"
datasets/b.c <zlib.h>
tools/c.c <curl/curl.h>
base/h.c "tests/temporary.h"
base/i.c HEADER'
  while read -r file argument; do
    mkdir -p "$folder/good/${file%/*}" "$folder/bad/${file%/*}"
    printf '  #  include %s\n' "$argument" >"$folder/good/$file"
  done <<<"$good"
  while read -r file argument; do
    mkdir -p "$folder/bad/${file%/*}"
    printf '\n#include %s /* why */\n' "$argument" >"$folder/bad/$file"
  done <<<"$bad"
  found=$(violations "$folder/good")
  if [[ -n $found ]]; then
    printf 'self-test: what is allowed was refused:\n%s\n' "$found"
    return 1
  fi
  found=$(violations "$folder/bad")
  while read -r file argument; do
    if ! grep -qF "$file:2: " <<<"$found"; then
      printf 'self-test: not noticed: %s includes %s\n' "$file" "$argument"
      return 1
    fi
  done <<<"$bad"
}

self_test
cd "${1:-.}"
if [[ ! -f base/error.h ]]; then
  echo "$PWD is not the source tree"
  exit 2
fi
found=$(violations .)
if [[ -n $found ]]; then
  printf '%s\n' "$found"
  exit 1
fi
echo "includes: $(find . -path ./build -prune -o -name '*.[ch]' -print | wc -l) files keep the rules"
