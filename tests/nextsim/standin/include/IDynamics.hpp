#include "../nextsim.hpp"
