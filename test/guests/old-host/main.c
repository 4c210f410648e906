/*
 * A guest of the first ARM64 hosts: hypercalls by HVC #1 alone, stimer0 in direct mode as its only clock event device, SINT2 on the
 * PPI that ACPI names. What it shares with the embedded guest is that one's files. Section numbers refer to the reference
 * hyperv-arm64.md, A.1 for all of it.
 */
#include "../embedded/guest.h"

#define HV_FAST (1ul << 16)
#define HV_REP_ONE (1ul << 32)
#define HV_PARTITION_SELF (~0ul)
#define HV_VP_SELF 0xfffffffeul
#define GUEST_OS_ID 0xff00000000010000ul
/* Direct mode: enabled, periodic, PPI 17 (§5.3). A period of 1 ms in units of 100 ns. */
#define STIMER_INTID 17
#define STIMER_DIRECT_PERIODIC (1 | 2 | STIMER_INTID << 4 | 1 << 12)
#define TICK 10000

static volatile u64 ticks;

/* One register by HVC #1: input from x1 on, output in x15 and x16 (§2.1). */
struct hv_value hv_get_vpreg(u32 name)
{
	struct smccc_registers r = {
		.x = { HVCALL_GET_VP_REGISTERS | HV_FAST | HV_REP_ONE, HV_PARTITION_SELF, HV_VP_SELF, name }
	};

	hvc1(&r);
	if (r.x[0] != HV_REP_ONE)
		panic("HvCallGetVpRegisters failed", NULL);
	return (struct hv_value){ r.x[15], r.x[16] };
}

u64 hv_get_vpreg64(u32 name)
{
	return hv_get_vpreg(name).low;
}

void hv_set_vpreg(u32 name, u64 value)
{
	struct smccc_registers r = {
		.x = { HVCALL_SET_VP_REGISTERS | HV_FAST | HV_REP_ONE, HV_PARTITION_SELF, HV_VP_SELF, name, 0, value, 0 }
	};

	hvc1(&r);
	if (r.x[0] != HV_REP_ONE)
		panic("HvCallSetVpRegisters failed", NULL);
}

void panic(const char *message, struct trap_frame *frame)
{
	__asm__ volatile("msr daifset, #15");
	print("PANIC %s, pc %x\n", message, frame ? frame->elr : (u64)__builtin_return_address(0));
	power_off();
}

void handle_trap(struct trap_frame *frame, u64 kind)
{
	(void)kind;
	panic("unexpected exception", frame);
}

static void tick(u32 intid)
{
	(void)intid;
	ticks++;
}

/* Where the virtual timer's interrupt comes it ends: it is level-triggered. */
static void expire(u32 intid)
{
	write_sysreg(0, cntv_ctl_el0);
	isb();
	tick(intid);
}

/* Sleeps through `n` interrupts of the clock event device. */
NOINLINE static void sleep_ticks(u64 n)
{
	u64 end = ticks + n;

	__asm__ volatile("msr daifset, #2");
	while (ticks < end)
		__asm__ volatile("wfi\n\tmsr daifclr, #2\n\tisb\n\tmsr daifset, #2" ::: "memory");
	__asm__ volatile("msr daifclr, #2" ::: "memory");
}

static void identity(void)
{
	struct hv_value v = hv_get_vpreg(HV_REGISTER_HYPERVISOR_VERSION);
	struct smccc_registers smccc = {
		.x = { 0x46000001, HVCALL_GET_VP_REGISTERS | HV_FAST | HV_REP_ONE, HV_PARTITION_SELF, HV_VP_SELF, HV_REGISTER_VP_INDEX }
	};

	hv_set_vpreg(HV_REGISTER_GUEST_OSID, GUEST_OS_ID);
	check(hv_get_vpreg64(HV_REGISTER_GUEST_OSID) == GUEST_OS_ID, "HVC #1 guest OS id");
	print("HVC #1 host build %u.%u.%u, VP index %u\n", v.low >> 48, v.low >> 32 & 0xffff, v.low & 0xffffffff,
	      hv_get_vpreg64(HV_REGISTER_VP_INDEX));
	hvc0(&smccc);
	print("HVC #0 %s\n", smccc.x[0] == ~0ul ? "is not known" : "is a hypercall");
}

static void clockevent(void)
{
	u64 before, passed;

	gic_enable(STIMER_INTID, true, tick);
	hv_set_vpreg(HV_REGISTER_STIMER0_COUNT, TICK);
	hv_set_vpreg(HV_REGISTER_STIMER0_CONFIG, STIMER_DIRECT_PERIODIC);
	before = hv_get_vpreg64(HV_REGISTER_TIME_REF_COUNT);
	sleep_ticks(10);
	passed = hv_get_vpreg64(HV_REGISTER_TIME_REF_COUNT) - before;
	print("STIMER0 10 ticks in %u us\n", passed / 10);
	check(passed >= 9 * TICK && passed < 11 * TICK, "STIMER0 is a clock event device");
}

static void virtual_timer(void)
{
	gic_enable(platform.timer_intid, false, expire);
	write_sysreg(counter() + read_sysreg(cntfrq_el0) / 1000, cntv_cval_el0);
	write_sysreg(1, cntv_ctl_el0);
	isb();
	check(read_sysreg(cntv_ctl_el0) == 1, "CNTV_CTL_EL0 before it expires");
	sleep_ticks(3);
	print("CNTV_CTL_EL0 %x, %u interrupts of PPI %u\n", read_sysreg(cntv_ctl_el0), irq_counts[platform.timer_intid],
	      (u64)platform.timer_intid);
	check(read_sysreg(cntv_ctl_el0) == 5, "CNTV_CTL_EL0 says that it has expired");
	check(irq_counts[platform.timer_intid] == 0, "CNTV no interrupt comes");
	write_sysreg(0, cntv_ctl_el0);
}

/* An event at every change of counter bit 8 from 0 to 1: WFE returns without any interrupt. */
static void event_stream(void)
{
	u64 before = counter(), taken = irq_counts[STIMER_INTID];
	u32 events = 0;

	__asm__ volatile("msr daifset, #2");
	write_sysreg(8 << 4 | 1 << 2, cntkctl_el1);
	isb();
	for (; events < 4; events++)
		__asm__ volatile("wfe" ::: "memory");
	write_sysreg(0, cntkctl_el1);
	isb();
	/* The first event may have been there before. */
	check(counter() - before >= 512 * 2 && irq_counts[STIMER_INTID] == taken, "EVENT STREAM wakes WFE");
	__asm__ volatile("msr daifclr, #2");
}

/* What unbinding the Hyper-V clock event device from a CPU does: stimer0 is stopped, and the next best device is the virtual timer. */
NOINLINE static void unbind(void)
{
	hv_set_vpreg(HV_REGISTER_STIMER0_CONFIG, 0);
	print("UNBIND stimer0; now the virtual timer, PPI %u\n", (u64)platform.timer_intid);
	write_sysreg(counter() + read_sysreg(cntfrq_el0) / 1000, cntv_cval_el0);
	write_sysreg(1, cntv_ctl_el0);
	isb();
	sleep_ticks(1);
	print("UNBIND survived\n");
}

void main(const void *fdt)
{
	u32 length;
	const void *property;

	mmu_init();
	property = fdt_chosen(fdt, "bootargs", &length);
	if (property)
		command_line = property;
	property = fdt_chosen(fdt, "linux,uefi-system-table", &length);
	acpi_init(fdt_number(property, property ? length : 0));
	console_init(platform.uart);
	print("ACPI %s; PPIs: VMBus %u, timer %u\n", platform.is_hyperv ? "MsHyperV" : "not Hyper-V", (u64)platform.vmbus_intid,
	      (u64)platform.timer_intid);
	gic_init();
	__asm__ volatile("msr daifclr, #2");
	identity();
	clockevent();
	virtual_timer();
	event_stream();
	print("CHECKS %u passed, %u failed\n", (u64)checks_passed, (u64)checks_failed);
	if (command_line_has("unbind"))
		unbind();
	print("GUEST-DONE\n");
	power_off();
}
