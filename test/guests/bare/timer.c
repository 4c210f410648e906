/* Generic timers (Arm ARM D12): counter, CVAL and TVAL, masks and status, interrupts, the event stream. */
#include "gic.h"

static volatile u64 fired[MAX_VPS], at[MAX_VPS];
static u32 expected;

static void on_timer(struct frame *f)
{
	(void)f;
	u64 intid = read_iar();
	at[vp_index()] = read_sysreg(cntvct_el0);
	if (intid == expected)
		fired[vp_index()]++;
	if (intid == machine.virtual_timer)
		write_sysreg(cntv_ctl_el0, 3);
	else
		write_sysreg(cntp_ctl_el0, 3);
	isb();
	write_eoir(intid);
}

#define TIMER(T, intid, name) \
static void timer_##T(void) \
{ \
	u64 frequency = read_sysreg(cntfrq_el0), now, cval, ctl; \
	gic_vp_on(0); \
	set_edge(0, intid, false); \
	set_bit(0, ISENABLER, intid); \
	expected = intid; \
	write_sysreg(cnt##T##_ctl_el0, 0); \
	write_sysreg(cnt##T##_cval_el0, 0x123456789abcdef0ull); \
	check_eq(read_sysreg(cnt##T##_cval_el0), 0x123456789abcdef0ull, name ": CVAL has 64 bits"); \
	now = read_sysreg(cntvct_el0); \
	write_sysreg(cnt##T##_tval_el0, 1000000); \
	isb(); \
	cval = read_sysreg(cnt##T##_cval_el0); \
	check(cval - now >= 1000000 && cval - now < 1000000 + frequency, name ": TVAL sets CVAL from now on"); \
	now = read_sysreg(cntvct_el0); \
	write_sysreg(cnt##T##_tval_el0, 0xfffffff0ull); \
	isb(); \
	cval = read_sysreg(cnt##T##_cval_el0); \
	check((s64)(cval - now) >= -16 && (s64)(cval - now) < (s64)frequency, name ": TVAL is signed"); \
	write_sysreg(cnt##T##_ctl_el0, 3); \
	isb(); \
	check_eq(read_sysreg(cnt##T##_ctl_el0) << 4 | get_bit(0, ISPENDR, intid), 0x70, name ": masked: ISTATUS, no interrupt"); \
	write_sysreg(cnt##T##_ctl_el0, 1); \
	isb(); \
	check_eq(read_sysreg(cnt##T##_ctl_el0) << 4 | get_bit(0, ISPENDR, intid), 0x51, name ": unmasked: the interrupt is pending"); \
	write_sysreg(cnt##T##_cval_el0, ~0ull); \
	isb(); \
	check_eq(read_sysreg(cnt##T##_ctl_el0) << 4 | get_bit(0, ISPENDR, intid), 0x10, name ": moved to the far future: neither"); \
	write_sysreg(cnt##T##_cval_el0, 0); \
	isb(); \
	check_eq(read_sysreg(cnt##T##_ctl_el0) << 4 | get_bit(0, ISPENDR, intid), 0x51, name ": moved to the past: both"); \
	write_sysreg(cnt##T##_ctl_el0, 0); \
	isb(); \
	check_eq(get_bit(0, ISPENDR, intid), 0, name ": disabled: no interrupt"); \
	now = read_sysreg(cntvct_el0); \
	write_sysreg(cnt##T##_cval_el0, now + 0x180000000ull); \
	isb(); \
	ctl = read_sysreg(cnt##T##_tval_el0); \
	check(ctl <= 0x80000000ull && ctl > 0x80000000ull - frequency, name ": TVAL reads the low 32 bits of what is left"); \
	write_sysreg(cnt##T##_cval_el0, now); \
	isb(); \
	ctl = read_sysreg(cnt##T##_tval_el0); \
	check(ctl >> 32 == 0 && (int)ctl < 0 && (int)ctl > -(int)frequency, name ": and goes on below zero"); \
	fired[0] = 0; \
	now = read_sysreg(cntvct_el0); \
	write_sysreg(cnt##T##_cval_el0, now + frequency / 1000); \
	write_sysreg(cnt##T##_ctl_el0, 1); \
	irq_on(); \
	while (!fired[0] && read_sysreg(cntvct_el0) - now < frequency) \
		; \
	irq_off(); \
	check(fired[0] == 1 && at[0] - now >= frequency / 1000, name ": an interrupt after a millisecond, not before"); \
	fired[0] = 0; \
	write_sysreg(cnt##T##_tval_el0, frequency / 1000); \
	write_sysreg(cnt##T##_ctl_el0, 1); \
	isb(); \
	now = read_sysreg(cntvct_el0); \
	while (!fired[0]) { \
		wfi(); \
		irq_on(); \
		irq_off(); \
	} \
	check(at[0] - now >= frequency / 2000, name ": WFI waits for it"); \
	set_bit(0, ICENABLER, intid); \
}

TIMER(v, machine.virtual_timer, "virtual")
TIMER(p, machine.physical_timer, "physical")

static void event_stream(void)
{
	u64 frequency = read_sysreg(cntfrq_el0);
	/* Bit 8 of the counter from 0 to 1: every 512 ticks. */
	write_sysreg(cntkctl_el1, 1 << 2 | 8 << 4);
	isb();
	asm volatile("sevl\n wfe");
	u64 start = read_sysreg(cntvct_el0);
	for (int i = 0; i < 8; i++)
		wfe();
	u64 ticks = read_sysreg(cntvct_el0) - start;
	check(ticks < frequency, "the event stream wakes WFE");
	write_sysreg(cntkctl_el1, 0);
	isb();
}

static void other(u64 vp)
{
	gic_vp_on(vp);
	set_bit(vp, ISENABLER, machine.virtual_timer);
	u64 now = read_sysreg(cntvct_el0);
	write_sysreg(cntv_cval_el0, now + read_sysreg(cntfrq_el0) / 1000 * vp);
	write_sysreg(cntv_ctl_el0, 1);
	isb();
	while (!fired[vp]) {
		wfi();
		irq_on();
		irq_off();
	}
	at[vp] -= now;
	write_igrpen1(0);
}

void main(void)
{
	u64 frequency = read_sysreg(cntfrq_el0);
	check(frequency >= 1000000, "CNTFRQ_EL0");
	u64 a = read_sysreg(cntvct_el0), b = read_sysreg(cntvct_el0);
	for (int i = 0; i < 1000; i++)
		isb();
	u64 c = read_sysreg(cntvct_el0);
	check(a <= b && b < c, "the counter counts");
	isb();
	u64 p = read_sysreg(cntpct_el0);
	isb();
	u64 v = read_sysreg(cntvct_el0);
	check(v >= p && v - p < frequency, "the virtual and the physical count are the same");
	gic_distributor_on();
	on_irq = on_timer;
	timer_v();
	timer_p();
	event_stream();
	expected = machine.virtual_timer;
	for (u32 vp = 1; vp < machine.cpus; vp++)
		start_vp(vp, other);
	for (u32 vp = 1; vp < machine.cpus; vp++) {
		wait_off(vp);
		check(fired[vp] == 1 && at[vp] >= frequency / 1000 * vp, "VP %d: its own timer", (u64)vp);
	}
}
