/* Stand-in for libhalocline: says which verb is called with what, and answers as the environment wants.
 * ACTION_GENERATE, ACTION_OBSERVE: actions of the verdicts; FAIL: verb that fails with the status contract. */
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <halocline.h>
#include <mpi.h>
#include <string>
#include <vector>

namespace {

struct Field {
  std::string name;
  double* numbers;
  std::int64_t stride[3];
};
std::vector<Field> fields;
int cells_x, cells_y;

int answer(const char* verb) {
  const char* failing = std::getenv("FAIL");
  return failing && std::strcmp(failing, verb) == 0 ? HALOCLINE_CONTRACT : HALOCLINE_SUCCESS;
}

halocline_verdict verdict(const char* variable, std::int64_t step) {
  const char* action = std::getenv(variable);
  halocline_verdict told {};
  told.step = step;
  told.action = action ? std::atoi(action) : HALOCLINE_GO_ON;
  told.level = told.action == HALOCLINE_GO_ON ? HALOCLINE_OK : HALOCLINE_REJECT;
  std::strcpy(told.reason, "too thick");
  return told;
}

} // namespace

extern "C" {

int halocline_split(int world, const char* name, int* model) {
  int ready = 0;
  MPI_Initialized(&ready);
  std::printf("split %s, MPI %s\n", name, ready ? "initialised" : "missing");
  *model = world;
  return answer("split");
}

int halocline_init(int, const char* config) {
  std::printf("init %s\n", config);
  return answer("init");
}

int halocline_grid(int ni, int nj, int nk, int i0, int j0, int nx, int ny, const double* mask,
    const std::int64_t stride[3]) {
  std::printf("grid %d %d %d from %d %d of %d %d:", ni, nj, nk, i0, j0, nx, ny);
  for (int j = 0; j < ny; ++j)
    for (int i = 0; i < nx; ++i) std::printf(" %g", mask[stride[0] * i + stride[1] * j]);
  std::printf("\n");
  cells_x = nx, cells_y = ny;
  return answer("grid");
}

int halocline_field(const char* name, const char* point, const char* unit, int bytes, int levels, void* data,
    const std::int64_t stride[3]) {
  std::printf("field %s %s %s %d %d strides %d %d\n", name, point, unit, bytes, levels, static_cast<int>(stride[0]),
      static_cast<int>(stride[1]));
  const Field field { name, static_cast<double*>(data), { stride[0], stride[1], stride[2] } };
  const auto known = std::find_if(fields.begin(), fields.end(), [&](const Field& old) { return old.name == name; });
  if (known == fields.end()) fields.push_back(field);
  else *known = field; // a new address
  return answer("field");
}

int halocline_ready(const char* calendar, double time_step, std::int64_t step, int date) {
  std::printf("ready %s %g %lld %d\n", calendar, time_step, static_cast<long long>(step), date);
  return answer("ready");
}

/* Numbers by which a cell can be told: tenths of its place, above 1 in the last, 0 in the first, which is land. */
int halocline_generate(halocline_verdict* told) {
  std::printf("generate\n");
  *told = verdict("ACTION_GENERATE", 0);
  if (told->action == HALOCLINE_FALL_BACK) return answer("generate");
  for (const Field& field : fields)
    for (int j = 0; j < cells_y; ++j)
      for (int i = 0; i < cells_x; ++i) {
        const int cell = i + cells_x * j;
        field.numbers[field.stride[0] * i + field.stride[1] * j] = cell == cells_x * cells_y - 1 ? 1.5 : 0.125 * cell;
      }
  return answer("generate");
}

int halocline_observe(std::int64_t step, halocline_verdict* told) {
  std::printf("observe %lld:", static_cast<long long>(step));
  for (const Field& field : fields) std::printf(" %s %g", field.name.c_str(), field.numbers[field.stride[0]]);
  std::printf("\n");
  *told = verdict("ACTION_OBSERVE", step);
  return answer("observe");
}

int halocline_finalize(halocline_verdict* told) {
  std::printf("finalize\n");
  if (told) *told = verdict("NO_VARIABLE", 0);
  return answer("finalize");
}

void halocline_abort(int status) {
  std::printf("abort %d\n", status);
  std::fflush(stdout);
  std::_Exit(80 + status);
}

} // extern "C"
