#include "bare.h"

struct machine machine;
struct trap traps[MAX_VPS];
void (*on_irq)(struct frame *);
bool (*on_sync)(struct frame *, u64 vector);
static u64 passed, failed;

void el0_back(void);
u64 psci_hvc(u64, u64, u64, u64);
u64 psci_smc(u64, u64, u64, u64);

/* What the compiler calls by itself. */
void *memcpy(void *to, const void *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((volatile u8 *)to)[i] = ((const u8 *)from)[i];
	return to;
}

void *memset(void *at, int value, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((volatile u8 *)at)[i] = (u8)value;
	return at;
}

/* --- console --- */

static void put(char c)
{
	while (read32(machine.uart + 0x18) & (1 << 5))
		;
	write32(machine.uart, (u8)c);
}

static void vprint(const char *f, va_list args)
{
	for (; *f; f++) {
		if (*f == '\n')
			put('\r');
		if (*f != '%') {
			put(*f);
			continue;
		}
		switch (*++f) {
		case 's':
			for (const char *s = va_arg(args, const char *); *s; s++)
				put(*s);
			break;
		case 'c':
			put((char)va_arg(args, int));
			break;
		case 'd':
		case 'x': {
			u64 v = va_arg(args, u64), base = *f == 'd' ? 10 : 16;
			char digits[20];
			int n = 0;
			do {
				digits[n++] = "0123456789abcdef"[v % base];
				v /= base;
			} while (v);
			while (n)
				put(digits[--n]);
		}
		}
	}
}

void print(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vprint(format, args);
	va_end(args);
}

static void tell(bool ok, const char *name, va_list args)
{
	print(ok ? "PASS: " : "FAIL: ");
	vprint(name, args);
	if (ok)
		passed++;
	else
		failed++;
}

void check(bool ok, const char *name, ...)
{
	va_list args;
	va_start(args, name);
	tell(ok, name, args);
	va_end(args);
	print("\n");
}

void check_eq(u64 got, u64 want, const char *name, ...)
{
	va_list args;
	va_start(args, name);
	tell(got == want, name, args);
	va_end(args);
	if (got != want)
		print(": 0x%x, not 0x%x", got, want);
	print("\n");
}

void skip(const char *name)
{
	print("SKIP: %s\n", name);
}

/* --- device tree: Devicetree Specification v0.4, chapter 5 --- */

static u32 be32(const void *p)
{
	const u8 *b = p;
	return (u32)b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
}

static u64 be64(const void *p)
{
	return (u64)be32(p) << 32 | be32((const u8 *)p + 4);
}

static bool same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static bool starts(const char *a, const char *prefix)
{
	while (*prefix && *a == *prefix)
		a++, prefix++;
	return !*prefix;
}

static bool in_list(const char *list, u32 size, const char *word)
{
	for (u32 at = 0; at < size;) {
		if (same(list + at, word))
			return true;
		while (list[at++])
			;
	}
	return false;
}

/* What has been seen of one node. */
struct node {
	const char *name, *compatible, *method, *type;
	u32 compatible_size;
	const u8 *reg, *interrupts;
};

static void seen(const struct node *n)
{
	if (n->type && same(n->type, "memory") && n->reg) {
		machine.ram = be64(n->reg);
		machine.ram_size = be64(n->reg + 8);
	}
	if (n->type && same(n->type, "cpu") && n->reg && machine.cpus < MAX_VPS)
		machine.mpidr[machine.cpus++] = be32(n->reg);
	if (!n->compatible)
		return;
	/* The first in memory order of several is the console in practice; ours says so by stdout-path as well. */
	if (in_list(n->compatible, n->compatible_size, "arm,pl011") && n->reg && !machine.uart)
		machine.uart = be64(n->reg);
	if (in_list(n->compatible, n->compatible_size, "arm,gic-v3") && n->reg) {
		machine.gicd = be64(n->reg);
		machine.gicr = be64(n->reg + 16);
	}
	if (in_list(n->compatible, n->compatible_size, "arm,psci-1.0") && n->method)
		machine.smc = same(n->method, "smc");
	if (in_list(n->compatible, n->compatible_size, "arm,armv8-timer") && n->interrupts) {
		machine.physical_timer = 16 + be32(n->interrupts + 16);
		machine.virtual_timer = 16 + be32(n->interrupts + 28);
	}
}

static void read_tree(const u8 *blob)
{
	const u8 *p = blob + be32(blob + 8);
	const char *strings = (const char *)blob + be32(blob + 12);
	struct node stack[8];
	int depth = -1;
	for (;;) {
		u32 token = be32(p);
		p += 4;
		if (token == 1) { /* begin */
			struct node *n = &stack[++depth];
			*n = (struct node){ .name = (const char *)p };
			u32 length = 0;
			while (p[length++])
				;
			p += (length + 3) & ~3u;
		} else if (token == 2) { /* end */
			seen(&stack[depth--]);
		} else if (token == 3) {
			u32 size = be32(p);
			const char *name = strings + be32(p + 4);
			const u8 *value = p + 8;
			struct node *n = &stack[depth];
			p += 8 + ((size + 3) & ~3u);
			if (same(name, "compatible"))
				n->compatible = (const char *)value, n->compatible_size = size;
			else if (same(name, "reg"))
				n->reg = value;
			else if (same(name, "interrupts"))
				n->interrupts = value;
			else if (same(name, "device_type"))
				n->type = (const char *)value;
			else if (same(name, "method"))
				n->method = (const char *)value;
			else if (same(name, "bootargs") && starts(n->name, "chosen"))
				machine.bootargs = (const char *)value;
		} else if (token == 9)
			return;
	}
}

/* --- exceptions --- */

static void give_up(const char *what, struct frame *f, u64 vector)
{
	print("FAIL: unexpected %s on VP %d: vector %d, ESR 0x%x, ELR 0x%x, FAR 0x%x\n", what, vp_index(), vector, f->esr, f->elr, f->far);
	psci(PSCI_SYSTEM_OFF, 0, 0, 0);
}

void bare_trap(struct frame *f, u64 vector)
{
	struct trap *t = trap_of_vp();
	if ((vector & 3) == IRQ) {
		if (on_irq)
			on_irq(f);
		else
			give_up("interrupt", f, vector);
		return;
	}
	if ((vector & 3) != SYNC) {
		give_up("exception", f, vector);
		return;
	}
	if (EC(f->esr) == 0x15 && (f->esr & 0xffff) == 0xe0) {
		f->elr = (u64)el0_back;
		f->spsr = 0x3c5 | (f->spsr & 0x1400000);
		return;
	}
	u64 count = t->count + 1;
	*t = (struct trap){ count, vector, f->esr, f->far, f->elr, f->spsr };
	if (count > 1000)
		give_up("flood of exceptions", f, vector);
	if (on_sync && on_sync(f, vector))
		return;
	switch (EC(f->esr)) {
	case 0x15: /* SVC: ELR is behind it */
		return;
	case 0x20:
	case 0x21: /* instruction abort, PC alignment, branch target: what was called returns */
	case 0x22:
	case 0x0d:
	case 0x0e:
		f->elr = f->x[30];
		f->spsr &= ~(1ull << 20 | 3ull << 10);
		return;
	default:
		f->elr += 4;
		f->spsr &= ~(3ull << 10);
	}
}

/* --- PSCI --- */

u64 psci(u64 function, u64 a, u64 b, u64 c)
{
	return machine.smc ? psci_smc(function, a, b, c) : psci_hvc(function, a, b, c);
}

static void (*vp_work[MAX_VPS])(u64);
/* Some machines still say "off" right after CPU_ON. */
static volatile bool vp_done[MAX_VPS];

void bare_secondary(u64 index)
{
	vp_work[index](index);
	vp_done[index] = true;
	psci(PSCI_CPU_OFF, 0, 0, 0);
}

void start_vp(u32 vp, void (*work)(u64))
{
	vp_work[vp] = work;
	vp_done[vp] = false;
	dsb();
	u64 status = psci(PSCI_CPU_ON, machine.mpidr[vp], (u64)secondary_entry, vp);
	if (status != 0)
		check_eq(status, 0, "CPU_ON of VP %d", (u64)vp);
}

void wait_off(u32 vp)
{
	while (!vp_done[vp] || psci(PSCI_AFFINITY_INFO, machine.mpidr[vp], 0, 0) != 1)
		asm volatile("yield");
}

/* --- memory --- */

u64 identity[512] __attribute__((aligned(4096)));

void mmu_on(void)
{
	const u64 GIB = 1ull << 30;
	for (u64 i = 0; i < 512; i++) {
		bool ram = (i + 1) * GIB > machine.ram && i * GIB < machine.ram + machine.ram_size;
		/* AF, inner shareable, EL1 only; devices are not executable. */
		identity[i] = i * GIB | 1 << 10 | 3 << 8 | 1 | (ram ? MAIR_NORMAL << 2 : MAIR_DEVICE << 2 | 3ull << 53);
	}
	dsb();
	write_sysreg(mair_el1, 0x4404ffull);
	/* T0SZ 25: 39 bits; 4 KiB granule, cacheable walks; nothing above; IPS as the machine has it, at most 48 bits. */
	u64 ips = read_sysreg(id_aa64mmfr0_el1) & 15;
	if (ips > 5)
		ips = 5;
	write_sysreg(tcr_el1, 25ull | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 25ull << 16 | 2ull << 30 | ips << 32);
	write_sysreg(ttbr0_el1, (u64)identity);
	isb();
	asm volatile("tlbi vmalle1; dsb sy; isb");
	write_sysreg(sctlr_el1, read_sysreg(sctlr_el1) | 1 | 1 << 2 | 1 << 12);
	isb();
}

void mmu_off(void)
{
	write_sysreg(sctlr_el1, read_sysreg(sctlr_el1) & ~(1ull | 1 << 2));
	isb();
	asm volatile("tlbi vmalle1; dsb sy; isb");
}

void bare_main(const u8 *tree)
{
	machine.bootargs = "";
	read_tree(tree);
	main();
	print("DONE: %d passed, %d failed\n", passed, failed);
	psci(PSCI_SYSTEM_OFF, 0, 0, 0);
	for (;;)
		wfi();
}
