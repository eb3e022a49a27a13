// SPDX-License-Identifier: MIT
#include "vballoon/sim/aging.h"
