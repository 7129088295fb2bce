/* Halocline in neXtSIM_DG: the model starts from a generated state in memory, and every step is judged.
 *
 * To the model this is one more kind of diagnostic output (`DiagnosticOutputModule = Nextsim::HaloclineOutput`), which
 * passes everything on to the output that the user wants besides. Settings, in a section [Halocline] of the model's
 * configuration:
 *   config    file of Halocline (YAML); without it nothing is done but passing on
 *   generate  true: start from a generated state instead of that of model.init_file
 *   fields    variables to exchange, those of the generator; by default all that Halocline knows of sea ice
 *   output    output to pass on to: Nextsim::ConfigOutput (default), Nextsim::SimpleOutput, Nextsim::NoOutput
 */
#ifndef HALOCLINEOUTPUT_HPP
#define HALOCLINEOUTPUT_HPP

#include "include/Configured.hpp"
#include "include/IDiagnosticOutput.hpp"

#include <cstdint>
#include <halocline.h>
#include <memory>
#include <mpi.h>
#include <string>
#include <vector>

namespace Nextsim {

class HaloclineOutput : public IDiagnosticOutput, public Configured<HaloclineOutput> {
public:
  ~HaloclineOutput() override;

  /* The model's ranks: all of the job but those of `halocline serve`. Initialises MPI if nobody has. Collective over
   * MPI_COMM_WORLD on its first call. */
  static MPI_Comm communicator();

  void setFilenamePrefix(const std::string& prefix) override { filePrefix = prefix; }
  void setModelStart(const TimePoint& start) override;
  void outputState(const ModelState& state, const ModelMetadata& meta) override;

  std::string getName() const override { return "HaloclineOutput"; }
  void setData(const ModelState::DataMap&) override { }

  void configure() override;
  static HelpMap& getHelpRecursive(HelpMap& map, bool getAll);

private:
  /* One variable: its name in Halocline, and the model's array that holds it. */
  struct Exchanged {
    std::string name, point, unit, array;
    double* address; /* of the registered numbers: the model's own, or those of `broken` */
  };

  void declare(const TimePoint& start);
  void declareGrid();
  void registerFields();
  double* numbersOf(const Exchanged& field);
  void start();
  void makePossible();
  void setDynamics();
  std::int64_t stepAt(const TimePoint& time) const;
  void tell(const halocline_verdict& verdict) const;
  [[noreturn]] void stop(const halocline_verdict& verdict, const ModelState& state, const ModelMetadata& meta);
  ModelArray& modelArray(const std::string& name) const;
  bool exchanges(const std::string& name) const;

  std::string filePrefix, configFile;
  bool generate = false, running = false;
  double timeStep = 0;
  std::vector<Exchanged> fields;
  std::vector<double> broken; /* damage as Halocline counts it: 0 intact; the model has 1 there */
  std::unique_ptr<IDiagnosticOutput> output;
};

} /* namespace Nextsim */

#endif /* HALOCLINEOUTPUT_HPP */
