/* The other VPs: each is started by PSCI, tells the hypervisor who it is, and is switched off again. */
#include "guest.h"

#define PSCI_CPU_ON 0xc4000003
#define PSCI_CPU_OFF 0x84000002
#define PSCI_AFFINITY_INFO 0xc4000004
#define AFFINITY_OFF 1
#define STACK 4096

/* Not zeroed at the start: it would take longer than all the rest. */
static u8 stacks[MAX_VPS][STACK] PAGE_ALIGNED __attribute__((section(".noinit")));
static volatile u64 vp_indices[MAX_VPS];
volatile u64 secondary_spins[MAX_VPS];
static volatile bool spinning;

NOINLINE static void secondary_spin(u64 vp)
{
	for (;;)
		secondary_spins[vp]++;
}

/* Called by secondary_entry in start.S, on the VP's own stack. */
void secondary_main(u64 vp)
{
	mmu_enable();
	vp_indices[vp] = hv_get_vpreg64(HV_REGISTER_VP_INDEX);
	mb();
	if (spinning)
		secondary_spin(vp);
	psci(PSCI_CPU_OFF, 0, 0, 0);
	panic("PSCI CPU_OFF came back", NULL);
}

/* Starts a VP and waits until it is off again, or spins. */
static bool start(u32 vp)
{
	/* What secondary_entry expects at the top of the stack: the VP's number. */
	u64 *top = (u64 *)(stacks[vp] + STACK - 16);
	u64 limit = microseconds() + 1000000;

	top[0] = vp;
	vp_indices[vp] = ~0ul;
	mb();
	if (psci(PSCI_CPU_ON, platform.mpidr[vp], (u64)secondary_entry, (u64)top) != 0)
		return false;
	while (vp_indices[vp] == ~0ul && microseconds() < limit)
		;
	while (!spinning && psci(PSCI_AFFINITY_INFO, platform.mpidr[vp], 0, 0) != AFFINITY_OFF && microseconds() < limit)
		;
	return vp_indices[vp] == vp && microseconds() < limit;
}

void smp_check(void)
{
	u32 started = 1;

	for (u32 vp = 1; vp < platform.vp_count; vp++)
		if (start(vp))
			started++;
	print("SMP %u of %u VPs\n", (u64)started, (u64)platform.vp_count);
	check(started == platform.vp_count, "SMP every VP started and knows its index");
}

void smp_spin(void)
{
	spinning = true;
	for (u32 vp = 1; vp < platform.vp_count; vp++)
		start(vp);
}
