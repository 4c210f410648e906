/* Synchronous exceptions: vectors, syndromes, return addresses and saved state (Arm ARM D1.3, D19.2.37, D19.2.142). */
#include "bare.h"

/* Beyond every physical address size. */
#define NOWHERE 0x00f0000000000000ull
#define IL (1u << 25)

static u64 data[8] __attribute__((aligned(64)));
static u8 user_stack[1024] __attribute__((aligned(16)));
static u64 mode_seen, daif_seen;

#define AT(instruction, at) asm volatile("adr %0, 1f\n1: " instruction : "=r"(at) : : "memory", "cc", "x0")

static void expect(struct trap t, u64 vector, u64 esr, u64 elr, const char *name)
{
	if (t.count != 1)
		check_eq(t.count, 1, "%s: exceptions", name);
	else if (t.vector != vector)
		check_eq(t.vector, vector, "%s: vector", name);
	else if (t.elr != elr)
		check_eq(t.elr, elr, "%s: ELR", name);
	else
		check_eq(t.esr, esr, "%s", name);
}

static void from_el1(void)
{
	u64 at = 0;
	struct trap t;

	t = TRAP_OF(AT("svc #0x1234", at));
	expect(t, 4, 0x15ull << 26 | IL | 0x1234, at + 4, "SVC");
	t = TRAP_OF(AT("brk #0xabc", at));
	expect(t, 4, 0x3cull << 26 | IL | 0xabc, at, "BRK");
	t = TRAP_OF(AT("udf #7", at));
	expect(t, 4, IL, at, "UDF");
	t = TRAP_OF(AT("hlt #1", at));
	expect(t, 4, IL, at, "HLT without external debug");
	t = TRAP_OF(AT(".inst 0x03000000", at));
	expect(t, 4, IL, at, "unallocated encoding");
	t = TRAP_OF(AT("mrs x0, S3_6_C1_C1_0", at));
	expect(t, 4, IL, at, "MRS of an EL3 register");
	t = TRAP_OF(AT("msr S3_4_C1_C1_0, x0", at));
	expect(t, 4, IL, at, "MSR of an EL2 register");
	t = TRAP_OF(AT("msr S3_0_C0_C0_0, x0", at));
	expect(t, 4, IL, at, "MSR of a read-only register");

	t = TRAP_OF(asm volatile("adr %0, 1f\n1: ldr x0, [%1]" : "=&r"(at) : "r"(NOWHERE) : "x0"));
	expect(t, 4, 0x25ull << 26 | IL, at, "load from no physical address: address size fault, level 0");
	check_eq(t.far, NOWHERE, "its FAR");
	t = TRAP_OF(asm volatile("adr %0, 1f\n1: str x0, [%1, #8]" : "=&r"(at) : "r"(NOWHERE)));
	expect(t, 4, 0x25ull << 26 | IL | 1 << 6, at, "store to no physical address: WnR");
	check_eq(t.far, NOWHERE + 8, "its FAR");
	t = TRAP_OF(((void (*)(void))(NOWHERE + 0x40))());
	expect(t, 4, 0x21ull << 26 | IL, NOWHERE + 0x40, "branch to no physical address");
	check_eq(t.far, NOWHERE + 0x40, "its FAR");
	u64 odd = (u64)from_el1 + 2;
	t = TRAP_OF(((void (*)(void))odd)());
	expect(t, 4, 0x22ull << 26 | IL, odd, "branch to an odd address");
	check_eq(t.far, odd, "its FAR");
}

static void alignment(void)
{
	u64 at = 0, p = (u64)data;
	struct trap t;

	t = TRAP_OF(asm volatile("adr %0, 1f\n1: ldr x0, [%1, #1]" : "=&r"(at) : "r"(p) : "x0"));
	expect(t, 4, 0x25ull << 26 | IL | 0x21, at, "MMU off: memory is Device, unaligned loads fault");
	mmu_on();
	data[0] = 0x1122334455667788ull;
	data[1] = 0x99aabbccddeeff00ull;
	u64 got = 0;
	t = TRAP_OF(asm volatile("ldur %0, [%1, #3]" : "=r"(got) : "r"(p)));
	check_eq(t.count, 0, "Normal memory: unaligned loads do not fault");
	check_eq(got, 0xeeff001122334455ull, "what they load");
	t = TRAP_OF(asm volatile("adr %0, 1f\n1: ldxr x0, [%1]" : "=&r"(at) : "r"(p + 12) : "x0"));
	expect(t, 4, 0x25ull << 26 | IL | 0x21, at, "LDXR unaligned, over 16 bytes");
	check_eq(t.far, p + 12, "its FAR");
	/* FEAT_LSE2 */
	bool within = read_sysreg(id_aa64mmfr2_el1) >> 32 & 15;
	t = TRAP_OF(asm volatile("ldxr %0, [%1]" : "=&r"(got) : "r"(p + 4)));
	check_eq(t.count, !within, "LDXR unaligned within 16 bytes");
	if (within)
		check_eq(got, 0xddeeff0011223344ull, "what it loads");
	t = TRAP_OF(asm volatile("adr %0, 1f\n1: stlr x0, [%1]" : "=&r"(at) : "r"(p + 13)));
	expect(t, 4, 0x25ull << 26 | IL | 0x21 | 1 << 6, at, "STLR over a 16-byte boundary");
	write_sysreg(sctlr_el1, read_sysreg(sctlr_el1) | 2);
	isb();
	t = TRAP_OF(asm volatile("adr %0, 1f\n1: ldrh w0, [%1, #1]" : "=&r"(at) : "r"(p) : "x0"));
	expect(t, 4, 0x25ull << 26 | IL | 0x21, at, "SCTLR_EL1.A: unaligned LDRH");
	t = TRAP_OF(asm volatile("adr %0, 1f\n1: stp x0, x0, [%1, #8]" : "=&r"(at) : "r"(p)));
	check_eq(t.count, 0, "SCTLR_EL1.A: STP is aligned by its elements");
	write_sysreg(sctlr_el1, read_sysreg(sctlr_el1) & ~2ull);
	isb();
	/* SP alignment, SCTLR_EL1.SA. */
	write_sysreg(sctlr_el1, read_sysreg(sctlr_el1) | 8);
	isb();
	bool (*old)(struct frame *, u64) = on_sync;
	u64 sp_el0 = p + 8;
	write_sysreg(sp_el0, sp_el0);
	t = TRAP_OF(asm volatile("adr %0, 1f\n msr spsel, #0\n isb\n1: ldr x0, [sp]\n msr spsel, #1\n isb" : "=&r"(at) : : "x0", "memory"));
	on_sync = old;
	expect(t, 0, 0x26ull << 26 | IL, at, "misaligned SP as a base (SP_EL0 at EL1)");
	write_sysreg(sctlr_el1, read_sysreg(sctlr_el1) & ~8ull);
	isb();
	t = TRAP_OF(asm volatile("adr %0, 1f\n1: dc civac, %1" : "=&r"(at) : "r"(0x700000000000ull) : "memory"));
	expect(t, 4, 0x25ull << 26 | IL | 1 << 8 | 1 << 6 | 4, at, "DC CIVAC of an unmapped address: CM and WnR");
	mmu_off();
}

static bool see_pstate(struct frame *f, u64 vector)
{
	(void)f;
	(void)vector;
	daif_seen = read_sysreg(daif);
	mode_seen = read_sysreg(spsel) << 4 | read_sysreg(currentel);
	return false;
}

static void saved_state(void)
{
	struct trap t;
	on_sync = see_pstate;
	t = TRAP_OF(asm volatile("msr daifclr, #13\n mov x0, #0xa0000000\n msr nzcv, x0\n svc #0\n msr daifset, #13" : : : "x0", "cc"));
	check_eq(t.spsr & ~0x1c01000ull, 0xa0000085, "SPSR: NZCV, DAIF, EL1h");
	check_eq(daif_seen, 0x3c0, "an exception masks D, A, I and F");
	check_eq(mode_seen, 0x14, "and selects SP_EL1 at EL1");
	mmu_on();
	write_sysreg(sp_el0, (u64)user_stack + 512);
	t = TRAP_OF(asm volatile("msr spsel, #0\n str x0, [sp, #-16]!\n svc #1\n add sp, sp, #16\n msr spsel, #1" : : : "memory"));
	check_eq(t.vector << 8 | (t.spsr & 15), 0x004, "from EL1t: vector 0, SPSR EL1t");
	u64 sp = 0;
	asm volatile("mrs %0, sp_el0" : "=r"(sp));
	check_eq(sp, (u64)user_stack + 512, "SP_EL0 is its own register");
	mmu_off();
	/* Illegal return: to EL2. The target is reached with PSTATE.IL set, at the same level. */
	u64 at = 0;
	t = TRAP_OF(asm volatile("adr %0, 1f\n msr elr_el1, %0\n mov x0, #0x3c9\n msr spsr_el1, x0\n adr x30, 1f\n isb\n eret\n1: nop" : "=&r"(at) : : "x0", "x30"));
	on_sync = 0;
	expect(t, 4, 0x0eull << 26 | IL, at, "illegal exception return");
	check_eq(t.spsr & (1 << 20 | 15), 1 << 20 | 5, "its SPSR has IL and the level it came from");
}

static void fp_trap(void)
{
	u64 at = 0, old = read_sysreg(cpacr_el1);
	write_sysreg(cpacr_el1, old & ~(3ull << 20));
	isb();
	struct trap t = TRAP_OF(asm volatile("adr %0, 1f\n1: .inst 0x9e660000 /* fmov x0, d0 */" : "=&r"(at) : : "x0"));
	expect(t, 4, 0x07ull << 26 | IL | 0x1e00000, at, "FP with CPACR_EL1.FPEN = 0");
	t = TRAP_OF(asm volatile("adr %0, 1f\n1: mrs x0, S3_3_C4_C4_0 /* FPCR */" : "=&r"(at) : : "x0"));
	expect(t, 4, 0x07ull << 26 | IL | 0x1e00000, at, "FPCR with CPACR_EL1.FPEN = 0");
	write_sysreg(cpacr_el1, old | 3ull << 20);
	isb();
	t = TRAP_OF(asm volatile(".inst 0x9e660000" : : : "x0"));
	check_eq(t.count, 0, "FP with CPACR_EL1.FPEN = 3");
	write_sysreg(cpacr_el1, old);
	isb();
}

/* --- EL0, with the MMU off: everything is allowed that the level allows --- */

USER_CODE(u_svc, "svc #0x55");
USER_CODE(u_udf, "udf #0");
USER_CODE(u_vbar, "mrs x0, vbar_el1");
USER_CODE(u_eret, "eret");
USER_CODE(u_hvc, "hvc #0");
USER_CODE(u_tlbi, "tlbi vmalle1");
USER_CODE(u_ctr, "mrs x7, ctr_el0");
USER_CODE(u_zva, "dc zva, x0");
USER_CODE(u_daif, "msr daifset, #2");
USER_CODE(u_wfi, "wfi");
USER_CODE(u_wfe, "sevl\n wfe\n wfe");
USER_CODE(u_cntvct, "mrs x3, cntvct_el0");
USER_CODE(u_nzcv, "mrs x0, nzcv");
USER_CODE(u_load, "ldr x0, [x0]");

static void user(void (*code)(void), u64 arg, u64 esr, u64 offset, const char *name)
{
	struct trap t = TRAP_OF(run_el0(code, user_stack + sizeof(user_stack), arg));
	if (esr == 0)
		check_eq(t.count, 0, "EL0: %s", name);
	else {
		expect(t, 8, esr | IL, (u64)code + offset, name);
		check_eq(t.spsr & 0x3df, 0x3c0, "  from EL0");
	}
}

/* ISS of a trapped MSR, MRS or SYS: Op0, Op2, Op1, CRn, Rt, CRm, direction. */
#define SYS_ISS(op0, op1, crn, crm, op2, rt, read) ((u64)(op0) << 20 | (op2) << 17 | (op1) << 14 | (crn) << 10 | (rt) << 5 | (crm) << 1 | (read))

static void from_el0(void)
{
	u64 old = read_sysreg(sctlr_el1);
	/* UCI, nTWE, nTWI, UCT, DZE, UMA all clear: everything traps. */
	write_sysreg(sctlr_el1, old & ~(1ull << 26 | 1 << 18 | 1 << 16 | 1 << 15 | 1 << 14 | 1 << 9));
	write_sysreg(cntkctl_el1, 0);
	isb();
	user(u_svc, 0, 0x15ull << 26 | 0x55, 4, "SVC at EL0");
	user(u_udf, 0, IL, 0, "UDF at EL0");
	user(u_vbar, 0, IL, 0, "MRS of an EL1 register at EL0");
	user(u_eret, 0, IL, 0, "ERET at EL0");
	user(u_hvc, 0, IL, 0, "HVC at EL0");
	user(u_tlbi, 0, IL, 0, "TLBI at EL0");
	user(u_ctr, 0, 0x18ull << 26 | SYS_ISS(3, 3, 0, 0, 1, 7, 1), 0, "CTR_EL0 at EL0 without UCT");
	user(u_zva, (u64)data, 0x18ull << 26 | SYS_ISS(1, 3, 7, 4, 1, 0, 0), 0, "DC ZVA at EL0 without DZE");
	user(u_daif, 0, 0x18ull << 26 | SYS_ISS(0, 3, 4, 2, 6, 31, 0), 0, "MSR DAIFSet at EL0 without UMA");
	user(u_wfi, 0, 0x01ull << 26 | 0x1e00000, 0, "WFI at EL0 without nTWI");
	user(u_wfe, 0, 0x01ull << 26 | 0x1e00001, 8, "WFE that would wait at EL0 without nTWE");
	user(u_cntvct, 0, 0x18ull << 26 | SYS_ISS(3, 3, 14, 0, 2, 3, 1), 0, "CNTVCT_EL0 at EL0 without EL0VCTEN");
	user(u_load, NOWHERE, 0x24ull << 26, 0, "load from no physical address at EL0");
	write_sysreg(sctlr_el1, old | 1ull << 15 | 1 << 9);
	write_sysreg(cntkctl_el1, 2);
	isb();
	user(u_ctr, 0, 0, 0, "CTR_EL0 with UCT");
	user(u_daif, 0, 0, 0, "MSR DAIFSet with UMA");
	user(u_cntvct, 0, 0, 0, "CNTVCT_EL0 with EL0VCTEN");
	user(u_nzcv, 0, 0, 0, "NZCV");
	write_sysreg(sctlr_el1, old);
	isb();
}

void main(void)
{
	from_el1();
	alignment();
	saved_state();
	fp_trap();
	from_el0();
}
