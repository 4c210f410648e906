/* Several VPs: PSCI, exclusives, atomics, WFE and SEV (Arm DEN 0022; Arm ARM B2.12, D1.6). */
#include "bare.h"

#define INVALID_PARAMETERS (u64)-2
#define DENIED (u64)-3
#define ALREADY_ON (u64)-4
#define ON_PENDING (u64)-5
#define NOT_SUPPORTED (u64)-1
#define ROUNDS 2000

static u32 s32(u64 v) { return (u32)v; }
static volatile u64 seen_mpidr[MAX_VPS], seen_el[MAX_VPS], seen_daif[MAX_VPS], seen_sctlr[MAX_VPS], runs[MAX_VPS];
static volatile u64 phase, arrived[MAX_VPS];
static u64 counter __attribute__((aligned(64))), atomic_counter, pair[2] __attribute__((aligned(16)));
static u32 lock __attribute__((aligned(64)));
static u64 guarded;

static void look(u64 vp)
{
	seen_mpidr[vp] = read_sysreg(mpidr_el1) & 0xff00ffffff;
	seen_el[vp] = read_sysreg(currentel) << 4 | read_sysreg(spsel);
	seen_daif[vp] = read_sysreg(daif);
	seen_sctlr[vp] = read_sysreg(sctlr_el1) & 1;
	runs[vp]++;
}

static void power(void)
{
	u64 version = psci(PSCI_VERSION, 0, 0, 0);
	check(version >= 0x10000, "PSCI 1.0 or newer");
	check_eq(s32(psci(PSCI_FEATURES, PSCI_CPU_ON, 0, 0)), 0, "PSCI_FEATURES: CPU_ON");
	check_eq(s32(psci(PSCI_FEATURES, 0x8400ff00, 0, 0)), s32(NOT_SUPPORTED), "PSCI_FEATURES: no such function");
	check_eq(s32(psci(0x8400ff00, 0, 0, 0)), s32(NOT_SUPPORTED), "no such function");
	check_eq(s32(psci(PSCI_AFFINITY_INFO, machine.mpidr[0], 0, 0)), 0, "this VP is on");
	check_eq(s32(psci(PSCI_AFFINITY_INFO, 0xff00ff0000, 0, 0)), s32(INVALID_PARAMETERS), "AFFINITY_INFO of no VP");
	check_eq(s32(psci(PSCI_CPU_ON, machine.mpidr[0], (u64)secondary_entry, 0)), s32(ALREADY_ON), "CPU_ON of this VP");
	check_eq(s32(psci(PSCI_CPU_ON, 0xff00ff0000, (u64)secondary_entry, 0)), s32(INVALID_PARAMETERS), "CPU_ON of no VP");
	for (u64 round = 1; round <= 2; round++)
		for (u32 vp = 1; vp < machine.cpus; vp++) {
			check_eq(s32(psci(PSCI_AFFINITY_INFO, machine.mpidr[vp], 0, 0)), 1, "VP %d is off", (u64)vp);
			start_vp(vp, look);
			wait_off(vp);
			check_eq(runs[vp], round, "VP %d ran and went off", (u64)vp);
			check_eq(seen_mpidr[vp], machine.mpidr[vp], "  as the VP it is");
			check_eq(seen_el[vp] << 12 | seen_daif[vp] << 1 | seen_sctlr[vp], 0x41 << 12 | 0x3c0 << 1, "  at EL1h, all masked, MMU off");
		}
}

static void local(void)
{
	u64 value = 7, old, status, status2;
	asm volatile("ldxr %0, [%3]\n stxr %w1, %4, [%3]\n stxr %w2, xzr, [%3]" : "=&r"(old), "=&r"(status), "=&r"(status2) : "r"(&counter), "r"(value) : "memory");
	check_eq(status << 8 | status2 << 4 | counter, 0x17, "STXR succeeds once");
	asm volatile("ldxr %0, [%2]\n clrex\n stxr %w1, xzr, [%2]" : "=&r"(old), "=&r"(status) : "r"(&counter) : "memory");
	check_eq(status << 4 | counter, 0x17, "CLREX opens the monitor");
	asm volatile("ldxr %0, [%2]\n svc #0\n stxr %w1, xzr, [%2]" : "=&r"(old), "=&r"(status) : "r"(&counter) : "memory");
	check_eq(status << 4 | counter, 0x17, "an exception return opens the monitor");
	u64 a, b;
	asm volatile("ldxp %0, %1, [%3]\n add %0, %0, #1\n add %1, %1, #2\n stxp %w2, %0, %1, [%3]" : "=&r"(a), "=&r"(b), "=&r"(status) : "r"(pair) : "memory");
	check_eq(status << 8 | pair[0] << 4 | pair[1], 0x12, "LDXP and STXP");
	asm volatile("sevl\n wfe");
	check(true, "WFE after SEVL goes on");
	asm volatile("sev\n wfe");
	check(true, "WFE after SEV goes on");
}

static void arrive(u64 vp)
{
	mmu_on();
	arrived[vp] = 1;
	dsb();
	while (!phase)
		wfe();
}

static void count(u64 vp)
{
	arrive(vp);
	for (int i = 0; i < ROUNDS; i++) {
		u64 v;
		u32 failed;
		asm volatile("1: ldxr %0, [%2]\n add %0, %0, #1\n stxr %w1, %0, [%2]\n cbnz %w1, 1b" : "=&r"(v), "=&r"(failed) : "r"(&counter) : "memory");
		/* A lock that waits by WFE: the release clears the monitors, which is an event. */
		asm volatile("sevl\n 1: wfe\n 2: ldaxr %w0, [%2]\n cbnz %w0, 1b\n stxr %w1, %w3, [%2]\n cbnz %w1, 2b" : "=&r"(v), "=&r"(failed) : "r"(&lock), "r"(1) : "memory");
		guarded++;
		asm volatile("stlr wzr, [%0]" : : "r"(&lock) : "memory");
		if ((read_sysreg(id_aa64isar0_el1) >> 20) & 15)
			asm volatile(".arch_extension lse\n ldadd %1, xzr, [%0]" : : "r"(&atomic_counter), "r"(1ull) : "memory");
		else
			atomic_counter = counter;
	}
	if (vp)
		mmu_off();
}

static void counting(void)
{
	counter = atomic_counter = guarded = 0;
	phase = 0;
	for (u32 vp = 1; vp < machine.cpus; vp++)
		start_vp(vp, count);
	for (u32 vp = 1; vp < machine.cpus; vp++)
		while (!arrived[vp])
			;
	mmu_on();
	phase = 1;
	dsb();
	sev();
	count(0);
	for (u32 vp = 1; vp < machine.cpus; vp++)
		wait_off(vp);
	u64 all = (u64)ROUNDS * machine.cpus;
	check_eq(counter, all, "LDXR and STXR of all VPs add up");
	check_eq(guarded, all, "a lock with WFE keeps VPs apart");
	check_eq(atomic_counter, all, "LDADD of all VPs adds up");
}

static volatile u64 box, answer;

/* Stores to the marked address while the first VP has its monitor there. */
static void intruder(u64 vp)
{
	(void)vp;
	mmu_on();
	while (box != 1)
		;
	counter = 99;
	dsb();
	box = 2;
	mmu_off();
}

static void waiter(u64 vp)
{
	(void)vp;
	box = 1;
	dsb();
	while (box != 2)
		wfe();
	answer = 42;
	dsb();
	sev();
}

static void talking(void)
{
	u64 old, status, state;
	mmu_on();
	box = 0;
	start_vp(1, intruder);
	asm volatile("ldxr %0, [%3]\n mov %2, #1\n str %2, [%4]\n 1: ldr %2, [%4]\n cmp %2, #2\n b.ne 1b\n stxr %w1, xzr, [%3]"
		     : "=&r"(old), "=&r"(status), "=&r"(state) : "r"(&counter), "r"(&box) : "memory", "cc");
	check_eq(status << 8 | counter, 1 << 8 | 99, "another VP's store opens the monitor");
	wait_off(1);
	mmu_off();
	box = answer = 0;
	start_vp(1, waiter);
	while (box != 1)
		;
	box = 2;
	dsb();
	sev();
	while (!answer)
		wfe();
	check_eq(answer, 42, "SEV wakes WFE, there and back");
	wait_off(1);
}

void main(void)
{
	power();
	mmu_on();
	local();
	mmu_off();
	counting();
	mmu_off();
	if (machine.cpus > 1)
		talking();
}
