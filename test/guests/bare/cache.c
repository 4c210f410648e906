/* Cache maintenance and code that changes (Arm ARM B2.4.4, D7.5): what was written is what runs. */
#include "bare.h"

extern u8 __end[];
static volatile u32 *code;
static u8 buffer[4096] __attribute__((aligned(2048)));

#define RET 0xd65f03c0
#define MOV_W0(n) (0x52800000 | (u32)(n) << 5)

static void sync_code(const volatile void *at)
{
	asm volatile("dc cvau, %0\n dsb ish\n ic ivau, %0\n dsb ish\n isb" : : "r"(at) : "memory");
}
static u64 run(void) { return ((u64(*)(void))code)(); }

static void changing_code(void)
{
	code[1] = RET;
	u64 wrong = 0;
	for (u32 i = 0; i < 200; i++) {
		code[0] = MOV_W0(i);
		sync_code(code);
		wrong += run() != i;
	}
	check_eq(wrong, 0, "an instruction written, run, rewritten and run");
	/* Stores of every size into code. */
	code[0] = MOV_W0(0x1111);
	sync_code(code);
	run();
	*(volatile u8 *)code = 0x40; /* mov w0, #0x1112 */
	sync_code(code);
	check_eq(run(), 0x1112, "one byte of it");
	*(volatile u64 *)code = (u64)RET << 32 | MOV_W0(0x2222);
	sync_code(code);
	check_eq(run(), 0x2222, "two at once");
	/* At the end of a page and over it. */
	volatile u32 *last = code + 1023;
	last[0] = MOV_W0(1);
	last[1] = RET;
	sync_code(last);
	sync_code(last + 1);
	u64 first = ((u64(*)(void))last)();
	last[1] = MOV_W0(2);
	last[2] = RET;
	sync_code(last + 1);
	check_eq(first << 4 | ((u64(*)(void))last)(), 0x12, "code over the end of a page, its second half changed");
	/* Code that changes what comes next in its own page, and a loop that rewrites itself. */
	static const u32 self[] = {
		0x10000081, /* adr x1, 16 */
		0xb9000020, /* str w0, [x1] */
		0xd50b7b21, /* dc cvau, x1 */
		0xd5033b9f, /* dsb ish */
		0x52800000, /* mov w0, #0: replaced; what comes first must sync again */
		RET,
	};
	static const u32 tail[] = { 0xd50b7521 /* ic ivau, x1 */, 0xd5033b9f, 0xd5033fdf /* isb */ };
	volatile u32 *p = code + 64;
	for (u32 i = 0; i < 4; i++)
		p[i] = self[i];
	p[0] = 0x100000e1; /* adr x1, 28 */
	for (u32 i = 0; i < 3; i++)
		p[4 + i] = tail[i];
	p[7] = MOV_W0(0);
	p[8] = RET;
	for (u32 i = 0; i < 9; i++)
		sync_code(p + i);
	u64 sum = 0;
	for (u32 i = 1; i <= 20; i++)
		sum += ((u64(*)(u64))p)(MOV_W0(i));
	check_eq(sum, 210, "code that rewrites what comes next");
	/* A hot loop, long enough to be translated by whoever translates, then changed. */
	volatile u32 *loop = code + 256;
	loop[0] = MOV_W0(0);
	loop[1] = 0x52820001; /* mov w1, #0x1000 */
	loop[2] = 0x11000400; /* add w0, w0, #1 */
	loop[3] = 0x71000421; /* subs w1, w1, #1 */
	loop[4] = 0x54ffffc1; /* b.ne -8 */
	loop[5] = RET;
	for (u32 i = 0; i < 6; i++)
		sync_code(loop + i);
	u64 before = 0;
	for (int i = 0; i < 20; i++)
		before += ((u64(*)(void))loop)();
	loop[2] = 0x11000800; /* add w0, w0, #2 */
	sync_code(loop + 2);
	check_eq(before << 16 | ((u64(*)(void))loop)(), 20ull * 0x1000 << 16 | 0x2000, "a hot loop, changed");
	/* Written through another address. */
	u64 alias = 0x4000000000ull, gib = (u64)code & ~0x3fffffffull;
	identity[256] = gib | 1 << 10 | 3 << 8 | 1;
	asm volatile("dsb ishst\n tlbi vmalle1\n dsb ish\n isb" : : : "memory");
	code[0] = MOV_W0(7);
	code[1] = RET;
	sync_code(code);
	u64 old = run();
	write32(alias + ((u64)code & 0x3fffffff), MOV_W0(8));
	asm volatile("dc cvau, %0\n dsb ish\n ic ialluis\n dsb ish\n isb" : : "r"(alias + ((u64)code & 0x3fffffff)) : "memory");
	check_eq(old << 4 | run(), 0x78, "code written through another address");
}

static void zeroing(void)
{
	u64 dczid = read_sysreg(dczid_el0), size = 4ull << (dczid & 15);
	if (dczid & 16) {
		skip("DC ZVA is not permitted");
		return;
	}
	memset(buffer, 0xff, sizeof(buffer));
	u64 at = (u64)buffer + size * 2;
	asm volatile("dc zva, %0" : : "r"(at + size / 2 + 1) : "memory");
	u64 zeros = 0, ones = 0;
	for (u64 i = 0; i < size * 5; i++) {
		bool inside = (u64)buffer + i >= at && (u64)buffer + i < at + size;
		zeros += inside && buffer[i] == 0;
		ones += !inside && buffer[i] == 0xff;
	}
	check_eq(zeros << 16 | ones, size << 16 | size * 4, "DC ZVA zeroes its block and nothing else");
}

static void operations(void)
{
	u64 ctr = read_sysreg(ctr_el0);
	check((ctr & 15) <= 9 && ((ctr >> 16) & 15) <= 9 && ctr >> 31 & 1, "CTR_EL0: line sizes");
	*(volatile u64 *)buffer = 0x1234;
	struct trap t = TRAP_OF(asm volatile("dc cvac, %0\n dc cvau, %0\n dc civac, %0\n dc ivac, %0\n ic ivau, %0\n ic iallu\n ic ialluis\n dsb sy\n isb" : : "r"(buffer) : "memory"));
	check_eq(t.count << 16 | *(volatile u64 *)buffer, 0x1234, "maintenance by address leaves memory as it is");
	u64 clidr = read_sysreg(clidr_el1);
	bool fine = true;
	for (u32 level = 0; level < 7 && (clidr >> level * 3 & 7); level++) {
		u64 kind = clidr >> level * 3 & 7;
		if (kind < 2)
			continue;
		write_sysreg(csselr_el1, level << 1);
		isb();
		u64 ccsidr = read_sysreg(ccsidr_el1);
		u64 line = (ccsidr & 7) + 4;
		fine &= line >= 4 && line <= 11;
		t = TRAP_OF(asm volatile("dc cisw, %0\n dc csw, %0" : : "r"((u64)level << 1)));
		fine &= t.count == 0;
	}
	check(fine, "CLIDR, CCSIDR and maintenance by set and way");
}

static volatile u64 box, result;

static void runner(u64 vp)
{
	(void)vp;
	mmu_on();
	for (u64 i = 1; i <= 20; i++) {
		while (box != i)
			;
		isb();
		result = run();
		dsb();
		box = i | 0x100;
	}
	mmu_off();
}

static void another_vp(void)
{
	box = 0;
	start_vp(1, runner);
	u64 wrong = 0;
	for (u64 i = 1; i <= 20; i++) {
		code[0] = MOV_W0(i * 3);
		sync_code(code);
		box = i;
		while (box != (i | 0x100))
			;
		wrong += result != i * 3;
	}
	check_eq(wrong, 0, "another VP runs what this one wrote");
	wait_off(1);
}

void main(void)
{
	code = (volatile u32 *)(((u64)__end + 0xfff) & ~0xfffull);
	mmu_on();
	operations();
	zeroing();
	changing_code();
	if (machine.cpus > 1)
		another_vp();
	mmu_off();
}
