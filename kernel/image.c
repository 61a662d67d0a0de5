/* The control domain's images, and its starts after the first. */
#include "image.h"

#include "cpu.h"
#include "domain.h"
#include "log.h"
#include "memory.h"
#include "sched.h"
#include "smp.h"
#include "time.h"
#include "vcpu.h"
#include "x86.h"

#define RESTART_LIMIT 8  /* restarts in ten seconds, then it stays down */
#define TRIAL_SECONDS 10 /* in which a new image says that it is up */

struct images images;

static u32 image_map(struct memory *image) {
    u64 pages = image->pages < IMAGE_MAX >> PAGE_SHIFT ? image->pages : IMAGE_MAX >> PAGE_SHIFT;
    memory_unmap_below(control_domain, gpa(GPA_RAM));
    return memory_map(control_domain, image, NULL, gpa(GPA_IMAGE), 0, pages,
                      RIGHT_READ | RIGHT_EXECUTE);
}

u32 image_boot(struct memory *image) {
    images = (struct images){image, image, image, false};
    return image_map(image);
}

/* In place of another: with its cell, and no page for tables, for that of the first 2 MiB has the
   info page too. */
static void image_enter(struct memory *image) {
    u32 status = image_map(image);
    assert(status == STATUS_OK);
}

/* Nobody else can name an image that was taken (image_upgrade). */
static void image_drop(struct memory *image) {
    if (image != images.booted) memory_destroy(image);
}

static void trial_over(struct timeout *timeout) {
    (void)timeout;
    domain_fail(control_domain, FAILURE_HANG, 0);
}
static struct timeout trial = {.fire = trial_over};

bool image_upgrade(struct cap *cap) {
    struct memory *image = memory_of(cap->object);
    if (images.trial || cap->parent || image->clean != image->pages) return false;
    image->object.references++; /* it outlives its capabilities */
    cap_delete(cap);
    images.before = images.current;
    images.current = image;
    domain_fail(control_domain, FAILURE_REPLACED, 0);
    return true;
}

bool image_confirm(void) {
    if (!images.trial) return false;
    timeout_cancel(&trial);
    images.trial = false;
    control_domain->info->trial = 0;
    image_drop(images.before);
    images.before = images.booted;
    return true;
}

/* The image for the next start; false: the same failed too often, and there is no other. */
static bool image_choose(u32 failure) {
    static u64 window_start;
    static u32 in_window;
    if (rdtsc() - window_start > 10 * tsc_hz) {
        window_start = rdtsc();
        in_window = 0;
    }
    bool ends = images.trial || (failure != FAILURE_REPLACED && ++in_window > RESTART_LIMIT);
    bool back = ends && images.current != images.before;
    images.trial = failure == FAILURE_REPLACED;
    control_domain->info->trial = images.trial;
    control_domain->info->rolled_back = back;
    timeout_cancel(&trial);
    if (images.trial) timeout_set(&trial, rdtsc() + TRIAL_SECONDS * tsc_hz);
    if (back) {
        log_info("the control domain goes back to the image before");
        in_window = 0;
        struct memory *failed = images.current;
        images.current = images.before;
        images.before = images.booted;
        image_enter(images.current);
        image_drop(failed);
    } else if (images.trial) {
        image_enter(images.current);
    }
    return back || !ends;
}

static void restart_goes_on(struct timeout *timeout) {
    (void)timeout;
    this_cpu()->restart_control = true;
    this_cpu()->attention = true;
}

/* In steps, between which others run: to zero its memory takes long. */
void image_restart(void) {
    static struct timeout rest = {.fire = restart_goes_on};
    static bool under_way;
    struct domain *control = control_domain;
    struct memory *ram = mapping_at(control, gpa(GPA_RAM))->memory;
    u64 began = rdtsc();
    this_cpu()->restart_control = false;
    if (!under_way) {
        while (!kernel_try_lock())
            smp_service();
        under_way = image_choose(control->failure);
        kernel_unlock(true);
        if (!under_way) {
            log_info("the control domain fails again and again: it stays down, VMs run on");
            return;
        }
        control->info->ended_tsc = began;
        ram->clean = 0;
    }
    if (memory_fill(ram) == STATUS_OK && ram->clean < ram->pages) {
        u64 now = rdtsc();
        timeout_set(&rest, now + (now - began) / 2); /* a third of the time is for others */
        return;
    }
    under_way = false;
    memset(control->comm, 0, PAGE_SIZE);
    control->info->restarts++;
    control->info->last_failure = control->failure;
    control->state = DOMAIN_ACTIVE;
    control->failure = FAILURE_NONE;
    component_info(control);
    component_reset(control);
    vcpu_start(control->vcpus[0]);
    log_info("control domain started again (%u)", control->info->restarts);
}
