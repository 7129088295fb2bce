/* See include/HaloclineOutput.hpp. */
#include "include/HaloclineOutput.hpp"

#include "include/ConfigOutput.hpp"
#include "include/Finalizer.hpp"
#include "include/IDynamics.hpp"
#include "include/Logged.hpp"
#include "include/ModelConfig.hpp"
#include "include/NextsimModule.hpp"
#include "include/NoOutput.hpp"
#include "include/SimpleOutput.hpp"
#include "include/StructureFactory.hpp"
#include "include/gridNames.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace Nextsim {

namespace {

const std::string section = "Halocline";
const std::string configKey = section + ".config";
const std::string generateKey = section + ".generate";
const std::string fieldsKey = section + ".fields";
const std::string outputKey = section + ".output";
const std::string defaultFields = "concentration,thickness,snow,damage,ice_u,ice_v";
const std::string defaultOutput = "Nextsim::ConfigOutput";

/* Variables of Halocline, and where the model's array store has them. */
struct Known {
  const char *name, *point, *unit, *array;
};
const std::array<Known, 6> known = { {
    { "concentration", "T", "1", Protected::C_ICE.text },
    { "thickness", "T", "m", Protected::H_ICE.text },
    { "snow", "T", "m", Protected::H_SNOW.text },
    { "damage", "T", "1", Protected::DAMAGE.text },
    { "ice_u", "U", "m/s", Protected::ICE_U.text },
    { "ice_v", "V", "m/s", Protected::ICE_V.text },
} };

/* Below either the model removes the ice and charges the ocean its latent heat (nextsim_thermo.min_conc, min_thick).
 * Numbers and arithmetic are those of start files, python/halocline/io/nextsim_start.py. */
const double leastConcentration = 1e-12;
const double leastThickness = 0.01;
const double leastIntact = 1e-12;

/* What the model's restarts hold, of those that a configuration has. */
const std::vector<std::string> prognostic = { maskName, hiceName, ciceName, hsnowName, damageName, uName, vName,
  ticeName, tsurfName, "tinterior", "tbottom", sstName, sssName };

/* Of a run that a verdict has ended: a chain of jobs must not go on, though nothing went wrong. */
const int exitStopped = 3;

bool mpiIsOurs = false;

void check(int status) {
  if (status != HALOCLINE_SUCCESS) halocline_abort(status);
}

} // namespace

MPI_Comm HaloclineOutput::communicator() {
  static int model = -1;
  if (model >= 0) return MPI_Comm_f2c(model);
  int ready = 0;
  MPI_Initialized(&ready);
  if (!ready) {
    MPI_Init(nullptr, nullptr);
    mpiIsOurs = true;
  }
  check(halocline_split(MPI_Comm_c2f(MPI_COMM_WORLD), "nextsim", &model));
  return MPI_Comm_f2c(model);
}

HaloclineOutput::~HaloclineOutput() {
  if (running) {
    halocline_verdict verdict;
    check(halocline_finalize(&verdict));
    tell(verdict);
  }
  int done = 0;
  MPI_Finalized(&done);
  if (mpiIsOurs && !done) MPI_Finalize();
}

HaloclineOutput::HelpMap& HaloclineOutput::getHelpRecursive(HelpMap& map, bool) {
  map[section] = {
    { configKey, ConfigType::STRING, {}, "", "", "Configuration of Halocline; without it nothing is done." },
    { generateKey, ConfigType::BOOLEAN, { "true", "false" }, "false", "", "Start from a generated state." },
    { fieldsKey, ConfigType::STRING, {}, defaultFields, "", "Variables to exchange, those of the generator." },
    { outputKey, ConfigType::STRING, {}, defaultOutput, "", "Diagnostic output to be written besides." },
  };
  return map;
}

void HaloclineOutput::configure() {
  configFile = Configured::getConfiguration(configKey, std::string());
  generate = Configured::getConfiguration(generateKey, false);

  const std::string name = Configured::getConfiguration(outputKey, defaultOutput);
  if (name == "Nextsim::ConfigOutput") output = std::make_unique<ConfigOutput>();
  else if (name == "Nextsim::SimpleOutput") output = std::make_unique<SimpleOutput>();
  else if (name == "Nextsim::NoOutput") output = std::make_unique<NoOutput>();
  else
    throw std::runtime_error(outputKey + " is '" + name
        + "', expected Nextsim::ConfigOutput, Nextsim::SimpleOutput or Nextsim::NoOutput.");
  output->setFilenamePrefix(filePrefix);
  tryConfigure(*output);

  std::istringstream list(Configured::getConfiguration(fieldsKey, defaultFields));
  for (std::string wanted; std::getline(list, wanted, ',');) {
    auto found = std::find_if(known.begin(), known.end(), [&](const Known& row) { return wanted == row.name; });
    if (found == known.end())
      throw std::runtime_error(fieldsKey + " names '" + wanted + "', expected some of " + defaultFields + ".");
    fields.push_back({ found->name, found->point, found->unit, found->array, nullptr });
  }
}

/* The first call with everything in place: the model has read its initial state, and no step was made yet. */
void HaloclineOutput::setModelStart(const TimePoint& start) {
  output->setModelStart(start);
  if (configFile.empty()) return;
  declare(start);
  if (generate) this->start();
}

void HaloclineOutput::declare(const TimePoint& start) {
  timeStep = Duration(Configured::getConfiguration(std::string("model.time_step"), std::string())).seconds();
  check(halocline_init(MPI_Comm_c2f(communicator()), configFile.c_str()));
  running = true;
  declareGrid();
  registerFields();
  check(halocline_ready("standard", timeStep, stepAt(start), std::stoi(start.format("%Y%m%d"))));
}

void HaloclineOutput::declareGrid() {
  const auto& x = ModelArray::definedDimensions.at(ModelArray::Dimension::X);
  const auto& y = ModelArray::definedDimensions.at(ModelArray::Dimension::Y);
  std::vector<double> sea(oceanMask().trueSize());
  for (std::size_t i = 0; i < sea.size(); ++i) sea[i] = oceanMask()[i] > 0 ? 1. : 0.;
  const std::int64_t nx = x.localLength, stride[] = { 1, nx, nx * static_cast<std::int64_t>(y.localLength) };
  check(halocline_grid(x.globalLength, y.globalLength, 1, x.start, y.start, x.localLength, y.localLength, sea.data(),
      stride));
}

/* Tells where the numbers are; again if the model has moved them. Advected fields have several DG components in each
 * cell, of which the first is the mean. */
void HaloclineOutput::registerFields() {
  const std::int64_t nx = ModelArray::definedDimensions.at(ModelArray::Dimension::X).localLength;
  for (auto& field : fields) {
    double* numbers = numbersOf(field);
    if (numbers == field.address) continue;
    field.address = numbers;
    const std::int64_t components = field.name == "damage" ? 1 : modelArray(field.array).nComponents();
    const std::int64_t stride[] = { components, components * nx, components * nx };
    check(halocline_field(field.name.c_str(), field.point.c_str(), field.unit.c_str(), sizeof(double), 1, numbers,
        stride));
  }
}

double* HaloclineOutput::numbersOf(const Exchanged& field) {
  ModelArray& array = modelArray(field.array);
  if (field.name != "damage") return const_cast<double*>(array.getData());
  broken.resize(array.trueSize());
  for (std::size_t i = 0; i < broken.size(); ++i) broken[i] = 1. - array[i];
  return broken.data();
}

/* The store hands out what other components may not change as const; the arrays themselves are not. */
ModelArray& HaloclineOutput::modelArray(const std::string& name) const {
  const auto all = getStore().getAllData();
  const auto found = all.find(name);
  if (found == all.end() || !found->second || !found->second->trueSize())
    throw std::runtime_error("The model has no array " + name + ", which Halocline needs: leave it out of " + fieldsKey
        + ".");
  return const_cast<ModelArray&>(*found->second);
}

bool HaloclineOutput::exchanges(const std::string& name) const {
  return std::any_of(fields.begin(), fields.end(), [&](const Exchanged& field) { return field.name == name; });
}

/* Puts a generated state into the model, as if model.init_file had held it. */
void HaloclineOutput::start() {
  for (const char* name : { "concentration", "thickness", "snow" })
    if (!exchanges(name)) throw std::runtime_error(fieldsKey + " lacks " + name + ", without which no ice can start.");
  halocline_verdict verdict;
  check(halocline_generate(&verdict));
  tell(verdict);
  if (verdict.action == HALOCLINE_STOP) {
    std::cerr << "neXtSIM does not start: " << verdict.reason << std::endl;
    running = false;
    check(halocline_finalize(nullptr));
    MPI_Finalize();
    std::exit(exitStopped);
  }
  if (verdict.action == HALOCLINE_FALL_BACK) return; // the fields are still those of model.init_file
  makePossible();
  setDynamics();
}

/* Ice as the model can carry it; rules 2 to 5 of a start file, with the same bits. */
void HaloclineOutput::makePossible() {
  ModelArray& cice = modelArray(Protected::C_ICE);
  ModelArray& hice = modelArray(Protected::H_ICE);
  ModelArray& hsnow = modelArray(Protected::H_SNOW);
  ModelArray& damage = modelArray(Protected::DAMAGE);
  const bool breaks = exchanges("damage");
  for (std::size_t i = 0; i < hsnow.trueSize(); ++i) {
    double concentration = std::min(1., std::max(0., cice[i]));
    double thickness = std::max(0., hice[i]), snow = std::max(0., hsnow[i]);
    if (concentration <= leastConcentration || thickness <= leastThickness * concentration)
      concentration = thickness = snow = 0.;
    cice.components(i) = 0.; // of the higher moments nothing is known
    hice.components(i) = 0.;
    cice[i] = concentration;
    hice[i] = thickness;
    hsnow[i] = snow;
    damage[i] = breaks ? std::min(1., std::max(leastIntact, 1. - broken[i])) : 1.;
  }
}

/* The dynamics keep velocity and damage in arrays of their own, which follow from the initial state only. */
void HaloclineOutput::setDynamics() {
  const std::string file = Configured::getConfiguration(std::string("model.init_file"), std::string());
#ifdef USE_MPI
  const std::string partition
      = Configured::getConfiguration(std::string("model.partition_file"), std::string("partition.nc"));
  ModelMetadata meta(partition, communicator());
  ModelState state = StructureFactory::stateFromFile(file, meta);
#else
  ModelState state = StructureFactory::stateFromFile(file);
#endif
  for (const auto& [name, array] : { std::pair(uName, Protected::ICE_U), std::pair(vName, Protected::ICE_V) }) {
    if (exchanges(name == uName ? "ice_u" : "ice_v")) state.data[name] = modelArray(array);
    else state.data[name] = 0.;
  }
  state.data[damageName] = modelArray(Protected::DAMAGE);
  Module::getImplementation<IDynamics>().setData(state.data);
}

/* Steps since 1970, so that a run that goes on from a restart goes on in log and record. */
std::int64_t HaloclineOutput::stepAt(const TimePoint& time) const {
  return static_cast<std::int64_t>(std::floor((time - TimePoint()).seconds() / timeStep));
}

void HaloclineOutput::outputState(const ModelState& state, const ModelMetadata& meta) {
  output->outputState(state, meta);
  if (!running) return;
  registerFields();
  halocline_verdict verdict;
  check(halocline_observe(stepAt(meta.time()), &verdict));
  tell(verdict);
  if (verdict.action == HALOCLINE_STOP) stop(verdict, state, meta);
}

void HaloclineOutput::tell(const halocline_verdict& verdict) const {
  if (verdict.level != HALOCLINE_SUSPECT && verdict.level != HALOCLINE_REJECT) return;
  std::ostringstream line;
  line << "Halocline: step " << verdict.step << (verdict.level == HALOCLINE_REJECT ? " rejected: " : " suspect: ")
       << verdict.reason << '\n';
  Logged::warning(line.str());
}

/* Ends as the model does after its last step: restart file, modules, MPI. */
void HaloclineOutput::stop(const halocline_verdict& verdict, const ModelState& state, const ModelMetadata& meta) {
  std::cerr << "neXtSIM stops after " << meta.time() << ": " << verdict.reason << std::endl;
  ModelState restart { {}, state.config };
  for (const std::string& name : prognostic)
    if (state.data.count(name)) restart.data[name] = state.data.at(name);
  restart.merge(ModelConfig::getConfig());
  meta.affixCoordinates(restart);
  const std::string pattern
      = Configured::getConfiguration(std::string("model.restart_file"), "restart" + TimePoint::ymdhmsFormat + ".nc");
  StructureFactory::fileFromState(restart, meta, meta.time().format(pattern), true);
  Finalizer::finalize(); // closes files and destroys this object, which ends with Halocline
  int done = 0;
  MPI_Finalized(&done);
  if (!done) MPI_Finalize();
  std::exit(exitStopped);
}

} /* namespace Nextsim */
