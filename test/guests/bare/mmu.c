/* Stage 1 translation (Arm ARM D8): granules, blocks, permissions, faults, TLB maintenance, ASIDs, AT. */
#include "bare.h"

#define IL (1u << 25)
#define DABORT (0x25ull << 26 | IL)
#define DABORT_EL0 (0x24ull << 26 | IL)
#define IABORT (0x21ull << 26 | IL)
#define IABORT_EL0 (0x20ull << 26 | IL)
#define WNR (1 << 6)
#define TRANSLATION 4
#define ACCESS_FLAG 8
#define PERMISSION 12

/* Descriptors (D8.3). */
#define VALID 1ull
#define TABLE 3ull
#define PAGE 3ull
#define USER (1ull << 6)
#define READ_ONLY (1ull << 7)
#define SHARED (3ull << 8)
#define AF (1ull << 10)
#define NG (1ull << 11)
#define DBM (1ull << 51)
#define CONTIGUOUS (1ull << 52)
#define PXN (1ull << 53)
#define UXN (1ull << 54)
#define NORMAL (AF | SHARED | MAIR_NORMAL << 2)
#define DEVICE (AF | MAIR_DEVICE << 2 | PXN | UXN)

#define VA 0x4000000000ull /* 256 GiB: the upper half of 39 bits */
#define HIGH 0xffffff8000000000ull
/* In no machine's memory. */
#define NO_RAM 0x800000000ull

/* Tables and the memory to map lie behind the program, aligned to the largest granule. */
#define POOL_SIZE (12ull << 16)
#define MEMORY_SIZE (4ull << 16)
extern u8 __end[];
static u8 *pool, *memory;
static u64 pool_used;

static u32 shift; /* log2 of the granule */
static u64 *root, *other_root, *high_root;

static u64 granule(void) { return 1ull << shift; }
static u32 stride(void) { return shift - 3; }
static int first_level(void) { return 4 - (39 - shift + stride() - 1) / stride(); }
static u32 level_shift(int level) { return shift + (3 - level) * stride(); }

static u64 *table(void)
{
	u64 *t = (u64 *)(pool + pool_used);
	pool_used += granule();
	if (pool_used > POOL_SIZE)
		check(false, "room for tables");
	memset(t, 0, granule());
	return t;
}

/* The descriptor for `va` at `level`; tables on the way are made with `attributes`. */
static u64 *entry(u64 *t, u64 va, int level, u64 attributes)
{
	for (int l = first_level();; l++) {
		u32 s = level_shift(l);
		u64 *d = &t[(va >> s) & ((l == first_level() ? 1ull << (39 - s) : granule() / 8) - 1)];
		if (l == level)
			return d;
		if (!(*d & VALID))
			*d = (u64)table() | TABLE | attributes;
		t = (u64 *)(*d & 0xfffffffff000ull & ~(granule() - 1));
	}
}

static void map(u64 *t, u64 va, u64 pa, u64 attributes)
{
	*entry(t, va, 3, 0) = (pa & ~(granule() - 1)) | attributes | PAGE;
	dsb();
}

static void flush(void) { asm volatile("dsb ishst; tlbi vmalle1is; dsb ish; isb" : : : "memory"); }
static void remap(u64 va, u64 pa, u64 attributes)
{
	map(root, va, pa, attributes);
	flush();
}

static u64 tcr(void)
{
	u64 ips = read_sysreg(id_aa64mmfr0_el1) & 15;
	u64 tg0 = shift == 12 ? 0 : shift == 14 ? 2 : 1, tg1 = shift == 12 ? 2 : shift == 14 ? 1 : 3;
	return 25ull | 1 << 8 | 1 << 10 | 3 << 12 | tg0 << 14 | 25ull << 16 | 1 << 24 | 1 << 26 | 3ull << 28 | tg1 << 30 | (ips > 5 ? 5 : ips) << 32;
}

static void set_tcr(u64 v)
{
	write_sysreg(tcr_el1, v);
	isb();
	flush();
}

/* A root that maps memory and devices one to one by level 2 blocks. */
static u64 *identity_root(void)
{
	u64 *t = table();
	u64 size = 1ull << level_shift(2);
	for (u64 at = machine.ram & ~(size - 1); at < machine.ram + machine.ram_size; at += size)
		*entry(t, at, 2, 0) = at | NORMAL | VALID;
	*entry(t, machine.uart, 2, 0) = (machine.uart & ~(size - 1)) | DEVICE | VALID;
	return t;
}

static void translation_on(void)
{
	pool_used = 0;
	root = identity_root();
	high_root = table();
	dsb();
	write_sysreg(mair_el1, 0x4404ffull);
	write_sysreg(ttbr0_el1, (u64)root);
	write_sysreg(ttbr1_el1, (u64)high_root);
	set_tcr(tcr());
	write_sysreg(sctlr_el1, (read_sysreg(sctlr_el1) & ~(1ull << 19)) | 1 | 1 << 2 | 1 << 12);
	isb();
}

static struct trap load_at(u64 va)
{
	return TRAP_OF(asm volatile("ldr x0, [%0]" : : "r"(va) : "x0", "memory"));
}
static struct trap store_at(u64 va)
{
	return TRAP_OF(asm volatile("str xzr, [%0]" : : "r"(va) : "memory"));
}
static struct trap call_at(u64 va)
{
	return TRAP_OF(((void (*)(void))va)());
}

static void fault(struct trap t, u64 esr, u64 far, const char *name)
{
	if (t.count == 1 && t.esr == esr)
		check_eq(t.far, far, "%dK: %s", granule() >> 10, name);
	else
		check_eq(t.count == 1 ? t.esr : 0, esr, "%dK: %s", granule() >> 10, name);
}
static void fine(struct trap t, const char *name)
{
	check_eq(t.count ? t.esr : 0, 0, "%dK: %s", granule() >> 10, name);
}

static u64 *page(int n) { return (u64 *)(memory + n * 65536); }

static void mapping(void)
{
	*page(0) = 0x1111;
	*page(1) = 0x2222;
	map(root, VA, (u64)page(0), NORMAL);
	map(root, VA + granule(), (u64)page(1), NORMAL);
	check_eq(read64(VA), 0x1111, "%dK: a page", granule() >> 10);
	write64(VA + granule() + 8, 0x3333);
	check_eq(page(1)[1], 0x3333, "%dK: its neighbour, written", granule() >> 10);
	u64 block = VA + (1ull << level_shift(2)) * 2;
	u64 offset = (u64)page(1) & ((1ull << level_shift(2)) - 1);
	*entry(root, block, 2, 0) = ((u64)page(1) - offset) | NORMAL | VALID;
	dsb();
	check_eq(read64(block + offset), 0x2222, "%dK: a level 2 block", granule() >> 10);
	if (shift == 12) {
		u64 giant = VA + (4ull << 30);
		*entry(root, giant, 1, 0) = ((u64)page(0) & ~0x3fffffffull) | NORMAL | VALID;
		dsb();
		check_eq(read64(giant + ((u64)page(0) & 0x3fffffff)), 0x1111, "4K: a level 1 block");
	}
	for (int i = 0; i < 128; i++)
		map(root, VA + (i + 128) * granule(), (u64)memory + i * granule() % MEMORY_SIZE, NORMAL | CONTIGUOUS);
	check_eq(read64(VA + 128 * granule()), 0x1111, "%dK: the contiguous hint", granule() >> 10);
	u64 got = 0;
	asm volatile("ldur %0, [%1, #-3]" : "=r"(got) : "r"(VA + granule()));
	check_eq(got, 0x2222ull << 24, "%dK: an access over two pages", granule() >> 10);
	*entry(high_root, HIGH + granule() * 5, 3, 0) = (u64)page(1) | NORMAL | PAGE;
	dsb();
	check_eq(read64(HIGH + granule() * 5), 0x2222, "%dK: the upper half of the address space", granule() >> 10);
}

static void faults(void)
{
	u64 hole = VA + granule() * 16;
	remap(VA, (u64)page(0), NORMAL);
	fault(load_at(hole), DABORT | TRANSLATION | 3, hole, "translation fault, level 3");
	fault(store_at(hole + 8), DABORT | TRANSLATION | 3 | WNR, hole + 8, "of a store");
	fault(call_at(hole), IABORT | TRANSLATION | 3, hole, "of a fetch");
	u64 empty = VA + (1ull << level_shift(2)) * 8;
	fault(load_at(empty), DABORT | TRANSLATION | 2, empty, "translation fault, level 2");
	if (first_level() == 1) {
		u64 none = VA + (1ull << level_shift(1)) * (shift == 12 ? 16 : 1);
		fault(load_at(none), DABORT | TRANSLATION | 1, none, "translation fault, level 1");
	}
	u64 outside = 1ull << 39 | 0x1000;
	fault(load_at(outside), DABORT | TRANSLATION, outside, "address out of range: level 0");
	fault(load_at(HIGH - 4096), DABORT | TRANSLATION, HIGH - 4096, "upper address out of range: level 0");
	u64 crossing = VA + granule() * 2 - 4;
	remap(VA + granule(), (u64)page(1), NORMAL);
	*entry(root, VA + granule() * 2, 3, 0) = 0;
	flush();
	fault(load_at(crossing), DABORT | TRANSLATION | 3, crossing + 4, "an access over two pages tells the second");

	remap(VA, (u64)page(0), NORMAL & ~AF);
	fault(load_at(VA), DABORT | ACCESS_FLAG | 3, VA, "access flag fault");
	remap(VA, (u64)page(0), NORMAL | READ_ONLY);
	fine(load_at(VA), "read-only: loads");
	fault(store_at(VA), DABORT | PERMISSION | 3 | WNR, VA, "read-only: stores fault");
	remap(VA, (u64)page(0), NORMAL | PXN);
	fault(call_at(VA), IABORT | PERMISSION | 3, VA, "PXN");
	remap(VA, (u64)page(0), NORMAL | USER);
	fault(call_at(VA), IABORT | PERMISSION | 3, VA, "what EL0 may write, EL1 does not execute");
	remap(VA, NO_RAM, NORMAL);
	struct trap t = load_at(VA);
	check_eq(t.esr & ~0x200ull, DABORT | 0x10, "%dK: no such memory: external abort", granule() >> 10);
	*entry(root, VA, 3, 0) = 0;
	*entry(root, empty, 2, 0) = NO_RAM | TABLE;
	flush();
	t = load_at(empty);
	check_eq(t.esr & ~0x200ull, DABORT | 0x17, "%dK: no such table: external abort on the walk, level 3", granule() >> 10);
	*entry(root, empty, 2, 0) = 0;
	set_tcr(tcr() & ~(7ull << 32));
	remap(VA, 1ull << 33, NORMAL);
	fault(load_at(VA), DABORT | 3, VA, "output address beyond IPS: address size fault");
	set_tcr(tcr());
}

/* EPD0 with the code itself in that half cannot be: EPD1 it is. */
static void controls(void)
{
	u64 high = HIGH + granule() * 5;
	set_tcr(tcr() | 1 << 23);
	fault(load_at(high), DABORT | TRANSLATION, high, "EPD1");
	set_tcr(tcr() | 1ull << 37);
	remap(VA, (u64)page(0), NORMAL);
	fine(load_at(VA | 0xa5ull << 56), "TBI0: the top byte does not count");
	set_tcr(tcr());
	fault(load_at(VA | 0x25ull << 56), DABORT | TRANSLATION, VA | 0x25ull << 56, "without TBI0 it does");
	u64 v = VA + (1ull << level_shift(2)) * 3;
	*entry(root, v, 2, 0) = (u64)table() | TABLE | 1ull << 62 /* APTable: read-only */ | 1ull << 59 /* PXNTable */;
	map(root, v, (u64)page(0), NORMAL);
	flush();
	fine(load_at(v), "APTable read-only: loads");
	fault(store_at(v), DABORT | PERMISSION | 3 | WNR, v, "APTable read-only: stores fault");
	fault(call_at(v), IABORT | PERMISSION | 3, v, "PXNTable");
	if ((read_sysreg(id_aa64mmfr1_el1) >> 12) & 15) {
		set_tcr(tcr() | 1ull << 41);
		fine(store_at(v), "HPD0: table attributes do not count");
		set_tcr(tcr());
	}
	remap(VA, (u64)page(0), NORMAL);
	page(0)[0] = 0xd65f03c0; /* ret */
	dsb();
	asm volatile("ic ialluis; dsb sy; isb");
	fine(call_at(VA), "code in a writable page");
	u64 mmfr1 = read_sysreg(id_aa64mmfr1_el1);
	if (mmfr1 & 15) {
		set_tcr(tcr() | 1ull << 39);
		remap(VA, (u64)page(0), NORMAL & ~AF);
		fine(load_at(VA), "HA: no access flag fault");
		check(*entry(root, VA, 3, 0) & AF, "%dK: HA: the flag has been set", granule() >> 10);
		if ((mmfr1 & 15) >= 2) {
			set_tcr(tcr() | 3ull << 39);
			remap(VA, (u64)page(0), NORMAL | READ_ONLY | DBM);
			fine(load_at(VA), "HD: a load of a clean page");
			check(*entry(root, VA, 3, 0) & READ_ONLY, "%dK: HD: leaves it clean", granule() >> 10);
			fine(store_at(VA), "HD: a store to a clean page");
			check(!(*entry(root, VA, 3, 0) & READ_ONLY), "%dK: HD: makes it dirty", granule() >> 10);
		}
		set_tcr(tcr());
	}
}

USER_CODE(u_load, "ldr x0, [x0]");
USER_CODE(u_store, "str x0, [x0]");
USER_CODE(u_nothing, "nop");

/* Runs user code through the mapping at VA + 4 granules (code) and + 6 (the way back). */
static struct trap user(void (*code)(void), u64 arg)
{
	u64 offset = (u64)code & (granule() - 1);
	return TRAP_OF(run_el0((void *)(VA + granule() * 4 + offset), 0, arg));
}

static u64 pan_seen;
static bool see_pan(struct frame *f, u64 vector)
{
	(void)f;
	(void)vector;
	pan_seen = read_sysreg(S3_0_C4_C2_3);
	return false;
}

static void el0(void)
{
	u64 code = VA + granule() * 4, back = VA + granule() * 6;
	remap(code, (u64)u_load, NORMAL | READ_ONLY | USER | PXN);
	remap(back, (u64)el0_exit, NORMAL | READ_ONLY | USER | PXN);
	el0_exit_at = back + ((u64)el0_exit & (granule() - 1));
	remap(VA, (u64)page(0), NORMAL | USER | PXN | UXN);
	fine(user(u_load, VA), "EL0 loads from its page");
	fine(user(u_store, VA), "EL0 stores to its page");
	remap(VA, (u64)page(0), NORMAL | USER | READ_ONLY);
	fault(user(u_store, VA + 16), DABORT_EL0 | PERMISSION | 3 | WNR, VA + 16, "EL0 stores to a read-only page");
	remap(VA, (u64)page(0), NORMAL);
	fault(user(u_load, VA + 24), DABORT_EL0 | PERMISSION | 3, VA + 24, "EL0 loads from EL1's page");
	u64 v = VA + (1ull << level_shift(2)) * 5;
	*entry(root, v, 2, 0) = (u64)table() | TABLE | 1ull << 61 /* APTable: not EL0 */;
	map(root, v, (u64)page(0), NORMAL | USER);
	flush();
	fault(user(u_load, v), DABORT_EL0 | PERMISSION | 3, v, "APTable takes EL0's rights");
	remap(code, (u64)u_load, NORMAL | READ_ONLY | USER | UXN);
	u64 at = code + ((u64)u_nothing & (granule() - 1));
	fault(user(u_nothing, 0), IABORT_EL0 | PERMISSION | 3, at, "UXN");
	remap(code, (u64)u_load, NORMAL | READ_ONLY | USER | PXN);
	if ((read_sysreg(id_aa64mmfr2_el1) >> 60) & 15) {
		u64 high = HIGH + granule() * 5;
		*entry(high_root, high, 3, 0) |= USER;
		set_tcr(tcr() | 1ull << 56);
		fault(user(u_load, high), DABORT_EL0 | TRANSLATION, high, "E0PD1");
		set_tcr(tcr());
		fine(user(u_load, high), "without E0PD1");
	}
	if ((read_sysreg(id_aa64mmfr1_el1) >> 20) & 15) {
		remap(VA, (u64)page(0), NORMAL | USER);
		asm volatile(".inst 0xd500419f"); /* msr pan, #1 */
		fault(load_at(VA), DABORT | PERMISSION | 3, VA, "PAN: EL1 loads from EL0's page");
		struct trap t = TRAP_OF(asm volatile("ldtr x0, [%0]" : : "r"(VA) : "x0"));
		fine(t, "PAN: LDTR may");
		asm volatile(".inst 0xd500409f"); /* msr pan, #0 */
		fine(load_at(VA), "without PAN");
		u64 sctlr = read_sysreg(sctlr_el1);
		on_sync = see_pan;
		write_sysreg(sctlr_el1, sctlr & ~(1ull << 23));
		isb();
		asm volatile("svc #0");
		check_eq(pan_seen, 1 << 22, "%dK: an exception sets PAN with SPAN clear", granule() >> 10);
		write_sysreg(sctlr_el1, sctlr | 1ull << 23);
		isb();
		asm volatile("svc #0");
		check_eq(pan_seen, 0, "%dK: and leaves it with SPAN set", granule() >> 10);
		on_sync = 0;
	}
	remap(VA, (u64)page(0), NORMAL);
	struct trap t = TRAP_OF(asm volatile("ldtr x0, [%0]" : : "r"(VA + 8) : "x0"));
	fault(t, DABORT | PERMISSION | 3, VA + 8, "LDTR from EL1's page");
}

static u64 at_result(u64 par) { return par & 1 ? par & 0x7f : par & 0xff00fffffffff180ull; }

static void address_translation(void)
{
	u64 par;
#define AT(op, va) ({ asm volatile("at " op ", %1\n isb\n mrs %0, par_el1" : "=r"(par) : "r"((u64)(va))); at_result(par); })
	u64 pa = (u64)page(0) & ~0xfffull;
	remap(VA, (u64)page(0), NORMAL);
	check_eq(AT("s1e1r", VA + 0x123), 0xffull << 56 | pa | 3 << 7, "%dK: AT S1E1R", granule() >> 10);
	check_eq(AT("s1e0r", VA), 1 | (PERMISSION | 3) << 1, "%dK: AT S1E0R of EL1's page", granule() >> 10);
	remap(VA, (u64)page(0), NORMAL | READ_ONLY | USER);
	check_eq(AT("s1e1w", VA), 1 | (PERMISSION | 3) << 1, "%dK: AT S1E1W of a read-only page", granule() >> 10);
	check_eq(AT("s1e0w", VA), 1 | (PERMISSION | 3) << 1, "%dK: AT S1E0W of a read-only page", granule() >> 10);
	check_eq(AT("s1e0r", VA), 0xffull << 56 | pa | 3 << 7, "%dK: AT S1E0R of EL0's page", granule() >> 10);
	check_eq(AT("s1e1r", VA + granule() * 16), 1 | (TRANSLATION | 3) << 1, "%dK: AT of a hole", granule() >> 10);
	remap(VA, (u64)page(0), AF | MAIR_DEVICE << 2);
	check_eq(AT("s1e1r", VA), 0x04ull << 56 | pa | 2 << 7, "%dK: AT of Device memory", granule() >> 10);
}

static void maintenance(void)
{
	*page(0) = 1;
	*page(1) = 2;
#define INVALIDATES(op, operand) do { \
	remap(VA, (u64)page(0), NORMAL); \
	u64 before = read64(VA); \
	*entry(root, VA, 3, 0) = 0; \
	asm volatile("dsb ishst\n tlbi " op operand "\n dsb ish\n isb" : : "r"(VA >> 12) : "memory"); \
	struct trap gone = load_at(VA); \
	map(root, VA, (u64)page(1), NORMAL); \
	isb(); \
	check_eq(before << 16 | gone.count << 8 | read64(VA), 0x10102, "%dK: TLBI " op, granule() >> 10); \
} while (0)
	INVALIDATES("vmalle1", "");
	INVALIDATES("vmalle1is", "");
	INVALIDATES("vae1", ", %0");
	INVALIDATES("vae1is", ", %0");
	INVALIDATES("vaae1", ", %0");
	INVALIDATES("vaae1is", ", %0");
	INVALIDATES("vale1", ", %0");
	INVALIDATES("vale1is", ", %0");
	INVALIDATES("vaale1", ", %0");
	INVALIDATES("vaale1is", ", %0");
	INVALIDATES("aside1", ", xzr");
	INVALIDATES("aside1is", ", xzr");
	/* A block goes with any address in it. */
	u64 block = VA + (1ull << level_shift(2)) * 2, size = 1ull << level_shift(2);
	u64 offset = (u64)page(1) & (size - 1);
	*entry(root, block, 2, 0) = ((u64)page(1) & ~(size - 1)) | NORMAL | VALID;
	flush();
	read64(block + offset);
	read64(block);
	*entry(root, block, 2, 0) = 0;
	asm volatile("dsb ishst\n tlbi vae1is, %0\n dsb ish\n isb" : : "r"((block + offset) >> 12) : "memory");
	check_eq(load_at(block + offset).count << 1 | load_at(block).count, 3, "%dK: TLBI of one page of a block", granule() >> 10);

	/* ASIDs: two tables, no maintenance between. */
	other_root = identity_root();
	map(root, VA, (u64)page(0), NORMAL | NG);
	map(other_root, VA, (u64)page(1), NORMAL | NG);
	flush();
	u64 seen = 0;
	for (int i = 0; i < 4; i++) {
		write_sysreg(ttbr0_el1, (u64)(i & 1 ? other_root : root) | (u64)(1 + (i & 1)) << 48);
		isb();
		seen = seen << 4 | read64(VA);
	}
	check_eq(seen, 0x1212, "%dK: address spaces by ASID", granule() >> 10);
	write_sysreg(ttbr0_el1, (u64)root);
	isb();
	flush();
}

/* --- other VPs --- */

static volatile u64 go, reports[MAX_VPS], stop;

static void reader(u64 vp)
{
	write_sysreg(mair_el1, 0x4404ffull);
	write_sysreg(tcr_el1, tcr());
	write_sysreg(ttbr0_el1, (u64)root);
	write_sysreg(ttbr1_el1, (u64)high_root);
	isb();
	asm volatile("tlbi vmalle1; dsb sy; isb");
	write_sysreg(sctlr_el1, read_sysreg(sctlr_el1) | 1 | 1 << 2 | 1 << 12);
	isb();
	while (!stop)
		reports[vp] = read64(VA);
	mmu_off();
}

static void others(void)
{
	*page(0) = 0x10;
	*page(1) = 0x20;
	*page(2) = 0x30;
	remap(VA, (u64)page(0), NORMAL);
	stop = 0;
	for (u32 vp = 1; vp < machine.cpus; vp++) {
		reports[vp] = 0;
		start_vp(vp, reader);
	}
	bool all = true;
	for (u64 round = 0; round < 3; round++) {
		map(root, VA, (u64)page(round), NORMAL);
		asm volatile("dsb ishst\n tlbi vae1is, %0\n dsb ish\n isb" : : "r"(VA >> 12) : "memory");
		for (u32 vp = 1; vp < machine.cpus; vp++) {
			u64 tries = 0;
			while (reports[vp] != *page(round) && tries++ < 10000000)
				;
			all &= reports[vp] == *page(round);
		}
	}
	check(all, "%dK: TLBI is broadcast to the other VPs", granule() >> 10);
	stop = 1;
	for (u32 vp = 1; vp < machine.cpus; vp++)
		wait_off(vp);
}

void main(void)
{
	memory = (u8 *)(((u64)__end + 0xffff) & ~0xffffull);
	pool = memory + MEMORY_SIZE;
	u64 mmfr0 = read_sysreg(id_aa64mmfr0_el1);
	bool there[] = { ((mmfr0 >> 28) & 15) != 15, ((mmfr0 >> 20) & 15) != 0, ((mmfr0 >> 24) & 15) != 15 };
	static const u32 shifts[] = { 12, 14, 16 };
	for (int i = 0; i < 3; i++) {
		shift = shifts[i];
		if (!there[i]) {
			print("SKIP: granule of %d KiB\n", granule() >> 10);
			continue;
		}
		translation_on();
		mapping();
		faults();
		controls();
		el0();
		address_translation();
		maintenance();
		if (machine.cpus > 1)
			others();
		mmu_off();
	}
}
