/* The control domain's images, and its starts after the first. */
#pragma once

#include "capability.h"

struct memory;

/* The control domain's images. If `current` ends on trial, or too often, `before` takes its place:
   the one that it replaced; when it is confirmed, the one that was booted. */
extern struct images {
    struct memory *booted, *current, *before;
    bool trial;
} images;
/* Maps the image that it starts with; a status. */
MUST_USE u32 image_boot(struct memory *image);
/* Takes the memory of a capability, which goes, and starts the control domain again with it, on
   trial. False: something else than this capability leads to it, or one is on trial. */
MUST_USE bool image_upgrade(struct cap *cap);
/* The end of the trial. False: there is none. */
MUST_USE bool image_confirm(void);

/* A step of its next start, when nothing of it runs: cpu->restart_control asks for it. */
void image_restart(void);
