// SPDX-License-Identifier: MIT
#include "vballoon/sim/page_allocator.h"
