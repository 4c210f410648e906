/* GICv3: Arm IHI 0069, chapters 12.2 (CPU interface), 12.8 (distributor), 12.10 (redistributor). */
#include "guest.h"

#define GICD_CTLR 0x0
#define GICD_ISENABLER 0x100
#define GICD_IGROUPR 0x80
#define GICD_IPRIORITYR 0x400
#define GICD_ICFGR 0xc00
#define GICD_IROUTER 0x6000
#define CTLR_ENABLE_ARE 0x13
#define CTLR_RWP (1u << 31)
#define GICR_WAKER 0x14
#define WAKER_PROCESSOR_SLEEP 2
#define WAKER_CHILDREN_ASLEEP 4
#define SGI_FRAME 0x10000
#define PRIORITY 0xa0
#define SPURIOUS 1020

static irq_handler handlers[64];
volatile u64 irq_counts[64];

void gic_init(void)
{
	write_sysreg(read_sysreg(S3_0_C12_C12_5) | 1, S3_0_C12_C12_5); /* ICC_SRE_EL1.SRE */
	isb();
	mmio_write32(platform.gicd + GICD_CTLR, CTLR_ENABLE_ARE);
	while (mmio_read32(platform.gicd + GICD_CTLR) & CTLR_RWP)
		;
	mmio_write32(platform.gicr + GICR_WAKER, mmio_read32(platform.gicr + GICR_WAKER) & ~WAKER_PROCESSOR_SLEEP);
	while (mmio_read32(platform.gicr + GICR_WAKER) & WAKER_CHILDREN_ASLEEP)
		;
	write_sysreg(0xf0, S3_0_C4_C6_0);   /* ICC_PMR_EL1 */
	write_sysreg(0, S3_0_C12_C12_3);    /* ICC_BPR1_EL1 */
	write_sysreg(1, S3_0_C12_C12_7);    /* ICC_IGRPEN1_EL1 */
	isb();
}

/* `frame` has the registers of a bank of 32 interrupts at the same offsets in the distributor and the SGI frame. */
static void set_field(u64 frame, u32 base, u32 intid, u32 bits, u32 value)
{
	u32 per = 32 / bits, shift = intid % per * bits, mask = ((1u << bits) - 1) << shift;
	u64 at = frame + base + intid / per * 4;

	mmio_write32(at, (mmio_read32(at) & ~mask) | (value << shift));
}

void gic_enable(u32 intid, bool edge, irq_handler handler)
{
	u64 frame = intid < 32 ? platform.gicr + SGI_FRAME : platform.gicd;

	handlers[intid] = handler;
	set_field(frame, GICD_IGROUPR, intid, 1, 1);
	set_field(frame, GICD_IPRIORITYR, intid, 8, PRIORITY);
	set_field(frame, GICD_ICFGR, intid, 2, edge ? 2 : 0);
	if (intid >= 32)
		*(volatile u64 *)(platform.gicd + GICD_IROUTER + 8ul * intid) = read_sysreg(mpidr_el1) & 0xff00fffffful;
	mmio_write32(frame + GICD_ISENABLER + intid / 32 * 4, 1u << intid % 32);
}

void handle_irq(struct trap_frame *frame)
{
	(void)frame;
	for (;;) {
		u32 intid = (u32)read_sysreg(S3_0_C12_C12_0); /* ICC_IAR1_EL1 */

		if (intid >= SPURIOUS)
			return;
		mb();
		if (intid < 64) {
			irq_counts[intid]++;
			if (handlers[intid])
				handlers[intid](intid);
		}
		write_sysreg(intid, S3_0_C12_C12_1); /* ICC_EOIR1_EL1 */
		isb();
	}
}

static void wake_up(u32 intid)
{
	(void)intid;
	write_sysreg(0, cntv_ctl_el0);
	isb();
}

bool wait_for(volatile u64 *flag, u64 limit)
{
	u64 end = counter() + limit * read_sysreg(cntfrq_el0) / 1000000;

	/* The virtual timer ends the wait. */
	gic_enable(platform.timer_intid, false, wake_up);
	__asm__ volatile("msr daifset, #2");
	write_sysreg(end, cntv_cval_el0);
	write_sysreg(1, cntv_ctl_el0);
	while (!*flag && counter() < end) {
		__asm__ volatile("wfi\n\tmsr daifclr, #2\n\tisb\n\tmsr daifset, #2" ::: "memory");
	}
	write_sysreg(0, cntv_ctl_el0);
	__asm__ volatile("msr daifclr, #2" ::: "memory");
	return *flag != 0;
}
