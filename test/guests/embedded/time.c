/* The generic timer: Arm ARM D11. */
#include "guest.h"

u64 counter(void)
{
	isb();
	return read_sysreg(cntvct_el0);
}

u64 microseconds(void)
{
	return counter() * 1000000 / read_sysreg(cntfrq_el0);
}

void timer_check(void)
{
	static volatile u64 never;
	u64 before = microseconds();

	wait_for(&never, 1000);
	u64 passed = microseconds() - before;

	print("TIMER virtual timer, PPI %u, %u Hz: 1000 us asked, %u us passed, %u interrupts\n", (u64)platform.timer_intid,
	      read_sysreg(cntfrq_el0), passed, irq_counts[platform.timer_intid]);
	check(passed >= 1000 && passed < 2000 && irq_counts[platform.timer_intid] == 1, "TIMER interrupt on time");
}
