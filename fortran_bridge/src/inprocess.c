/* Reaches the emulator in the model's own process. Python stays in a plugin beside this library, so that a model that
 * runs with emulator ranks beside it loads none. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"

static const char anchor; /* an address in this library */

int halocline_inprocess_open(const struct halocline_backend **backend) {
  Dl_info here;
  char folder[PATH_MAX], plugin[PATH_MAX + 32];
  if (!dladdr(&anchor, &here) || !realpath(here.dli_fname, folder))
    return halocline_fail(HALOCLINE_START,
                          "The folder of libhalocline.so is not known, so its Python plugin cannot be found.");
  *strrchr(folder, '/') = 0;
  snprintf(plugin, sizeof plugin, "%s/halocline_python.so", folder);

  void *library = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return halocline_fail(
        HALOCLINE_START,
        "Running in the model's process needs %s, which cannot be loaded: %s. Install Halocline with a "
        "Python that has a shared libpython, or start ranks of `halocline serve` beside the model.",
        plugin, dlerror());
  *backend = dlsym(library, "halocline_python_backend");
  if (!*backend) return halocline_fail(HALOCLINE_START, "%s is not a plugin of this version: %s.", plugin, dlerror());
  return HALOCLINE_SUCCESS;
}
