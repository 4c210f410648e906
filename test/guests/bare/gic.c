/* GICv3 (Arm IHI 0069): SGIs by affinity, acknowledge and end of interrupt, active state, priorities, level and edge, routing. */
#include "gic.h"

#define SPI 42

static u64 taken[8], taken_count;

static void record(struct frame *f)
{
	(void)f;
	u64 intid = read_iar();
	if (taken_count < 8)
		taken[taken_count++] = intid;
	write_eoir(intid);
}

static void states(void)
{
	check_eq(read_iar(), SPURIOUS, "nothing pending: spurious");
	check_eq(read_rpr(), 0xff, "idle running priority");
	send_self(3);
	check_eq(get_bit(0, ISPENDR, 3) << 4 | irq_line(), 0x11, "an SGI is pending, the line is up");
	check_eq(read_hppir(), 3, "HPPIR tells it");
	check_eq(read_iar(), 3, "IAR acknowledges it");
	check_eq(get_bit(0, ISPENDR, 3) << 4 | get_bit(0, ISACTIVER, 3), 1, "now it is active, not pending");
	check_eq(read_rpr() << 4 | irq_line(), 0xa00, "its priority runs, the line is down");
	send_self(3);
	check_eq(get_bit(0, ISPENDR, 3) << 4 | get_bit(0, ISACTIVER, 3), 0x11, "sent again: active and pending");
	check_eq(read_iar(), SPURIOUS, "but not acknowledged again before its end");
	write_eoir(3);
	check_eq(read_iar(), 3, "EOIR ends it and it comes again");
	write_eoir(3);
	check_eq(get_bit(0, ISACTIVER, 3) << 12 | read_iar(), SPURIOUS, "and is over");
	/* EOImode 1: priority drop and deactivation are apart. */
	write_ctlr(2);
	send_self(4);
	u64 intid = read_iar();
	write_eoir(intid);
	check_eq(intid << 4 | get_bit(0, ISACTIVER, 4), 0x41, "EOImode: EOIR leaves it active");
	check_eq(read_rpr(), 0xff, "EOImode: EOIR drops the priority");
	send_self(5);
	check_eq(read_iar(), 5, "EOImode: others come in between");
	write_eoir(5);
	write_dir(5);
	write_dir(4);
	check_eq(get_bit(0, ISACTIVER, 4) << 1 | get_bit(0, ISACTIVER, 5), 0, "EOImode: DIR deactivates");
	write_ctlr(0);
	/* Active by register: is held back until inactive by register. */
	set_bit(0, ISACTIVER, 6);
	send_self(6);
	check_eq(read_iar(), SPURIOUS, "ISACTIVER holds an interrupt back");
	set_bit(0, ICACTIVER, 6);
	check_eq(read_iar(), 6, "ICACTIVER lets it go");
	write_eoir(6);
	set_bit(0, ISPENDR, SPI);
	set_bit(0, ISENABLER, SPI);
	check_eq(read_iar(), SPI, "ISPENDR makes an SPI pending");
	write_eoir(SPI);
	set_bit(0, ISPENDR, SPI);
	set_bit(0, ICPENDR, SPI);
	check_eq(read_iar(), SPURIOUS, "ICPENDR takes it back");
	set_bit(0, ICENABLER, SPI);
	set_bit(0, ISPENDR, SPI);
	check_eq(irq_line() << 1 | get_bit(0, ISPENDR, SPI), 1, "a disabled interrupt is only pending");
	set_bit(0, ICPENDR, SPI);
	write_eoir(SPURIOUS);
	check_eq(read_rpr(), 0xff, "EOIR of the spurious INTID does nothing");
}

static void priorities(void)
{
	set_priority(0, 1, 0xa0);
	set_priority(0, 2, 0x80);
	set_priority(0, 3, 0x40);
	send_self(1);
	send_self(2);
	check_eq(read_iar(), 2, "the most urgent first");
	check_eq(read_iar(), SPURIOUS, "a less urgent one waits");
	send_self(3);
	check_eq(irq_line() << 8 | read_iar(), 0x103, "a more urgent one preempts");
	check_eq(read_rpr(), 0x40, "and is what runs");
	write_eoir(3);
	check_eq(read_rpr(), 0x80, "its end goes back to the one before");
	write_eoir(2);
	check_eq(read_iar(), 1, "then the one that waited");
	write_eoir(1);
	write_pmr(0x80);
	send_self(2);
	check_eq(irq_line() << 12 | read_hppir() << 4, 0x20, "PMR masks its own priority and below");
	send_self(3);
	check_eq(read_iar(), 3, "and lets more urgent ones through");
	write_eoir(3);
	write_pmr(0xf0);
	check_eq(read_iar(), 2, "PMR lowered: the masked one comes");
	write_eoir(2);
	/* Binary point 7: only bit 7 of a priority counts for preemption. */
	write_bpr(7);
	send_self(1);
	u64 first = read_iar();
	send_self(2);
	check_eq(first << 12 | read_iar(), 1 << 12 | SPURIOUS, "BPR: equal group priorities do not preempt");
	write_eoir(1);
	check_eq(read_iar(), 2, "BPR: they come after the end");
	write_eoir(2);
	write_bpr(0);
	write_igrpen1(0);
	send_self(1);
	check_eq(irq_line() << 12 | read_iar(), SPURIOUS, "group disabled");
	write_igrpen1(1);
	check_eq(read_iar(), 1, "group enabled");
	write_eoir(1);
	set_priority(0, 2, 0xa0);
	set_priority(0, 3, 0xa0);
}

/* The virtual timer as an input line that software moves. */
static void timer_line(bool up)
{
	write_sysreg(cntv_cval_el0, up ? 0 : ~0ull);
	write_sysreg(cntv_ctl_el0, 1);
	isb();
}

static void level_and_edge(void)
{
	u32 ppi = machine.virtual_timer;
	timer_line(false);
	set_edge(0, ppi, false);
	set_bit(0, ISENABLER, ppi);
	timer_line(true);
	check_eq(get_bit(0, ISPENDR, ppi), 1, "level: pending while the line is up");
	u64 intid = read_iar();
	write_eoir(intid);
	check_eq(intid << 8 | irq_line(), (u64)ppi << 8 | 1, "level: still up after its end, so it comes again");
	intid = read_iar();
	timer_line(false);
	write_eoir(intid);
	check_eq(intid << 12 | read_iar(), (u64)ppi << 12 | SPURIOUS, "level: down before its end, so it is over");
	timer_line(true);
	timer_line(false);
	check_eq(get_bit(0, ISPENDR, ppi) << 12 | read_iar(), SPURIOUS, "level: nothing is remembered");
	set_bit(0, ICENABLER, ppi);
	write_sysreg(cntv_ctl_el0, 0);
}

static void taken_as_exceptions(void)
{
	on_irq = record;
	taken_count = 0;
	send_self(7);
	check_eq(taken_count, 0, "PSTATE.I masks");
	irq_on();
	irq_off();
	check_eq(taken_count << 8 | taken[0], 0x107, "unmasked: taken once");
	irq_on();
	send_self(8);
	send_self(9);
	irq_off();
	check_eq(taken_count << 16 | taken[1] << 8 | taken[2], 0x30809, "taken as they come");
	send_self(10);
	wfi();
	check_eq(taken_count, 3, "WFI goes on for a masked interrupt");
	irq_on();
	irq_off();
	check_eq(taken_count << 8 | taken[3], 0x40a, "and it is still there");
	on_irq = 0;
}

/* --- other VPs --- */

static volatile u64 ready[MAX_VPS], received[MAX_VPS], spi_on = 99;
static volatile bool stop;

static void on_other(struct frame *f)
{
	(void)f;
	u64 intid = read_iar();
	if (intid < 16)
		received[vp_index()] |= 1u << intid;
	else if (intid == SPI)
		spi_on = vp_index();
	write_eoir(intid);
}

static void other(u64 vp)
{
	gic_vp_on(vp);
	ready[vp] = 1;
	dsb();
	irq_on();
	while (!stop)
		wfi();
	irq_off();
	write_igrpen1(0);
}

/* Waits for the others' reports; false: they never came. */
static bool all_received(u64 from, u64 mask)
{
	for (u64 tries = 0; tries < 20000000; tries++) {
		bool all = true;
		for (u32 vp = from; vp < machine.cpus; vp++)
			all &= (received[vp] & mask) == mask;
		if (all)
			return true;
	}
	return false;
}

static void other_vps(void)
{
	on_irq = on_other;
	for (u32 vp = 1; vp < machine.cpus; vp++) {
		start_vp(vp, other);
		while (!ready[vp])
			;
	}
	u64 list = 0, cluster = machine.mpidr[0] & 0xffff00;
	for (u32 vp = 1; vp < machine.cpus; vp++)
		list |= 1u << (machine.mpidr[vp] & 15);
	write_sgi1r(list | 1u << 24 | (cluster & 0xff00) << 8);
	check(all_received(1, 2), "an SGI to a list of VPs");
	check_eq(received[0], 0, "is not for others");
	irq_on();
	write_sgi1r(1ull << 40 | 2u << 24);
	check(all_received(1, 4), "an SGI to all others");
	check_eq(received[0], 0, "is not for the sender");
	write_sgi1r(list | 1 | 3u << 24 | (cluster & 0xff00) << 8);
	check(all_received(0, 8), "an SGI to all and itself");
	irq_off();
	u64 one = 0;
	for (u64 round = 4; round < 12; round++) {
		u32 vp = 1 + round % (machine.cpus - 1);
		write_sgi1r(1u << (machine.mpidr[vp] & 15) | round << 24);
		for (u64 tries = 0; !(received[vp] >> round & 1) && tries < 20000000; tries++)
			;
		one += received[vp] >> round & 1;
	}
	check_eq(one, 8, "SGIs to one VP after another");
	for (u32 vp = 1; vp < machine.cpus; vp++) {
		spi_on = 99;
		write64(machine.gicd + GICD_IROUTER + SPI * 8, machine.mpidr[vp] & 0xffffff);
		set_bit(0, ISENABLER, SPI);
		set_bit(0, ISPENDR, SPI);
		for (u64 tries = 0; spi_on == 99 && tries < 20000000; tries++)
			;
		check_eq(spi_on, vp, "an SPI routed to VP %d", (u64)vp);
	}
	stop = true;
	write_sgi1r(1ull << 40);
	for (u32 vp = 1; vp < machine.cpus; vp++)
		wait_off(vp);
}

void main(void)
{
	gic_distributor_on();
	gic_vp_on(0);
	for (u32 vp = 0; vp < machine.cpus; vp++) {
		u64 typer = read64(gicr(vp) + GICR_TYPER);
		check_eq(typer >> 32 << 8 | ((typer >> 4) & 1), (machine.mpidr[vp] & 0xffffff) << 8 | (vp == machine.cpus - 1), "redistributor %d: affinity, last", (u64)vp);
	}
	states();
	priorities();
	level_and_edge();
	taken_as_exceptions();
	if (machine.cpus > 1)
		other_vps();
}
