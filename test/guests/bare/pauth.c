/*
 * Pointer authentication (Arm ARM D8.10): signing, authentication, stripping, keys and their enables, branches, loads.
 * FLAGS: -march=armv8.3-a
 */
#include "bare.h"

#define IL (1u << 25)
/* Of either half, in the address bits of both configurations. */
#define POINTER 0x0000003456789ab0ull
#define UPPER 0xffffffb456789ab0ull
#define SCTLR_ALL (1ull << 31 | 1 << 30 | 1 << 27 | 1 << 13)

/* x0 = OP(x0, x1) */
#define PAC2(op, pointer, modifier) ({ u64 p_ = (pointer); asm volatile(op " %0, %1" : "+r"(p_) : "r"((u64)(modifier)) : "memory"); p_; })
#define PAC1(op, pointer) ({ u64 p_ = (pointer); asm volatile(op " %0" : "+r"(p_) : : "memory"); p_; })

#define PACGA(value, modifier) ({ u64 p_; asm volatile("pacga %0, %1, %2" : "=r"(p_) : "r"((u64)(value)), "r"((u64)(modifier))); p_; })

static bool fpac;
static u64 tcr_of(u64 more) { return 16ull | 16ull << 16 | 1 << 7 | 1 << 23 | more; }

static void set_keys(u64 seed)
{
	write_sysreg(apiakeylo_el1, seed * 3);
	write_sysreg(apiakeyhi_el1, seed * 5);
	write_sysreg(apibkeylo_el1, seed * 7);
	write_sysreg(apibkeyhi_el1, seed * 11);
	write_sysreg(apdakeylo_el1, seed * 13);
	write_sysreg(apdakeyhi_el1, seed * 17);
	write_sysreg(apdbkeylo_el1, seed * 19);
	write_sysreg(apdbkeyhi_el1, seed * 23);
	write_sysreg(apgakeylo_el1, seed * 29);
	write_sysreg(apgakeyhi_el1, seed * 31);
	isb();
}

/* A wrong code: the exception of FEAT_FPAC, or a pointer that is not canonical. */
#define FAILS(op, iss, signed_, modifier) do { \
	u64 r_ = 0; \
	struct trap t_ = TRAP_OF(r_ = PAC2(op, signed_, modifier)); \
	if (fpac) \
		check_eq(t_.count << 40 | t_.esr, 1ull << 40 | 0x1cull << 26 | IL | (iss), op ": a wrong code"); \
	else \
		check(t_.count == 0 && r_ != POINTER && r_ != UPPER, op ": a wrong code"); \
} while (0)

#define KEY(pac, aut, pacz, autz, name, iss, mask) do { \
	u64 s_ = PAC2(pac, POINTER, 42), u_ = PAC2(pac, UPPER, 42), z_ = PAC1(pacz, POINTER); \
	check((s_ & ~(mask)) == POINTER && (u_ & ~(mask)) == (UPPER & ~(mask)), name ": the code is in its bits only"); \
	check(s_ != POINTER && u_ != UPPER, name ": there is a code"); \
	check_eq(PAC2(aut, s_, 42), POINTER, name ": authentication gives the pointer back"); \
	check_eq(PAC2(aut, u_, 42), UPPER, name ": of the upper half as well"); \
	check_eq(PAC1(autz, z_), POINTER, name ": with zero as modifier"); \
	check_eq(z_, PAC2(pac, POINTER, 0), name ": which is a modifier like others"); \
	FAILS(aut, iss, s_, 43); \
	FAILS(aut, iss, s_ ^ (1ull << 50), 42); \
	FAILS(aut, iss, s_ ^ (1ull << 7), 42); \
} while (0)

static void keys(u64 imask, u64 dmask, const char *what)
{
	print("%s\n", what);
	KEY("pacia", "autia", "paciza", "autiza", "IA", 0, imask);
	KEY("pacib", "autib", "pacizb", "autizb", "IB", 1, imask);
	KEY("pacda", "autda", "pacdza", "autdza", "DA", 2, dmask);
	KEY("pacdb", "autdb", "pacdzb", "autdzb", "DB", 3, dmask);
	u64 a = PAC2("pacia", POINTER, 42), b = PAC2("pacib", POINTER, 42), c = PAC2("pacda", POINTER, 42), d = PAC2("pacdb", POINTER, 42);
	check(a != b && c != d && (a != c || b != d), "the keys differ");
	check_eq(PAC1("xpaci", a), POINTER, "XPACI");
	check_eq(PAC1("xpaci", PAC2("pacia", UPPER, 1)), UPPER, "XPACI of the upper half");
	check_eq(PAC1("xpacd", c), POINTER, "XPACD");
	set_keys(0x123456789);
	check(PAC2("pacia", POINTER, 42) != a && PAC2("pacdb", POINTER, 42) != d, "other keys, other codes");
	set_keys(0x987654321);
	check_eq(PAC2("pacia", POINTER, 42), a, "the same keys, the same code");
}

static u64 code_address;
static bool on_wrong(struct frame *f, u64 vector)
{
	(void)vector;
	code_address = f->elr;
	if (EC(f->esr) == 0x1c || (EC(f->esr) & 0x3e) == 0x20) {
		f->elr = f->x[28];
		return true;
	}
	return false;
}

u64 signed_return(u64), hint_forms(u64, u64), combined(u64 *), bad_return(void), authenticated_eret(void);
asm(".pushsection .text, \"ax\"\n"
    "signed_return: paciasp\n stp x29, x30, [sp, #-16]!\n bl 1f\n ldp x29, x30, [sp], #16\n autiasp\n ret\n"
    "1: pacibsp\n mov x0, #7\n retab\n"
    /* x17 signed with x16 and back, x30 with zero and back */
    "hint_forms: mov x17, x0\n mov x16, x1\n pacia1716\n mov x2, x17\n autia1716\n eor x0, x17, x0\n mov x3, x30\n paciaz\n autiaz\n eor x3, x3, x30\n orr x0, x0, x3\n"
    " mov x3, x30\n pacibz\n xpaclri\n eor x3, x3, x30\n orr x0, x0, x3\n mov x17, x2\n ret\n"
    /* braa, blraa, blraaz, ldraa */
    "combined: stp x29, x30, [sp, #-16]!\n mov x9, #5\n adr x10, 1f\n pacia x10, x9\n braa x10, x9\n mov x0, #0\n b 2f\n"
    "1: adr x10, 3f\n pacib x10, x9\n blrab x10, x9\n adr x10, 3f\n paciza x10\n blraaz x10\n add x11, x0, #8\n pacdza x11\n ldraa x12, [x11, #-8]\n ldrab x13, [x11, #8]!\n add x0, x12, x9\n"
    "2: ldp x29, x30, [sp], #16\n ret\n"
    "3: add x9, x9, #100\n ret\n"
    "bad_return: stp x29, x30, [sp, #-16]!\n adr x28, 1f\n paciasp\n eor x30, x30, #0x0010000000000000\n retaa\n mov x0, #1\n b 2f\n1: mov x0, #2\n2: ldp x29, x30, [sp], #16\n ret\n"
    "authenticated_eret: adr x9, 1f\n mov x10, sp\n pacia x9, x10\n msr elr_el1, x9\n mov x9, #0x3c5\n msr spsr_el1, x9\n isb\n eretaa\n mov x0, #1\n ret\n1: mov x0, #2\n ret\n"
    ".popsection");

static void control_flow(void)
{
	check_eq(signed_return(1), 7, "PACIASP, AUTIASP, PACIBSP, RETAB");
	check_eq(hint_forms(POINTER, 99), 0, "the forms in hint space");
	static u64 data[4] = { 1000, 2000, 3000, 4000 };
	on_sync = on_wrong;
	struct trap t = TRAP_OF(check_eq(bad_return(), 2, "RETAA with a wrong code"));
	if (fpac)
		check_eq(t.esr, 0x1cull << 26 | IL, "its syndrome");
	on_sync = 0;
	check_eq(authenticated_eret(), 2, "ERETAA");
	u64 r = 0;
	t = TRAP_OF(r = combined(data));
	/* LDRAB authenticates with another key than the pointer was signed with. */
	if (fpac)
		check_eq(r << 40 | t.esr, 1205ull << 40 | 0x1cull << 26 | IL | 3, "BRAA, BLRAB, BLRAAZ, LDRAA; LDRAB of DA's pointer fails");
	else
		check_eq(r, 1205, "BRAA, BLRAB, BLRAAZ, LDRAA");
}

static void disabled(void)
{
	u64 s = PAC2("pacia", POINTER, 1);
	write_sysreg(sctlr_el1, read_sysreg(sctlr_el1) & ~(1ull << 31));
	isb();
	check_eq(PAC2("pacia", POINTER, 1), POINTER, "EnIA = 0: PACIA does nothing");
	check_eq(PAC2("autia", s, 2), s, "EnIA = 0: AUTIA does nothing");
	check_eq(PAC2("autia", 0x5a00000000000000ull | POINTER, 2), 0x5a00000000000000ull | POINTER, "EnIA = 0: whatever is in the top byte");
	check(PAC2("pacib", POINTER, 1) != POINTER, "EnIB is another bit");
	check_eq(PAC1("xpaci", s), POINTER, "EnIA = 0: XPACI strips");
	check_eq(signed_return(1), 7, "EnIA = 0: functions return");
	write_sysreg(sctlr_el1, read_sysreg(sctlr_el1) & ~SCTLR_ALL);
	isb();
	check_eq(PAC2("pacdb", POINTER, 1), POINTER, "EnDB = 0: PACDB does nothing");
	u64 g = PAC2("pacda", POINTER, 1);
	check_eq(g, POINTER, "EnDA = 0: PACDA does nothing");
}

void main(void)
{
	u64 isar1 = read_sysreg(id_aa64isar1_el1);
	u64 api = (isar1 >> 8) & 15, apa = (isar1 >> 4) & 15;
	if (!api && !apa) {
		/* Hints do nothing, the rest is UNDEFINED. */
		struct trap t = TRAP_OF(asm volatile("paciaz\n autiaz\n xpaclri" : : : "x30"));
		check_eq(t.count, 0, "without the feature the forms in hint space are hints");
		t = TRAP_OF(asm volatile("pacia x0, x1" : : : "x0"));
		check_eq(t.count << 40 | t.esr, 1ull << 40 | IL, "and PACIA is UNDEFINED");
		t = TRAP_OF(asm volatile("mrs x0, apiakeylo_el1" : : : "x0"));
		check_eq(t.count << 40 | t.esr, 1ull << 40 | IL, "as are the keys");
		return;
	}
	fpac = (api > apa ? api : apa) >= 4;
	set_keys(0x987654321);
	check_eq(read_sysreg(apibkeyhi_el1), 0x987654321ull * 11, "keys read back");
	write_sysreg(sctlr_el1, read_sysreg(sctlr_el1) | SCTLR_ALL);
	/* 48 bits of address; the MMU stays off. */
	write_sysreg(tcr_el1, tcr_of(0));
	isb();
	keys(0xff7f000000000000ull, 0xff7f000000000000ull, "No tags:");
	u64 a = PACGA(1, 2), b = PACGA(1, 3), c = PACGA(2, 2);
	check(a != b && a != c && b != c && !((a | b | c) & 0xffffffff), "PACGA: a code of 32 bits");
	write_sysreg(tcr_el1, tcr_of(3ull << 37));
	isb();
	keys(0x007f000000000000ull, 0x007f000000000000ull, "With tags (TBI0, TBI1):");
	check_eq(PAC2("autda", PAC2("pacda", 0xa5ull << 56 | POINTER, 1), 1), 0xa5ull << 56 | POINTER, "the tag stays");
	write_sysreg(tcr_el1, tcr_of(3ull << 37 | 3ull << 51));
	isb();
	keys(0xff7f000000000000ull, 0x007f000000000000ull, "Tags of data only (TBID0, TBID1):");
	write_sysreg(tcr_el1, tcr_of(0) + (9 | 9 << 16));
	isb();
	keys(0xff7fff8000000000ull, 0xff7fff8000000000ull, "39 bits of address:");
	write_sysreg(tcr_el1, tcr_of(0));
	isb();
	control_flow();
	disabled();
}
