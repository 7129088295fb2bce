/* What neXtSIM_DG does with its diagnostic output, on 3 x 2 cells of which the first is land: two steps of half an hour
 * from 2010-01-10. An argument says that the arrays move in memory between the steps. */
#include "include/HaloclineOutput.hpp"

#include <cstdio>
#include <memory>

using namespace Nextsim;

int main(int argc, char**) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  ModelArray::definedDimensions[ModelArray::Dimension::X] = { 3, 3, 0 };
  ModelArray::definedDimensions[ModelArray::Dimension::Y] = { 2, 2, 0 };
  ModelComponent::sea() = ModelArray();
  ModelComponent::sea() = 1.;
  ModelComponent::sea()[0] = 0.;
  std::map<std::string, ModelArray> arrays;
  for (const TextTag& tag : { Protected::C_ICE, Protected::H_ICE })
    arrays.emplace(tag, ModelArray(3)).first->second = 0.25;
  for (const TextTag& tag : { Protected::H_SNOW, Protected::DAMAGE, Protected::ICE_U, Protected::ICE_V })
    arrays.emplace(tag, ModelArray()).first->second = 0.25;
  for (auto& [name, array] : arrays) ModelComponent::getStore().arrays[name] = &array;

  auto output = std::make_unique<HaloclineOutput>();
  Finalizer::last = [&output] { output.reset(); };
  output->setFilenamePrefix("diagnostic");
  tryConfigure(*output);
  const double start = 14619 * 86400.;
  output->setModelStart(TimePoint(start));
  for (const auto& [name, array] : arrays) {
    std::printf("%s", name.c_str());
    for (std::size_t i = 0; i < array.trueSize(); ++i) std::printf(" %g", array[i]);
    std::printf(" higher %g\n", array.component(1, array.nComponents() - 1));
  }
  ModelState state;
  for (const char* name : { "mask", "hice", "cice", "hsnow", "u", "v", "damage", "tsurf", "sst", "sss", "shear" })
    state.data[name] = 1.;
  for (int step = 1; step <= 2; ++step) {
    arrays.at(Protected::DAMAGE)[1] = 1. - 0.125 * step;
    if (argc > 1) arrays.at(Protected::ICE_U).move();
    output->outputState(state, ModelMetadata { TimePoint(start + 1800. * step) });
  }
  Finalizer::finalize();
  std::printf("end of main\n");
}
