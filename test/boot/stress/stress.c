/* A stress of a whole system, run on stock Linux: on each CPU at once page-table changes with TLB
   shoot-downs, forks, messages and barriers to the other CPUs, timers, and a disk that is written
   and read, and checked. Every counter of what was done must add up; what the host has to compare
   with it, it prints. usage: stress ROUNDS DISK    the disk is overwritten; it waits for a line
   before it begins and before it ends */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t u64;

#define MAX_CPUS 16
#define PAGE     4096
#define PAGES    4  /* whose mapping a CPU changes */
#define BLOCKS   32 /* of PAGE bytes, that a CPU writes */
#define REMAPS   8  /* a round */
#define PINGS    4
#define PERIOD   2000000 /* of the timer, in ns */
#define NAP      300000

struct cpu {
    /* What others look at: page n has been given a frame that holds at least `published`. */
    _Atomic u64 published;
    int ping[2], pong[2];
    u64 remaps, looks, stale, forks, bad_forks, sent, answered, barriers, naps, early, backward;
    u64 fired, due, reads, writes, bad_blocks, failed;
    u64 generations[BLOCKS];
} __attribute__((aligned(64)));

static struct cpu cpus[MAX_CPUS];
static volatile u64 *pages[MAX_CPUS][PAGES];
static int count, rounds, disk;
static pthread_barrier_t start_line;
static _Atomic u64 latest; /* time that any CPU has seen */

static void die(const char *what) {
    printf("stress: error: %s: %s\n", what, strerror(errno));
    exit(1);
}

static u64 now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

/* Time goes forward, whichever CPU reads it. */
static u64 check_time(struct cpu *me) {
    u64 known = atomic_load(&latest), time = now();
    me->backward += time < known;
    while (known < time && !atomic_compare_exchange_weak(&latest, &known, time))
        ;
    return time;
}

static u64 random_number(u64 *state) {
    return (*state = *state * 6364136223846793005ull + 1442695040888963407ull) >> 33;
}

/* --- memory --- */

/* Each page gets a fresh frame, then its number: nobody who knows of it may see an older one. */
static void remap(struct cpu *me, int number) {
    u64 next = atomic_load(&me->published) + 1;
    for (int i = 0; i < PAGES; i++) {
        void *at = (void *)pages[number][i];
        if (mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                 0) != at)
            die("mmap");
        *pages[number][i] = next;
        if (mprotect(at, PAGE, PROT_READ)) die("mprotect");
    }
    atomic_store(&me->published, next);
    me->remaps++;
}

static void look(struct cpu *me) {
    for (int n = 0; n < count; n++) {
        u64 known = atomic_load(&cpus[n].published);
        for (int i = 0; i < PAGES; i++) {
            u64 seen = *pages[n][i];
            me->stale += seen && seen < known; /* 0: it has its next frame, and no number yet */
            me->looks++;
        }
    }
}

/* The child changes its copies; ours stay as they are. */
static void fork_one(struct cpu *me, int number) {
    u64 mine = atomic_load(&me->published);
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        bool wrong = false;
        for (int i = 0; i < PAGES; i++) {
            void *at = (void *)pages[number][i];
            wrong |= *pages[number][i] != mine || mprotect(at, PAGE, PROT_READ | PROT_WRITE);
            *pages[number][i] = ~mine;
            wrong |= *pages[number][i] != ~mine || munmap(at, PAGE);
        }
        _exit(wrong ? 1 : 42);
    }
    int status = 0;
    waitpid(child, &status, 0);
    bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 42;
    for (int i = 0; i < PAGES; i++)
        ok &= *pages[number][i] == mine;
    me->forks++;
    me->bad_forks += !ok;
}

/* --- messages and time --- */

static void *answer(void *argument) {
    struct cpu *me = argument;
    for (u64 message; read(me->ping[0], &message, sizeof(message)) == sizeof(message);) {
        message = ~message;
        if (write(me->pong[1], &message, sizeof(message)) != sizeof(message)) break;
    }
    return NULL;
}

static void send_messages(struct cpu *me, u64 round) {
    for (u64 i = 0; i < PINGS; i++) {
        u64 message = round << 8 | i, reply = 0;
        if (write(me->ping[1], &message, sizeof(message)) != sizeof(message)) die("ping");
        me->sent++;
        if (read(me->pong[0], &reply, sizeof(reply)) != sizeof(reply)) die("pong");
        me->answered += reply == ~message;
    }
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0)) die("membarrier");
    me->barriers++;
}

static void take_nap(struct cpu *me) {
    struct timespec time = {0, NAP};
    u64 before = check_time(me);
    nanosleep(&time, NULL);
    me->early += check_time(me) < before + NAP;
    me->naps++;
}

/* --- the disk --- */

static u64 stamp(u64 block, u64 generation, u64 word) {
    return block << 48 | generation << 16 | word;
}

static void write_block(struct cpu *me, int number, u64 *buffer, u64 which) {
    u64 block = (u64)number * BLOCKS + which, generation = ++me->generations[which];
    for (u64 word = 0; word < PAGE / 8; word++)
        buffer[word] = stamp(block, generation, word);
    me->failed += pwrite(disk, buffer, PAGE, (off_t)(block * PAGE)) != PAGE;
    me->writes++;
}

static void read_block(struct cpu *me, int owner, u64 *buffer, u64 which, bool mine) {
    u64 block = (u64)owner * BLOCKS + which;
    memset(buffer, 0, PAGE);
    me->failed += pread(disk, buffer, PAGE, (off_t)(block * PAGE)) != PAGE;
    bool bad = mine && buffer[0] != stamp(block, me->generations[which], 0);
    for (u64 word = 0; word < PAGE / 8; word++) /* another CPU may be writing it */
        bad |= buffer[word] >> 48 != block || (buffer[word] & 0xffff) != word;
    me->bad_blocks += bad;
    me->reads++;
}

static void use_disk(struct cpu *me, int number, u64 *buffer, u64 *state) {
    write_block(me, number, buffer, random_number(state) % BLOCKS);
    read_block(me, number, buffer, random_number(state) % BLOCKS, true);
    read_block(me, (int)(random_number(state) % (u64)count), buffer, random_number(state) % BLOCKS,
               false);
}

/* --- a CPU --- */

static void stay_on(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set)) die("sched_setaffinity");
}

static void *work(void *argument) {
    struct cpu *me = argument;
    int number = (int)(me - cpus);
    u64 state = (u64)number + 1, expirations;
    stay_on(number);
    u64 *buffer = aligned_alloc(PAGE, PAGE);
    int timer = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec every = {{0, PERIOD}, {0, PERIOD}};
    for (u64 which = 0; which < BLOCKS; which++)
        write_block(me, number, buffer, which);
    remap(me, number);
    pthread_barrier_wait(&start_line); /* every page and every block has its number */
    u64 began = now();
    timerfd_settime(timer, 0, &every, NULL);
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < REMAPS; i++) {
            remap(me, number);
            look(me);
        }
        if (round % 2 == number % 2) fork_one(me, number);
        send_messages(me, (u64)round);
        use_disk(me, number, buffer, &state);
        take_nap(me);
        if (rounds >= 4 && round % (rounds / 4) == 0)
            printf("stress: CPU %d, round %d\n", number, round);
    }
    /* The timer has expired as often as time says, but for what lies between the two looks. */
    u64 before = now();
    if (read(timer, &expirations, sizeof(expirations)) != sizeof(expirations)) die("timer");
    u64 least = (before - began) / PERIOD, most = (now() - began) / PERIOD;
    me->fired = expirations;
    me->due = expirations + 1 < least ? least : expirations > most ? most : expirations;
    close(me->ping[1]);
    return NULL;
}

static void set_up(struct cpu *me, int number) {
    for (int i = 0; i < PAGES; i++) {
        void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) die("mmap");
        pages[number][i] = page;
    }
    if (pipe2(me->ping, O_CLOEXEC) || pipe2(me->pong, O_CLOEXEC)) die("pipe");
}

/* --- what the kernel counts --- */

/* The sum over the CPUs of the rows of /proc/interrupts that contain the name. */
static u64 interrupts(const char *name) {
    static char line[4096];
    u64 sum = 0;
    FILE *file = fopen("/proc/interrupts", "r");
    if (!file) die("/proc/interrupts");
    while (fgets(line, sizeof(line), file)) {
        char *at = strchr(line, ':');
        if (!strstr(line, name) || !at) continue;
        for (int n = 0; n < count; n++)
            sum += strtoull(at + 1, &at, 10), at--;
    }
    fclose(file);
    return sum;
}

static u64 all_interrupts(void) {
    static char line[65536];
    u64 sum = 0;
    FILE *file = fopen("/proc/stat", "r");
    if (!file) die("/proc/stat");
    while (fgets(line, sizeof(line), file))
        if (sscanf(line, "intr %lu", &sum) == 1) break;
    fclose(file);
    return sum;
}

static const char *const kinds[] = {"LOC:", "CAL:", "TLB:", "-req."};
enum { KINDS = sizeof(kinds) / sizeof(*kinds) };

static void await_line(const char *what, u64 value) {
    char line[64];
    printf("stress: %s %lu\n", what, value);
    if (!fgets(line, sizeof(line), stdin)) die("stdin");
}

static u64 total(size_t offset) {
    u64 sum = 0;
    for (int n = 0; n < count; n++)
        sum += *(u64 *)((char *)&cpus[n] + offset);
    return sum;
}
#define TOTAL(field) total(offsetof(struct cpu, field))

int main(int argc, char **argv) {
    u64 before[KINDS];
    pthread_t workers[MAX_CPUS], answerers[MAX_CPUS];
    if (argc != 3 || (rounds = atoi(argv[1])) < 1) die("usage: stress ROUNDS DISK");
    count = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (count > MAX_CPUS) count = MAX_CPUS;
    setvbuf(stdout, NULL, _IOLBF, 0);
    disk = open(argv[2], O_RDWR | O_DIRECT | O_CLOEXEC);
    if (disk < 0) die(argv[2]);
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0)) die("membarrier");
    pthread_barrier_init(&start_line, NULL, (unsigned)count);
    for (int n = 0; n < count; n++)
        set_up(&cpus[n], n);
    for (int i = 0; i < KINDS; i++)
        before[i] = interrupts(kinds[i]);
    await_line("ready, interrupts", all_interrupts());

    for (int n = 0; n < count; n++)
        if (pthread_create(&workers[n], NULL, work, &cpus[n])) die("pthread_create");
    for (int n = 0; n < count; n++) { /* each answers from the CPU beside the one that asks */
        stay_on((n + 1) % count);
        if (pthread_create(&answerers[n], NULL, answer, &cpus[n])) die("pthread_create");
    }
    for (int n = 0; n < count; n++)
        pthread_join(workers[n], NULL);
    await_line("finished, rounds", (u64)rounds);

    printf("stress: interrupts %lu\n", all_interrupts());
    for (int i = 0; i < KINDS; i++)
        printf("stress: %s %lu\n", kinds[i], interrupts(kinds[i]) - before[i]);
    printf("stress: remaps %lu looks %lu stale %lu forks %lu bad %lu\n", TOTAL(remaps),
           TOTAL(looks), TOTAL(stale), TOTAL(forks), TOTAL(bad_forks));
    printf("stress: sent %lu answered %lu barriers %lu\n", TOTAL(sent), TOTAL(answered),
           TOTAL(barriers));
    printf("stress: naps %lu early %lu backward %lu timers %lu of %lu\n", TOTAL(naps), TOTAL(early),
           TOTAL(backward), TOTAL(fired), TOTAL(due));
    printf("stress: reads %lu writes %lu bad %lu failed %lu\n", TOTAL(reads), TOTAL(writes),
           TOTAL(bad_blocks), TOTAL(failed));
    printf("stress: done\n");
    return 0;
}
