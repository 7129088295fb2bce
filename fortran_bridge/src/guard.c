#include "guard.h"

void halocline_guard_enter(fenv_t *host) {
  feholdexcept(host);
  fesetenv(FE_DFL_ENV);
}

void halocline_guard_leave(const fenv_t *host) {
  fesetenv(host); /* never feupdateenv: it raises what Python left pending, under the model's traps */
}
