/* A host that is itself a plugin of something: it opens libhalocline with RTLD_LOCAL.
 *   host_local CONFIG LIBRARY */
#include <dlfcn.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>

#include "halocline.h"

static void *library;

/* ISO C has no cast from an object's to a function's address. */
static void find(const char *name, void *function) {
  void *symbol = dlsym(library, name);
  memcpy(function, &symbol, sizeof symbol);
}

int main(int argc, char **argv) {
  int (*init)(int, const char *), (*finalize)(halocline_verdict *);
  const char *(*message)(void);
  if (argc < 3) return 2;
  library = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
  if (!library) return fprintf(stderr, "%s\n", dlerror()), 2;
  find("halocline_init", &init);
  find("halocline_finalize", &finalize);
  find("halocline_message", &message);
  MPI_Init(&argc, &argv);
  int status = init(MPI_Comm_c2f(MPI_COMM_WORLD), argv[1]);
  if (!status) status = finalize(NULL);
  printf("status %d: %s\n", status, message());
  fflush(stdout);
  dlclose(library);
  MPI_Finalize();
  return status;
}
