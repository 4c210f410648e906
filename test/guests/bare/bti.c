/*
 * Branch target identification (Arm ARM D8.4.5): what jumps to registers may land on in guarded pages, and what PSTATE.BTYPE tells.
 * FLAGS: -march=armv8.5-a
 */
#include "bare.h"

#define IL (1u << 25)
#define GIB (1ull << 30)
/* RAM's first GiB again, guarded. */
#define GUARDED 16
#define BT1 (1ull << 36)
#define GP (1ull << 50)

/* Each jumps to x1 and gives what that gives: 1, or 0 when the handler has come back instead. */
typedef u64 jump(u64, u64);
jump by_blr, by_blr16, by_br, by_br16, by_ret, many_calls;
/* Where they go. */
void to_bti(void), to_c(void), to_j(void), to_jc(void), to_paciasp(void), to_pacibsp(void), to_nop(void), to_brk(void);
asm(".pushsection .text, \"ax\"\n"
    "by_blr: bti c\n stp x29, x30, [sp, #-16]!\n blr x1\n ldp x29, x30, [sp], #16\n ret\n"
    "by_blr16: bti c\n stp x29, x30, [sp, #-16]!\n mov x16, x1\n blr x16\n ldp x29, x30, [sp], #16\n ret\n"
    "by_br: bti c\n br x1\n"
    "by_br16: bti c\n mov x16, x1\n br x16\n"
    "by_ret: bti c\n ret x1\n"
    /* x0 calls of x1, and as many jumps to a landing of its own */
    "many_calls: bti c\n stp x29, x30, [sp, #-16]!\n mov x9, x0\n mov x10, #0\n adr x11, 2f\n"
    "1: blr x1\n add x10, x10, x0\n br x11\n"
    "2: bti j\n sub x9, x9, #1\n cbnz x9, 1b\n mov x0, x10\n ldp x29, x30, [sp], #16\n ret\n"
    "to_bti: bti\n mov x0, #1\n ret\n"
    "to_c: bti c\n mov x0, #1\n ret\n"
    "to_j: bti j\n mov x0, #1\n ret\n"
    "to_jc: bti jc\n mov x0, #1\n ret\n"
    "to_paciasp: paciasp\n mov x0, #1\n ret\n"
    "to_pacibsp: pacibsp\n mov x0, #1\n ret\n"
    "to_nop: nop\n mov x0, #1\n ret\n"
    "to_brk: brk #7\n mov x0, #1\n ret\n"
    ".popsection");

static u64 guarded(u64 address, bool yes) { return yes ? GUARDED * GIB + (address & (GIB - 1)) : address; }

static const struct { const char *name; jump *run; u8 btype[2]; } JUMPS[] = {
	{ "blr x1", by_blr, { 2, 2 } },
	{ "blr x16", by_blr16, { 2, 2 } },
	{ "br x1", by_br, { 1, 3 } },
	{ "br x16", by_br16, { 1, 1 } },
	{ "ret x1", by_ret, { 0, 0 } },
};
/* Bits by BTYPE, without and with SCTLR_EL1.BT1. */
static const struct { const char *name; void (*at)(void); u8 may[2]; } LANDINGS[] = {
	{ "bti", to_bti, { 1, 1 } },
	{ "bti c", to_c, { 7, 7 } },
	{ "bti j", to_j, { 11, 11 } },
	{ "bti jc", to_jc, { 15, 15 } },
	{ "paciasp", to_paciasp, { 15, 7 } },
	{ "pacibsp", to_pacibsp, { 15, 7 } },
	{ "nop", to_nop, { 1, 1 } },
};

static void landings(bool strict, bool there)
{
	for (u32 j = 0; j < sizeof JUMPS / sizeof *JUMPS; j++)
		for (u32 l = 0; l < sizeof LANDINGS / sizeof *LANDINGS; l++)
			for (u32 from = 0; from < 2; from++)
				for (u32 to = 0; to < 2; to++) {
					u64 btype = there ? JUMPS[j].btype[from] : 0;
					u64 target = guarded((u64)LANDINGS[l].at, to), r = 2;
					jump *run = (jump *)guarded((u64)JUMPS[j].run, from);
					bool may = !to || LANDINGS[l].may[strict] >> btype & 1;
					struct trap t = TRAP_OF(r = run(0, target));
					check_eq(r << 40 | t.count << 32 | t.esr, may ? 1ull << 40 : 1ull << 32 | 0xdull << 26 | IL | btype,
						 "%s, from %d to %d: %s", JUMPS[j].name, (u64)from, (u64)to, LANDINGS[l].name);
					if (!may)
						check_eq(t.elr ^ (t.spsr >> 10 & 3), target ^ btype, "where, and with which BTYPE");
				}
}

void main(void)
{
	bool there = read_sysreg(id_aa64pfr1_el1) & 15;
	mmu_on();
	identity[GUARDED] = identity[machine.ram / GIB] | GP;
	dsb();
	isb();
	landings(false, there);
	if (!there)
		return;
	write_sysreg(sctlr_el1, read_sysreg(sctlr_el1) | BT1);
	isb();
	check_eq(read_sysreg(sctlr_el1) & BT1, BT1, "SCTLR_EL1.BT1");
	landings(true, there);

	/* BRK is its own exception, and says how it was reached. */
	u64 r = 0;
	struct trap t = TRAP_OF(r = by_br16(0, guarded((u64)to_brk, true)));
	check_eq(r << 40 | t.esr, 1ull << 40 | 0x3cull << 26 | IL | 7, "brk");
	check_eq(t.spsr >> 10 & 3, 1, "its BTYPE");

	/* ERET to BTYPE: the landing is looked at then. */
	for (u64 btype = 0; btype < 4; btype++) {
		u64 to = guarded((u64)to_c, true);
		t = TRAP_OF(asm volatile("adr x30, 1f\n msr elr_el1, %1\n msr spsr_el1, %2\n isb\n mov x0, #0\n eret\n1: mov %0, x0"
					 : "=&r"(r) : "r"(to), "r"(0x3c5 | btype << 10) : "x0", "x30", "memory"));
		check_eq(r << 40 | t.esr, btype == 3 ? 0xdull << 26 | IL | 3 : 1ull << 40, "ERET with BTYPE %d", btype);
	}

	/* Hot code. */
	for (u32 from = 0; from < 2; from++)
		for (u32 to = 0; to < 2; to++)
			check_eq(((jump *)guarded((u64)many_calls, from))(100000, guarded((u64)to_c, to)), 100000, "many calls, from %d to %d", (u64)from, (u64)to);
	t = TRAP_OF(r = ((jump *)guarded((u64)many_calls, true))(1, guarded((u64)to_j, true)));
	check_eq(t.esr, 0xdull << 26 | IL | 2, "hot code calls what may only be jumped to");
}
