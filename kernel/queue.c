/* The queue of a CPU. In each band the least key is first: of the guaranteed the end of their
   period (earliest deadline first), of the others the time that they have had by their weight. */
#include "queue.h"

#include "cpu.h"
#include "time.h"
#include "vcpu.h"

struct spans spans;

void spans_init(void) {
    spans = (struct spans){
        .shared = tsc_hz / 500,
        .least = tsc_hz / 5000,
        .alone = tsc_hz / 20,
        .masked = tsc_hz / 1000,
        .slept = tsc_hz / 500,
        .interrupt = tsc_hz / 5000,
        .apart = tsc_hz / 50,
        .uneven = tsc_hz / 200,
        .latency = tsc_hz / 50,
    };
}

void share_init(struct share *share) {
    *share = (struct share){.class = CLASS_SHARED,
                            .weight = WEIGHT_DEFAULT,
                            .credit = spans.slept,
                            .latency = spans.latency,
                            .cpus = ~0ull};
}

static u64 least(u64 a, u64 b) { return a < b ? a : b; }

/* With slices of s, one of weight w among a sum of weights W waits for s * W / w at most. */
static u64 shared_slice(const struct cpu *cpu, const struct share *first) {
    u64 sum = first->weight, bound = first->latency * sum;
    for (const struct vcpu *v = cpu->queue; v; v = v->queue_next) {
        u64 weight = v->share.weight;
        sum += weight;
        bound = least(bound, v->share.latency * weight);
    }
    if (likely(bound >= spans.shared * sum)) return spans.shared;
    return bound > spans.least * sum ? bound / sum : spans.least;
}

u64 queue_slice(const struct cpu *cpu, const struct vcpu *vcpu, u64 now) {
    const struct share *share = &vcpu->share;
    u64 slice = cpu->queue ? shared_slice(cpu, share) : spans.alone;
    if (unlikely(cpu->masked))
        slice = spans.masked;
    else if (!cpu->queue && cpu->dedicated)
        return TIMER_OFF - now;
    if (vcpu->slice_left) slice = least(slice, vcpu->slice_left);
    if (unlikely(share->budget)) {
        if (share->left > 0) slice = least(slice, (u64)share->left);
        if (share->guaranteed) slice = least(slice, share->period_end - now);
    }
    return slice;
}
