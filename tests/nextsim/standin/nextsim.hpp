/* Stand-in for the part of neXtSIM_DG that the output module uses: its names and their meaning, nothing behind them.
 * Configuration comes from the environment, "model.start" as MODEL_START. */
#ifndef STANDIN_NEXTSIM_HPP
#define STANDIN_NEXTSIM_HPP

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <iostream>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

struct TextTag {
  const char* text;
  operator std::string() const { return text; }
};

namespace Nextsim {

const std::string hiceName = "hice", ciceName = "cice", hsnowName = "hsnow", damageName = "damage", maskName = "mask",
                  uName = "u", vName = "v", ticeName = "tice", tsurfName = "tsurf", sstName = "sst", sssName = "sss";

namespace Protected {
inline constexpr TextTag H_ICE { "H_ICE_cell" }, C_ICE { "C_ICE0" }, H_SNOW { "H_SNOW_cell" }, DAMAGE { "DAMAGE0" },
    ICE_U { "ICE_U" }, ICE_V { "ICE_V" };
}

class Duration {
public:
  Duration(double seconds) : length(seconds) { }
  Duration(const std::string& text) : length(std::stod(text)) { }
  double seconds() const { return length; }

private:
  double length;
};

class TimePoint {
public:
  TimePoint(double seconds = 0) : since1970(seconds) { }
  Duration operator-(const TimePoint& other) const { return Duration(since1970 - other.since1970); }
  std::string format(const std::string& pattern) const {
    char text[128];
    const std::time_t seconds = static_cast<std::time_t>(since1970);
    return std::string(text, std::strftime(text, sizeof text, pattern.c_str(), std::gmtime(&seconds)));
  }
  inline static const std::string ymdhmsFormat = "%Y-%m-%dT%H:%M:%SZ";

private:
  double since1970;
};
inline std::ostream& operator<<(std::ostream& stream, const TimePoint& time) {
  return stream << time.format(TimePoint::ymdhmsFormat);
}

/* Cells along rows, their components side by side. */
class ModelArray {
public:
  enum class Dimension { X, Y };
  struct DimensionSpec {
    std::size_t globalLength, localLength, start;
  };
  inline static std::map<Dimension, DimensionSpec> definedDimensions;

  explicit ModelArray(std::size_t components = 1)
      : width(components), numbers(components * cells(), 0.) { }
  ModelArray& operator=(double value) {
    numbers.assign(numbers.size(), value);
    return *this;
  }
  std::size_t trueSize() const { return numbers.size() / width; }
  std::size_t nComponents() const { return width; }
  const double* getData() const { return numbers.data(); }
  const double& operator[](std::size_t i) const { return numbers[i * width]; }
  double& operator[](std::size_t i) { return numbers[i * width]; }

  class Components {
  public:
    Components(double* first, std::size_t count) : numbers(first), width(count) { }
    void operator=(double value) {
      for (std::size_t n = 0; n < width; ++n) numbers[n] = value;
    }

  private:
    double* numbers;
    std::size_t width;
  };
  Components components(std::size_t i) { return Components(&numbers[i * width], width); }
  double component(std::size_t i, std::size_t n) const { return numbers[i * width + n]; }
  void move() { std::vector<double>(numbers).swap(numbers); }

private:
  static std::size_t cells() {
    return definedDimensions.at(Dimension::X).localLength * definedDimensions.at(Dimension::Y).localLength;
  }
  std::size_t width;
  std::vector<double> numbers;
};

using ConfigMap = std::map<std::string, std::string>;

struct ModelState {
  using DataMap = std::map<std::string, ModelArray>;
  DataMap data;
  ConfigMap config;
  ModelState& merge(ConfigMap&& other) {
    config.merge(other);
    return *this;
  }
};

struct ModelMetadata {
  TimePoint now;
  const TimePoint& time() const { return now; }
  ModelState& affixCoordinates(ModelState& state) const {
    state.data["coords"] = ModelArray(2);
    return state;
  }
};

class Store {
public:
  std::unordered_map<std::string, const ModelArray*> getAllData() const { return arrays; }
  std::unordered_map<std::string, const ModelArray*> arrays;
};

class ModelComponent {
public:
  virtual ~ModelComponent() = default;
  virtual std::string getName() const = 0;
  virtual void setData(const ModelState::DataMap&) = 0;
  static Store& getStore() {
    static Store store;
    return store;
  }
  static ModelArray& sea() {
    static ModelArray mask;
    return mask;
  }

protected:
  static const ModelArray& oceanMask() { return sea(); }
};

struct ConfigurationHelp {
  std::string key;
  int type;
  std::vector<std::string> range;
  std::string usual, unit, text;
};

class ConfiguredBase {
public:
  virtual ~ConfiguredBase() = default;
  virtual void configure() = 0;
};

template <typename C> class Configured : public ConfiguredBase {
public:
  using HelpMap = std::map<std::string, std::list<ConfigurationHelp>>;
  struct ConfigType {
    enum { STRING, BOOLEAN };
  };
  static std::string getConfiguration(const std::string& key, const std::string& usual) {
    std::string name = key;
    for (char& letter : name) letter = letter == '.' ? '_' : static_cast<char>(std::toupper(letter));
    const char* value = std::getenv(name.c_str());
    return value ? value : usual;
  }
  static bool getConfiguration(const std::string& key, bool usual) {
    return getConfiguration(key, std::string(usual ? "true" : "false")) == "true";
  }
};

template <typename T> void tryConfigure(T& object) {
  if (auto* configured = dynamic_cast<ConfiguredBase*>(&object)) configured->configure();
}

class IDiagnosticOutput : public ModelComponent {
public:
  virtual void setFilenamePrefix(const std::string& prefix) = 0;
  virtual void outputState(const ModelState& state, const ModelMetadata& meta) = 0;
  virtual void setModelStart(const TimePoint&) { }
};

/* Says what it is asked for. */
template <int kind> class SomeOutput : public IDiagnosticOutput, public Configured<SomeOutput<kind>> {
public:
  void configure() override { std::printf("output %d configured\n", kind); }
  void setFilenamePrefix(const std::string& prefix) override {
    std::printf("output %d prefix %s\n", kind, prefix.c_str());
  }
  void setModelStart(const TimePoint&) override { std::printf("output %d start\n", kind); }
  void outputState(const ModelState&, const ModelMetadata&) override { std::printf("output %d state\n", kind); }
  std::string getName() const override { return "SomeOutput"; }
  void setData(const ModelState::DataMap&) override { }
};
using ConfigOutput = SomeOutput<1>;
using SimpleOutput = SomeOutput<2>;
using NoOutput = SomeOutput<3>;

class IDynamics : public ModelComponent {
public:
  std::string getName() const override { return "IDynamics"; }
  void setData(const ModelState::DataMap& data) override {
    for (const char* name : { "u", "v", "damage" }) std::printf("dynamics %s %.17g\n", name, data.at(name)[1]);
    std::printf("dynamics coords %zu\n", data.count("coords"));
  }
};

struct Logged {
  static void warning(const std::string& line) { std::printf("warning %s", line.c_str()); }
};

struct ModelConfig {
  static ConfigMap getConfig() { return { { "model.time_step", "1800" } }; }
};

struct StructureFactory {
  static ModelState stateFromFile(const std::string& path) {
    std::printf("read %s\n", path.c_str());
    ModelState state;
    for (const char* name : { "mask", "coords", "u", "v", "hsnow" }) state.data[name] = 7.;
    return state;
  }
  static void fileFromState(const ModelState& state, const ModelMetadata&, const std::string& path, bool isRestart) {
    std::printf("%s %s:", isRestart ? "restart" : "diagnostics", path.c_str());
    for (const auto& entry : state.data) std::printf(" %s", entry.first.c_str());
    std::printf("\n");
  }
};

struct Finalizer {
  inline static std::function<void()> last;
  static void finalize() {
    std::printf("model finalised\n");
    if (last) last();
  }
};

} // namespace Nextsim

namespace Module {
template <typename I> I& getImplementation() {
  static I instance;
  return instance;
}
} // namespace Module

#endif
