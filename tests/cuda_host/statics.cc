/* A __shared__ variable is a thread-local static of a function (types.h). The symbol table of the executable
 * names them all: of type TLS, and mangled as local to a C++ function ("_ZZ...", which no variable of the
 * emulation is). An executable without symbols, or for another machine, has none to offer: then nothing is
 * poisoned, and host_statics_hold believes everything. */
#include "tests/cuda_host/statics.h"

#include "tests/cuda_host/grid.h"

#include <cstring>
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <unordered_map>
#include <vector>

extern "C" {
__thread char host_statics_anchor; /* a symbol whose address is known: the others are counted from it */
}

typedef struct Static {
  ptrdiff_t offset; /* from the anchor */
  size_t bytes;
} Static;

typedef struct Statics {
  std::vector<Static> all;
  bool known;
} Statics;

typedef struct Uses {
  bool learnt;
  std::vector<size_t> used; /* indices of Statics.all */
  size_t bytes;
} Uses;

static void read_symbols(Statics *statics, const char *image) {
  const Elf64_Ehdr *header = (const Elf64_Ehdr *)image;
  if (memcmp(header->e_ident, ELFMAG, SELFMAG) || header->e_ident[EI_CLASS] != ELFCLASS64) return;
  const Elf64_Shdr *sections = (const Elf64_Shdr *)(image + header->e_shoff);
  for (int s = 0; s < header->e_shnum; s++) {
    if (sections[s].sh_type != SHT_SYMTAB) continue;
    const Elf64_Sym *symbols = (const Elf64_Sym *)(image + sections[s].sh_offset);
    const char *names = image + sections[sections[s].sh_link].sh_offset;
    size_t count = sections[s].sh_size / sizeof(*symbols);
    const Elf64_Sym *anchor = nullptr;
    for (size_t i = 0; i < count; i++) {
      if (strcmp(names + symbols[i].st_name, "host_statics_anchor") == 0) anchor = &symbols[i];
    }
    if (!anchor) return;
    for (size_t i = 0; i < count; i++) {
      const Elf64_Sym *symbol = &symbols[i];
      if (ELF64_ST_TYPE(symbol->st_info) != STT_TLS || symbol->st_shndx == SHN_UNDEF) continue;
      if (strncmp(names + symbol->st_name, "_ZZ", 3)) continue;
      statics->all.push_back({(ptrdiff_t)(symbol->st_value - anchor->st_value), symbol->st_size});
    }
    statics->known = true;
  }
}

static Statics read_executable(void) {
  Statics statics = {};
  int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  struct stat status;
  if (file >= 0 && fstat(file, &status) == 0) {
    void *image = mmap(nullptr, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (image != MAP_FAILED) {
      read_symbols(&statics, (const char *)image);
      munmap(image, (size_t)status.st_size);
    }
  }
  if (file >= 0) close(file);
  return statics;
}

static const Statics *get(void) {
  static const Statics statics = read_executable();
  return &statics;
}

static char *address(const Static *s) {
  return &host_statics_anchor + s->offset;
}

static thread_local std::unordered_map<const void *, Uses> kernels;

void host_statics_begin(const void *kernel) {
  const Statics *statics = get();
  const Uses *uses = &kernels[kernel];
  if (uses->learnt) {
    for (size_t i : uses->used) host_poison(address(&statics->all[i]), statics->all[i].bytes);
  } else {
    for (const Static &s : statics->all) host_poison(address(&s), s.bytes);
  }
}

size_t host_statics_end(const void *kernel) {
  Uses *uses = &kernels[kernel];
  if (uses->learnt) return uses->bytes;
  const Statics *statics = get();
  std::vector<char> poison;
  for (size_t i = 0; i < statics->all.size(); i++) {
    const Static *s = &statics->all[i];
    poison.resize(s->bytes);
    host_poison(poison.data(), s->bytes);
    if (memcmp(poison.data(), address(s), s->bytes) == 0) continue;
    uses->used.push_back(i);
    uses->bytes += s->bytes;
  }
  uses->learnt = true;
  return uses->bytes;
}

bool host_statics_hold(const void *p, size_t bytes) {
  const Statics *statics = get();
  if (!statics->known) return true;
  for (const Static &s : statics->all) {
    const char *at = (const char *)p, *first = address(&s);
    if (at >= first && at + bytes <= first + s.bytes) return true;
  }
  return false;
}
