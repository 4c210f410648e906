/* GICv3 as these programs use it (Arm IHI 0069): everything group 1, no security. */
#ifndef GIC_H
#define GIC_H

#include "bare.h"

#define GICD_CTLR 0x0
#define GICD_TYPER 0x4
#define GICD_IROUTER 0x6000
/* The same in the distributor and, for INTIDs below 32, in the redistributor's SGI frame. */
#define IGROUPR 0x80
#define ISENABLER 0x100
#define ICENABLER 0x180
#define ISPENDR 0x200
#define ICPENDR 0x280
#define ISACTIVER 0x300
#define ICACTIVER 0x380
#define IPRIORITYR 0x400
#define ICFGR 0xc00
#define GICR_TYPER 0x8
#define GICR_WAKER 0x14
#define SGI_FRAME 0x10000
#define SPURIOUS 1023

#define read_iar() read_sysreg(S3_0_C12_C12_0)
#define write_eoir(v) do { write_sysreg(S3_0_C12_C12_1, v); isb(); } while (0)
#define read_hppir() read_sysreg(S3_0_C12_C12_2)
#define write_bpr(v) do { write_sysreg(S3_0_C12_C12_3, v); isb(); } while (0)
#define write_ctlr(v) do { write_sysreg(S3_0_C12_C12_4, v); isb(); } while (0)
#define write_dir(v) do { write_sysreg(S3_0_C12_C11_1, v); isb(); } while (0)
#define read_rpr() read_sysreg(S3_0_C12_C11_3)
#define write_sgi1r(v) do { dsb(); write_sysreg(S3_0_C12_C11_5, v); isb(); } while (0)
#define write_pmr(v) do { write_sysreg(S3_0_C4_C6_0, v); isb(); } while (0)
#define write_igrpen1(v) do { write_sysreg(S3_0_C12_C12_7, v); isb(); } while (0)
#define irq_line() ((read_sysreg(isr_el1) >> 7) & 1)

static inline u64 gicr(u64 vp) { return machine.gicr + vp * 0x20000; }
/* The frame that holds the state of an interrupt of VP `vp`. */
static inline u64 frame_of(u64 vp, u32 intid) { return intid < 32 ? gicr(vp) + SGI_FRAME : machine.gicd; }
static inline void set_bit(u64 vp, u32 what, u32 intid) { write32(frame_of(vp, intid) + what + intid / 32 * 4, 1u << intid % 32); dsb(); isb(); }
static inline u64 get_bit(u64 vp, u32 what, u32 intid) { dsb(); return (read32(frame_of(vp, intid) + what + intid / 32 * 4) >> intid % 32) & 1; }
static inline void set_priority(u64 vp, u32 intid, u8 p) { *(volatile u8 *)(frame_of(vp, intid) + IPRIORITYR + intid) = p; dsb(); }
static inline void set_edge(u64 vp, u32 intid, bool edge)
{
	u64 at = frame_of(vp, intid) + ICFGR + intid / 16 * 4;
	u32 bit = 2u << intid % 16 * 2;
	write32(at, edge ? read32(at) | bit : read32(at) & ~bit);
	dsb();
}
static inline void send_self(u32 intid)
{
	write_sgi1r((machine.mpidr[vp_index()] & 0xff00) << 8 | (u64)intid << 24 | 1u << (machine.mpidr[vp_index()] & 15));
}

static inline void gic_distributor_on(void)
{
	write32(machine.gicd + GICD_CTLR, 0x10); /* ARE */
	u32 words = (read32(machine.gicd + GICD_TYPER) & 31) + 1;
	for (u32 w = 1; w < words; w++) {
		write32(machine.gicd + ICENABLER + w * 4, ~0u);
		write32(machine.gicd + IGROUPR + w * 4, ~0u);
		for (u32 i = 0; i < 32; i += 4)
			write32(machine.gicd + IPRIORITYR + w * 32 + i, 0xa0a0a0a0);
	}
	write32(machine.gicd + GICD_CTLR, 0x12); /* ARE, group 1 */
	dsb();
}

static inline void gic_vp_on(u64 vp)
{
	write32(gicr(vp) + GICR_WAKER, read32(gicr(vp) + GICR_WAKER) & ~2u);
	while (read32(gicr(vp) + GICR_WAKER) & 4)
		;
	u64 sgi = gicr(vp) + SGI_FRAME;
	write32(sgi + ICENABLER, ~0u);
	write32(sgi + IGROUPR, ~0u);
	for (u32 i = 0; i < 32; i += 4)
		write32(sgi + IPRIORITYR + i, 0xa0a0a0a0);
	write32(sgi + ISENABLER, 0xffff);
	dsb();
	write_sysreg(S3_0_C12_C12_5, 7); /* ICC_SRE_EL1 */
	isb();
	write_ctlr(0);
	write_bpr(0);
	write_pmr(0xf0);
	write_igrpen1(1);
}

#endif
