/* FP context: traps by CPACR_EL1 and lazy restoring, per VP state, FPCR and FPSR (Arm ARM D19.2.31, C5.2). */
#include "bare.h"

#define FPEN(n) ((u64)(n) << 20)

/* With the MMU off memory is Device: a pair of Q registers must be aligned. */
struct context {
	u64 v[64], fpcr, fpsr;
} __attribute__((aligned(16)));
static struct context mine, other, now;
static u8 user_stack[256] __attribute__((aligned(16)));

/* The compiler may not touch these registers: what is in them is only what these put there. */
static void load(const struct context *c)
{
	asm volatile("ldp q0, q1, [%0]\n ldp q2, q3, [%0, #32]\n ldp q4, q5, [%0, #64]\n ldp q6, q7, [%0, #96]\n"
		     "ldp q8, q9, [%0, #128]\n ldp q10, q11, [%0, #160]\n ldp q12, q13, [%0, #192]\n ldp q14, q15, [%0, #224]\n"
		     "ldp q16, q17, [%0, #256]\n ldp q18, q19, [%0, #288]\n ldp q20, q21, [%0, #320]\n ldp q22, q23, [%0, #352]\n"
		     "ldp q24, q25, [%0, #384]\n ldp q26, q27, [%0, #416]\n ldp q28, q29, [%0, #448]\n ldp q30, q31, [%0, #480]\n"
		     "ldr x9, [%0, #512]\n msr fpcr, x9\n ldr x9, [%0, #520]\n msr fpsr, x9" : : "r"(c) : "x9", "memory");
}
static void save(struct context *c)
{
	asm volatile("stp q0, q1, [%0]\n stp q2, q3, [%0, #32]\n stp q4, q5, [%0, #64]\n stp q6, q7, [%0, #96]\n"
		     "stp q8, q9, [%0, #128]\n stp q10, q11, [%0, #160]\n stp q12, q13, [%0, #192]\n stp q14, q15, [%0, #224]\n"
		     "stp q16, q17, [%0, #256]\n stp q18, q19, [%0, #288]\n stp q20, q21, [%0, #320]\n stp q22, q23, [%0, #352]\n"
		     "stp q24, q25, [%0, #384]\n stp q26, q27, [%0, #416]\n stp q28, q29, [%0, #448]\n stp q30, q31, [%0, #480]\n"
		     "mrs x9, fpcr\n str x9, [%0, #512]\n mrs x9, fpsr\n str x9, [%0, #520]" : : "r"(c) : "x9", "memory");
}
static bool equal(const struct context *a, const struct context *b)
{
	const u64 *p = (const u64 *)a, *q = (const u64 *)b;
	for (u32 i = 0; i < sizeof(*a) / 8; i++)
		if (p[i] != q[i])
			return false;
	return true;
}
static void fill(struct context *c, u64 seed)
{
	for (u64 i = 0; i < 64; i++)
		c->v[i] = (seed += 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;
	c->fpcr = seed & 3 << 22; /* rounding mode */
	c->fpsr = seed & 0x1f;
}
static void allow(u64 fpen)
{
	write_sysreg(cpacr_el1, (read_sysreg(cpacr_el1) & ~FPEN(3)) | FPEN(fpen));
	isb();
}

static u64 lazy_count;
static bool lazily(struct frame *f, u64 vector)
{
	(void)vector;
	if (EC(f->esr) != 7)
		return false;
	lazy_count++;
	allow(3);
	save(&other);
	load(&mine);
	return true; /* the instruction runs again */
}

USER_CODE(u_fmov, "fmov x0, d3");
USER_CODE(u_add, "fmov d0, x0\n fadd d0, d0, d0\n fmov x0, d0");

static void lazy(void)
{
	fill(&mine, 1);
	fill(&now, 2);
	allow(3);
	load(&now);
	allow(0);
	on_sync = lazily;
	u64 got;
	asm volatile("fmov %0, d3" : "=r"(got) : : "memory");
	on_sync = 0;
	check_eq(lazy_count, 1, "the first FP instruction traps");
	check_eq(got, mine.v[6], "and runs again with the context that the trap loaded");
	check(equal(&other, &now), "the context before it was whole");
	allow(1);
	asm volatile("fmov %0, d3" : "=r"(got) : : "memory");
	check_eq(got, mine.v[6], "FPEN = 1: EL1 may");
	struct trap t = TRAP_OF(run_el0(u_fmov, user_stack + 256, 0));
	check_eq(t.count << 40 | t.vector << 32 | t.esr, 1ull << 40 | 8ull << 32 | 0x1fe00000, "FPEN = 1: EL0 traps");
	allow(2);
	t = TRAP_OF(asm volatile("fmov x0, d3" : : : "x0"));
	check_eq(EC(t.esr), 7, "FPEN = 2: EL1 traps");
	allow(3);
	check_eq(run_el0(u_fmov, user_stack + 256, 0), mine.v[6], "FPEN = 3: EL0 may");
	check_eq(run_el0(u_add, user_stack + 256, 0x3ff8000000000000ull), 0x4008000000000000ull, "1.5 + 1.5");
}

static void status(void)
{
	u64 fpsr, r;
	asm volatile("msr fpcr, xzr\n msr fpsr, xzr\n fmov d0, #1.0\n fmov d1, xzr\n fdiv d2, d0, d1\n mrs %0, fpsr\n fmov %1, d2" : "=r"(fpsr), "=r"(r));
	check_eq(fpsr << 60 | r, 2ull << 60 | 0x7ff0000000000000ull, "1 / 0: infinity, DZC");
	asm volatile("fmov d1, #3.0\n fdiv d2, d0, d1\n mrs %0, fpsr\n fmov %1, d2" : "=r"(fpsr), "=r"(r));
	check_eq(fpsr << 56, 0x12ull << 56, "flags add up: IXC");
	asm volatile("msr fpcr, %1\n fdiv d2, d0, d1\n fmov %0, d2\n msr fpcr, xzr" : "=r"(fpsr) : "r"(1ull << 22));
	check_eq(fpsr - r, 1, "1 / 3 rounded up is one more");
	asm volatile("msr fpcr, %1\n mrs %0, fpcr\n msr fpcr, xzr" : "=r"(r) : "r"(0x07c00000ull));
	check_eq(r & 0x07c00000, 0x07c00000, "FPCR: AHP, DN, FZ, RMode");
}

static volatile u64 good[MAX_VPS];

static void hold(u64 vp)
{
	struct context c, d;
	allow(3);
	fill(&c, vp * 77 + 5);
	load(&c);
	u64 ok = 1;
	for (int i = 0; i < 50; i++) {
		for (int k = 0; k < 200; k++)
			asm volatile("yield");
		save(&d);
		ok &= equal(&c, &d);
	}
	good[vp] = ok;
}

static void of_every_vp(void)
{
	for (u32 vp = 1; vp < machine.cpus; vp++)
		start_vp(vp, hold);
	hold(0);
	u64 all = good[0];
	for (u32 vp = 1; vp < machine.cpus; vp++) {
		wait_off(vp);
		all &= good[vp];
	}
	check_eq(all, 1, "every VP keeps its own registers");
}

void main(void)
{
	lazy();
	status();
	of_every_vp();
}
