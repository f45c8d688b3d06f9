#!/usr/bin/env bash
# Collects what building and testing Drover needs beside a compiler, for a machine that has no packages and no
# network (many a rented GPU): headers, libraries (static where Debian has them so), pkg-config files that work in
# any place, and the small programs that the build and the tests call.
#
#   tools/bundle.sh FOLDER
#
# Run on a Debian machine where tools/setup.sh has run; then take FOLDER along and give it to tools/test_gpu.sh and
# tools/bench_gpu.sh as --bundle FOLDER. About 45 MiB, most of it oneDNN.
set -euo pipefail
(($# == 1)) && [[ $1 != -* ]] || {
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
  exit 2
}
mkdir -p "$1"
folder=$(cd "$1" && pwd)
mkdir -p "$folder"/{include,lib/pkgconfig,bin}

libraries=(libjansson-dev libyaml-dev libsqlite3-dev libdnnl-dev libpcre2-dev libutf8proc-dev libxxhash-dev
  zlib1g-dev libzstd-dev libcmocka-dev)
programs=(pkgconf ninja jq sqlite3)

# Shared libraries that a file needs, except those of the C and C++ runtimes, which every machine has.
needed() {
  ldd "$1" 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' |
    grep -vE '/(libc|libm|libdl|libpthread|librt|libstdc\+\+|libgcc_s|libgomp|ld-linux[^/]*)\.so' || true
}

take_library() { # the real file, under the name that programs ask for
  local name=${1##*/}
  cp -L "$1" "$folder/lib/$name"
  strip --strip-unneeded "$folder/lib/$name" 2>/dev/null || true
}

for package in "${libraries[@]}"; do
  while read -r file; do
    [[ -f $file ]] || continue
    case $file in
      /usr/include/*)
        target=$folder/include/${file#/usr/include/}
        target=${target/x86_64-linux-gnu\//}
        mkdir -p "${target%/*}" && cp "$file" "$target"
        ;;
      *.pc) sed "s|^prefix=.*|prefix=\${pcfiledir}/../..|; s|^libdir=.*|libdir=\${prefix}/lib|
          s|^includedir=.*|includedir=\${prefix}/include|; s|-L/usr/lib/[^ ]*|-L\${pcfiledir}/..|
          s|-I/usr/include|-I\${pcfiledir}/../../include|" "$file" >"$folder/lib/pkgconfig/${file##*/}" ;;
      *.a) cp "$file" "$folder/lib/" ;;
      *.so)
        if [[ ! -e ${file%.so}.a ]]; then
          soname=$(objdump -p "$file" | awk '/SONAME/ { print $2 }')
          take_library "$(dirname "$file")/$soname"
          ln -sf "$soname" "$folder/lib/${file##*/}"
          for library in $(needed "$file"); do take_library "$library"; done
        fi
        ;;
    esac
  done < <(dpkg -L "$package")
done
rm -f "$folder"/lib/libpcre2-{16,32,posix}.* # only the 8-bit library is used

for program in "${programs[@]}"; do
  path=$(command -v "$program") || {
    echo "bundle.sh: $program is not here: run tools/setup.sh first" >&2
    exit 1
  }
  cp -L "$path" "$folder/bin/$program"
  for library in $(needed "$path"); do take_library "$library"; done
done
ln -sf pkgconf "$folder/bin/pkg-config"
du -sh "$folder" >&2
