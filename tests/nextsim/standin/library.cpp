/* Something for the stand-in of the model's library to be made of. */
#include "nextsim.hpp"

std::size_t cells_of_the_sea() { return Nextsim::ModelComponent::sea().trueSize(); }
